// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/certwright/certwright/fleet"
	"github.com/certwright/certwright/terminal"
)

// Defaults that the API server sets where a Signer leaves them out.
const (
	defaultPropagation = time.Hour
	defaultMaxDuration = 24 * time.Hour
)

// Announce writes what would happen: which CA, whom it reaches, what becomes of it when, and what is left for people to do.
func Announce(w io.Writer, colors terminal.Palette, c CA, kind Kind, radius Radius) error {
	fmt.Fprintf(w, "Signer %s (%s), backend %s\n", c.Signer.Name, c.Signer.Spec.SignerName, c.Backend.Name)
	fmt.Fprintf(w, "  root           %s\n", c.Status.Root)
	fmt.Fprintf(w, "  signs with     %s\n", c.Status.Issuer)
	if c.Status.CANotAfter != nil {
		fmt.Fprintf(w, "  valid until    %s\n", stamp(c.Status.CANotAfter.Time))
	}
	if err := radius.WriteText(w, colors); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%s\n", colors.Strong("What happens"))
	for i, step := range c.steps(kind, radius) {
		fmt.Fprintf(w, "  %d. %s\n", i+1, strings.ReplaceAll(step, "\n", "\n     "))
	}
	if kind == Compromised {
		return fleet.WriteRestarts(w, "For you to do, once the new root signs (--wait tells):", radius.unmoved())
	}
	if kind == Root {
		return fleet.WriteRestarts(w, "For you to do, in phase Signing, as these pods never learn of the new root by themselves:", radius.stale())
	}
	return nil
}

// steps say what happens, one after the other.
func (c CA) steps(kind Kind, radius Radius) []string {
	propagation, lifetime := c.Backend.CA.TrustPropagation.Duration, c.Signer.Spec.Limits.MaxDuration.Duration
	if propagation == 0 {
		propagation = defaultPropagation
	}
	if lifetime == 0 {
		lifetime = defaultMaxDuration
	}
	longest := "limits.maxDuration"
	if radius.Longest > lifetime {
		lifetime, longest = radius.Longest, "the longest that is known"
	}
	switch kind {
	case Intermediate:
		return []string{
			"At once: another intermediate of the same root signs, with a new key. Whoever trusts the root verifies what both signed.",
			"Nobody has to do anything. What the old one signed stays good until it expires.",
		}
	case Compromised:
		what := "a new root and a new intermediate sign"
		if isSecret(c.Backend) {
			what = "the CA that is in the Secret now signs"
		}
		return []string{
			"At once: " + what + ", and the old root leaves the trust bundle.\nNothing that was signed until now verifies for those who have the new bundle, and nothing that is signed from now\non for those who have the old one: within minutes, as kubelets bring it to the pods.",
			"Agents renew within seconds of the new bundle. Programs that read their files only when they start must be restarted.",
			"Kubelets renew in their own time and init containers never: those pods must be restarted.",
			"Whoever trusts the old root outside of pods must be given the new one.",
		}
	}
	return []string{
		fmt.Sprintf("Publishing, for %s from when it is published (trustPropagation): the new root is in the trust bundle, the old one signs.", fleet.Span(propagation)),
		fmt.Sprintf("Signing, for %s at least (%s; longer if longer ones were signed before): the new root signs, the old one\nis still trusted. Agents renew within this time. Whoever has only the old root still verifies what the new one signs.", fleet.Span(lifetime), longest),
		"Then the old root leaves the trust bundle. Programs that read their trust bundle only when they start must have been restarted.",
	}
}

// stamp writes a time for people and programs.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
