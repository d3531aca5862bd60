// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/inspect"
	"github.com/certwright/certwright/terminal"
)

// maxCell bounds a column in characters, so that a request with many names leaves the table readable.
const maxCell = 60

// WriteTable writes a table of what waits. Headers are left out when rows follow earlier ones.
func WriteTable(w io.Writer, waiting []Waiting, headers bool, now time.Time) error {
	table := tabwriter.NewWriter(w, 0, 4, 3, ' ', 0)
	if headers {
		fmt.Fprintln(table, "NAME\tSIGNER\tREQUESTER\tASKS FOR\tWAITS FOR\tAGE\tDELETED IN")
	}
	for i := range waiting {
		item := &waiting[i]
		age := "<unknown>"
		if item.Request.Created != nil {
			age = duration.HumanDuration(now.Sub(*item.Request.Created))
		}
		left := "any moment"
		if d := item.DeletedAt.Sub(now); d > 0 {
			left = duration.HumanDuration(d)
		}
		// Names are for copying, so they are not cut.
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", terminal.Escape(item.Request.Name), cell(item.Request.SignerName),
			cell(item.Request.RequestedBy), cell(inWords(item.Request)), cell(item.For), age, left)
	}
	return table.Flush()
}

// WriteHint writes how to decide, if anything waits for a person. It names no request: whoever creates one chooses its name,
// and people copy such lines.
func WriteHint(w io.Writer, waiting []Waiting) error {
	if !slices.ContainsFunc(waiting, func(item Waiting) bool { return item.Approval == v1alpha1.ApprovalManual }) {
		return nil
	}
	_, err := fmt.Fprint(w, "\nTo decide, with a NAME from above:\n  kubectl certwright approve NAME\n  kubectl certwright deny NAME --reason \"…\"\n")
	return err
}

func cell(text string) string {
	escaped := []rune(terminal.Escape(text))
	if len(escaped) > maxCell {
		return string(escaped[:maxCell-1]) + "…"
	}
	return string(escaped)
}

// inWords says shortly what a request asks for.
func inWords(r *inspect.Request) string {
	if r.Refusal != "" {
		return "cannot be read: " + r.Refusal
	}
	var words []string
	if r.IsCA {
		words = append(words, "a CA certificate")
	}
	if r.Subject != "" {
		words = append(words, r.Subject)
	}
	for _, names := range [][]string{r.DNSNames, r.URIs, r.IPAddresses, r.EmailAddresses} {
		words = append(words, names...)
	}
	if len(words) == 0 {
		words = append(words, "no name")
	}
	return strings.Join(words, ", ") + " for " + strings.Join(r.Usages, ", ")
}
