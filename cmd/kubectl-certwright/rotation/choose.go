// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rotation is where a person has the CA of a Signer replaced: it says what that reaches and what happens when, writes the word for
// the controller, and follows it through the phases.
package rotation

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/rights"
)

// Kind of a replacement.
type Kind string

// The kinds, each with the annotation of the Signer by which it is asked for.
const (
	// Root is replaced in phases that nobody notices.
	Root Kind = "root"
	// Intermediate is replaced below the same root.
	Intermediate Kind = "intermediate"
	// Compromised has the root replaced at once, and no longer trusted.
	Compromised Kind = "compromised"
)

var annotations = map[Kind]string{
	Root: v1alpha1.AnnotationRotateRoot, Intermediate: v1alpha1.AnnotationRotateIntermediate, Compromised: v1alpha1.AnnotationCompromisedRoot,
}

// Rotator acts with the rights of whoever runs it.
type Rotator struct {
	Client client.WithWatch
	Clock  clock.WithTicker
}

// CA is one backend of a Signer that signs with a CA.
type CA struct {
	Signer  *v1alpha1.Signer
	Backend v1alpha1.Backend
	Status  v1alpha1.BackendStatus
}

// Signer reads the Signer of this name.
func (r *Rotator) Signer(ctx context.Context, name string) (*v1alpha1.Signer, error) {
	signer := &v1alpha1.Signer{}
	err := r.Client.Get(ctx, client.ObjectKey{Name: name}, signer)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("there is no Signer %q: kubectl get signers shows those there are, by their names and not their signerNames", name)
	}
	return signer, rights.Right{Verb: "get", Group: v1alpha1.GroupVersion.Group, Resource: "signers"}.Explain("reading the Signer", err)
}

// Choose returns the CA that is meant: the backend of this name or, if it is empty, the only one with a managed CA.
func Choose(signer *v1alpha1.Signer, backend string) (CA, error) {
	var all, managed []string
	chosen := -1
	for i, b := range signer.Spec.Backends {
		all = append(all, b.Name)
		if isManaged(b) {
			managed = append(managed, b.Name)
		}
		if b.Name == backend || backend == "" && isManaged(b) {
			chosen = i
		}
	}
	switch {
	case backend != "" && chosen < 0:
		return CA{}, fmt.Errorf("--backend %q: Signer %s has no such backend, it has %s", backend, signer.Name, strings.Join(all, ", "))
	case backend == "" && len(managed) > 1:
		return CA{}, fmt.Errorf("Signer %s has several managed CAs: say which with --backend, one of %s", signer.Name, strings.Join(managed, ", ")) //nolint:revive,staticcheck // A kind's name.
	case chosen < 0:
		chosen = 0 // Check says what to do instead.
	}
	if len(signer.Spec.Backends) == 0 {
		return CA{}, fmt.Errorf("the Signer %s has no backend", signer.Name)
	}
	ca := CA{Signer: signer, Backend: signer.Spec.Backends[chosen]}
	if i := slices.IndexFunc(signer.Status.Backends, func(s v1alpha1.BackendStatus) bool { return s.Name == ca.Backend.Name }); i >= 0 {
		ca.Status = signer.Status.Backends[i]
	}
	return ca, nil
}

func isManaged(b v1alpha1.Backend) bool { return b.CA != nil && b.CA.Managed != nil }

func isSecret(b v1alpha1.Backend) bool { return b.CA != nil && b.CA.SecretRef != nil }

// notManaged says what is done instead where Certwright does not have the CA's key.
func notManaged(b v1alpha1.Backend) string {
	switch {
	case isSecret(b):
		return fmt.Sprintf("its CA is in the Secret %s: put another one there, and both are trusted while that is needed. If the old one is compromised, say so here then", b.CA.SecretRef.Name)
	case b.CA != nil && b.CA.Key != nil:
		return "its CA's key is outside Kubernetes: make another one there, and add its root to spec.trustBundle.additional before you name it in the Signer"
	}
	return "its CA is a server's (" + KindOf(b) + "): it is replaced there"
}

// KindOf names what a backend is, by the field of the Signer.
func KindOf(b v1alpha1.Backend) string {
	switch {
	case isManaged(b):
		return "managed CA"
	case isSecret(b):
		return "CA in Secret"
	case b.CA != nil:
		return "CA with key outside"
	case b.Vault != nil:
		return "vault"
	case b.ACME != nil:
		return "acme"
	case b.CFSSL != nil:
		return "cfssl"
	case b.Venafi != nil:
		return "venafi"
	}
	return "external"
}

// Check says why the CA cannot be replaced in this way now.
func (c CA) Check(kind Kind) error {
	where := fmt.Sprintf("backend %s of Signer %s", c.Backend.Name, c.Signer.Name)
	current := c.fingerprint(kind)
	switch rotation := c.Status.Rotation; {
	case isSecret(c.Backend) && kind == Compromised && rotation != nil: // the Secret has another one already
	case !isManaged(c.Backend):
		return fmt.Errorf("%s: not a CA that Certwright manages. %s", where, notManaged(c.Backend))
	case rotation != nil && kind == Root:
		return fmt.Errorf("%s: its root is being replaced already, in phase %s since %s: kubectl certwright ca status %s", where, rotation.Phase, stamp(rotation.Since.Time), c.Signer.Name)
	case current == "":
		return fmt.Errorf("%s: its CA is not known yet: is certwright-signer running, and what does kubectl describe signer %s say?", where, c.Signer.Name)
	case kind == Root && c.asked(Root), kind == Intermediate && c.asked(Intermediate), c.asked(Compromised):
		return fmt.Errorf("%s: that was asked for already and has not begun: is certwright-signer running, and what does kubectl describe signer %s say?", where, c.Signer.Name)
	}
	return nil
}

// fingerprint is that of the CA certificate that is to be replaced.
func (c CA) fingerprint(kind Kind) string {
	switch {
	case kind == Intermediate:
		return c.Status.Issuer
	case isSecret(c.Backend) && c.Status.Rotation != nil:
		return c.Status.Rotation.OldRoot
	}
	return c.Status.Root
}

// asked tells whether a person asked for this, and the controller has not followed yet.
func (c CA) asked(kind Kind) bool {
	word := c.fingerprint(kind)
	return word != "" && c.Signer.Annotations[annotations[kind]] == word
}

// Start writes the word for the controller. It names the certificate that was shown, so that it means nothing to any other.
func (r *Rotator) Start(ctx context.Context, c CA, kind Kind, options ...client.PatchOption) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": c.Signer.UID, "annotations": map[string]string{annotations[kind]: c.fingerprint(kind)},
	}})
	if err != nil {
		return err
	}
	signer := &v1alpha1.Signer{}
	signer.Name = c.Signer.Name
	err = r.Client.Patch(ctx, signer, client.RawPatch(types.MergePatchType, patch), options...)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return fmt.Errorf("the Signer %s was replaced since it was shown, so nothing was written: look again", c.Signer.Name)
	}
	right := rights.Right{Verb: "patch", Group: v1alpha1.GroupVersion.Group, Resource: "signers"}
	return right.Explain("annotating the Signer", err)
}
