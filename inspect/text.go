// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/certwright/certwright/terminal"
)

// text writes a report for people. All that others chose goes through terminal.Escape.
type text struct {
	strings.Builder
	colors terminal.Palette
	now    time.Time
	indent string
}

// WriteText writes the report for people, with times relative to now.
func (r *Report) WriteText(w io.Writer, colors terminal.Palette, now time.Time) error {
	t := &text{colors: colors, now: now}
	t.report(r)
	_, err := io.WriteString(w, t.String())
	return err
}

// WriteText writes the request for people, with times relative to now.
func (r *Request) WriteText(w io.Writer, colors terminal.Palette, now time.Time) error {
	t := &text{colors: colors, now: now}
	name := "request"
	if r.Name != "" {
		name = "certificatesigningrequest " + r.Name
	}
	t.heading(terminal.Escape(name))
	t.request(r)
	_, err := io.WriteString(w, t.String())
	return err
}

func (t *text) report(r *Report) {
	t.heading(terminal.Escape(r.Source))
	if r.Pod != nil {
		t.pod(r.Pod)
	}
	if r.Request != nil {
		t.request(r.Request)
	}
	for i, c := range r.Certificates {
		title := "certificate"
		if len(r.Certificates) > 1 {
			title = fmt.Sprintf("certificate %d of %d", i+1, len(r.Certificates))
		}
		t.under(title, func() { t.certificate(&c) })
	}
	if r.Trust != nil {
		t.trust(r.Trust)
	}
	if k := r.PrivateKey; k != nil {
		value := keyText(k.Key)
		switch {
		case k.Matches == nil:
		case *k.Matches:
			value += ", " + t.colors.Good("matches")
		default:
			value += ", " + t.colors.Bad("does not match")
		}
		t.row("private key", value)
	}
	for _, f := range r.Findings {
		paint := t.colors.Warn
		if f.Severity == Error {
			paint = t.colors.Bad
		}
		fmt.Fprintf(t, "%s%s %s\n", t.indent, paint(string(f.Severity)+":"), terminal.Escape(f.Message))
	}
	for i := range r.Requests {
		t.under("", func() { t.report(&r.Requests[i]) })
	}
}

func (t *text) heading(title string) {
	fmt.Fprintf(t, "%s%s\n", t.indent, t.colors.Strong(title))
	t.indent += "  "
}

// under writes what is nested one step deeper.
func (t *text) under(title string, write func()) {
	before := t.indent
	if title != "" {
		t.heading(title)
	}
	write()
	t.indent = before
}

// row writes a label and a value that is fit for a terminal already; nothing where the value is empty.
func (t *text) row(label, value string) {
	if value != "" {
		fmt.Fprintf(t, "%s%-13s %s\n", t.indent, label, value)
	}
}

func (t *text) list(label string, values []string) {
	t.row(label, strings.Join(terminal.EscapeAll(values), ", "))
}

func (t *text) names(dns, uris, ips, emails []string) {
	t.list("DNS names", dns)
	t.list("URIs", uris)
	t.list("IP addresses", ips)
	t.list("emails", emails)
}

func (t *text) certificate(c *Certificate) {
	t.row("subject", terminal.Escape(c.Subject))
	t.names(c.DNSNames, c.URIs, c.IPAddresses, c.EmailAddresses)
	t.list("usages", c.Usages)
	if c.IsCA {
		t.row("CA", "yes")
	}
	t.row("key", keyText(c.Key))
	issuer := terminal.Escape(c.Issuer)
	if c.SelfSigned {
		issuer = "itself"
	}
	t.row("issuer", issuer)
	t.row("serial", c.SerialNumber)
	t.row("SHA-256", c.Fingerprint)
	t.row("valid from", t.at(c.NotBefore))
	until := t.at(c.NotAfter)
	if t.now.After(c.NotAfter) {
		until = t.colors.Bad(until)
	} else {
		until = t.colors.Good(until)
	}
	t.row("valid until", until)
}

func (t *text) trust(trust *Trust) {
	switch {
	case trust.Verified:
		t.row("trust", t.colors.Good("verified")+" by "+terminal.Escape(trust.Bundle))
		t.row("", strings.Join(terminal.EscapeAll(trust.Path), " ← "))
	case trust.Bundle == "":
		t.row("trust", t.colors.Warn("not verified: ")+terminal.Escape(trust.Problem))
	default:
		t.row("trust", t.colors.Bad("not verified")+" by "+terminal.Escape(trust.Bundle))
	}
}

func (t *text) request(r *Request) {
	if r.Status != "" {
		status := terminal.Escape(r.Status)
		switch r.Status {
		case "Issued", "Approved":
			status = t.colors.Good(status)
		case "Denied", "Failed":
			status = t.colors.Bad(status)
		}
		if r.StatusMessage != "" {
			status += ": " + terminal.Escape(r.StatusMessage)
		}
		t.row("status", status)
	}
	if r.Created != nil {
		t.row("created", t.at(*r.Created))
	}
	if r.RenewFrom != nil {
		t.row("renewed from", t.at(*r.RenewFrom))
	}
	t.row("signer name", terminal.Escape(r.SignerName))
	t.row("asked by", terminal.Escape(r.RequestedBy))
	t.under("asks for", func() {
		t.row("subject", terminal.Escape(r.Subject))
		t.names(r.DNSNames, r.URIs, r.IPAddresses, r.EmailAddresses)
		t.list("usages", r.Usages)
		if r.IsCA {
			t.row("CA", t.colors.Warn("yes"))
		}
		if r.Key != nil {
			t.row("key", keyText(*r.Key))
		}
		t.row("duration", r.Duration)
	})
}

func (t *text) pod(p *Pod) {
	t.row("UID", p.UID)
	t.row("account", terminal.Escape(p.ServiceAccount))
	for _, key := range slices.Sorted(maps.Keys(p.Asked)) {
		t.row("annotation", terminal.Escape(key)+": "+terminal.Escape(p.Asked[key]))
	}
	t.row("brought by", string(p.Delivery))
	t.list("containers", p.Containers)
	if a := p.Agent; a != nil {
		kind := "init container, without renewal"
		if a.Renews {
			kind = "sidecar that renews"
		}
		state := t.colors.Warn(terminal.Escape(a.State))
		if a.Ready {
			state = t.colors.Good(terminal.Escape(a.State))
		}
		if a.Restarts > 0 {
			state += fmt.Sprintf(", %d restarts", a.Restarts)
		}
		t.row("agent", fmt.Sprintf("%s, %s (%s)", state, kind, terminal.Escape(a.Image)))
	}
}

// at writes a time and how far it is from now.
func (t *text) at(when time.Time) string {
	relative := duration.HumanDuration(t.now.Sub(when)) + " ago"
	if when.After(t.now) {
		relative = "in " + duration.HumanDuration(when.Sub(t.now))
	}
	return fmt.Sprintf("%s (%s)", when.UTC().Format(time.RFC3339), relative)
}

func keyText(k Key) string {
	if k.Algorithm == "Ed25519" || k.Size == 0 {
		return k.Algorithm
	}
	return fmt.Sprintf("%s %d", k.Algorithm, k.Size)
}
