// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/rights"
	"github.com/certwright/certwright/terminal"
)

// Row is what is known of one CA.
type Row struct {
	Signer     string `json:"signer"`
	SignerName string `json:"signerName"`
	Backend    string `json:"backend"`
	// Kind of the backend, such as "managed CA".
	Kind string `json:"kind"`
	// Root and Issuer are SHA-256 fingerprints of the root, and of the CA certificate that signs.
	Root     string     `json:"root,omitempty"`
	Issuer   string     `json:"issuer,omitempty"`
	NotAfter *time.Time `json:"notAfter,omitempty"`
	// Rotation is the replacement of the root that is under way.
	Rotation *v1alpha1.Rotation `json:"rotation,omitempty"`
	// Asked names a replacement that a person asked for and that has not begun.
	Asked Kind `json:"asked,omitempty"`
	// Message says what is wrong with it.
	Message string `json:"message,omitempty"`

	words string
}

// Rows returns the CAs of the Signer of this name, or of all if it is empty.
func (r *Rotator) Rows(ctx context.Context, name string) ([]Row, error) {
	var signers []v1alpha1.Signer
	if name != "" {
		signer, err := r.Signer(ctx, name)
		if err != nil {
			return nil, err
		}
		signers = append(signers, *signer)
	} else {
		var list v1alpha1.SignerList
		right := rights.Right{Verb: "list", Group: v1alpha1.GroupVersion.Group, Resource: "signers"}
		if err := right.Explain("listing Signers", r.Client.List(ctx, &list)); err != nil {
			return nil, err
		}
		signers = list.Items
	}
	slices.SortFunc(signers, func(a, b v1alpha1.Signer) int { return strings.Compare(a.Name, b.Name) })
	rows := []Row{}
	for i := range signers {
		for _, b := range signers[i].Spec.Backends {
			ca, err := Choose(&signers[i], b.Name)
			if err != nil {
				return nil, err
			}
			rows = append(rows, ca.row())
		}
	}
	return rows, nil
}

func (c CA) row() Row {
	row := Row{
		Signer: c.Signer.Name, SignerName: c.Signer.Spec.SignerName, Backend: c.Backend.Name, Kind: KindOf(c.Backend),
		Root: c.Status.Root, Issuer: c.Status.Issuer, Rotation: c.Status.Rotation, Message: c.Status.Message, words: c.words(),
	}
	if c.Status.CANotAfter != nil {
		row.NotAfter = &c.Status.CANotAfter.Time
	}
	for _, kind := range []Kind{Intermediate, Root, Compromised} {
		if isManaged(c.Backend) && c.asked(kind) && (c.Status.Rotation == nil || kind == Compromised) {
			row.Asked = kind
		}
	}
	return row
}

// phase is a word or two on how far a replacement is.
func (r Row) phase() string {
	switch {
	case r.Asked != "":
		return "asked for"
	case r.Rotation != nil:
		return string(r.Rotation.Phase)
	}
	return "-"
}

// WriteTable writes a line for each CA, and one below for each replacement that is under way.
func WriteTable(w io.Writer, rows []Row, now time.Time) error {
	table := tabwriter.NewWriter(w, 0, 4, 3, ' ', 0)
	fmt.Fprintln(table, "SIGNER\tBACKEND\tKIND\tROOT\tSIGNS\tEXPIRES IN\tREPLACEMENT\tENDS IN")
	for _, r := range rows {
		expires, ends := "unknown", "-"
		if r.NotAfter != nil {
			expires = in(*r.NotAfter, now)
		}
		if r.Rotation != nil && r.Rotation.Until != nil {
			ends = in(r.Rotation.Until.Time, now)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Signer, r.Backend, r.Kind,
			cmp.Or(short(r.Root), "unknown"), cmp.Or(short(r.Issuer), "unknown"), expires, r.phase(), ends)
	}
	return table.Flush()
}

// WriteText writes all that is known of each CA.
func WriteText(w io.Writer, colors terminal.Palette, rows []Row) error {
	for i, r := range rows {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s\n", colors.Strong(fmt.Sprintf("Signer %s (%s), backend %s: %s", r.Signer, r.SignerName, r.Backend, r.Kind)))
		line := func(name, value string) {
			if value != "" {
				fmt.Fprintf(w, "  %-13s  %s\n", name, terminal.Escape(value))
			}
		}
		line("root", cmp.Or(r.Root, "unknown"))
		line("signs with", cmp.Or(r.Issuer, "unknown"))
		if r.NotAfter != nil {
			line("valid until", stamp(*r.NotAfter))
		}
		line("replacement", r.words)
		if r.Asked != "" {
			line("asked for", fmt.Sprintf("%s: has not begun", map[Kind]string{
				Root: "a new root", Intermediate: "a new intermediate", Compromised: "a new root at once, as this one is compromised",
			}[r.Asked]))
		}
		line("trouble", r.Message)
	}
	return nil
}

func in(t, now time.Time) string {
	if !t.After(now) {
		return "now"
	}
	return duration.HumanDuration(t.Sub(now))
}
