// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/fleet"
	"github.com/certwright/certwright/inspect"
	"github.com/certwright/certwright/rights"
	"github.com/certwright/certwright/terminal"
)

// Radius is whom the replacement of a CA reaches.
type Radius struct {
	Members []fleet.Member
	// Live certificates are those that Kubernetes still keeps the request of, and that are valid.
	Live int
	// Longest lifetime among those.
	Longest time.Duration
	// Problems say what could not be read.
	Problems []error
}

// Radius finds the pods of a signerName and its certificates. What cannot be read is told and left out.
func (r *Rotator) Radius(ctx context.Context, signerName string) Radius {
	var radius Radius
	members, err := fleet.List(ctx, r.Client, "")
	if err != nil {
		radius.Problems = append(radius.Problems, err)
	}
	radius.Members = slices.DeleteFunc(members, func(m fleet.Member) bool { return m.SignerName != signerName })

	var requests certificatesv1.CertificateSigningRequestList
	right := rights.Right{Verb: "list", Group: certificatesv1.GroupName, Resource: "certificatesigningrequests"}
	if err := right.Explain("listing certificatesigningrequests", r.Client.List(ctx, &requests)); err != nil {
		radius.Problems = append(radius.Problems, err)
	}
	now := r.Clock.Now()
	for _, o := range requests.Items {
		if leaf := firstCertificate(o.Status.Certificate); o.Spec.SignerName == signerName && leaf != nil {
			radius.add(leaf.NotBefore, leaf.NotAfter, now)
		}
	}
	if err := r.addPodRequests(ctx, &radius, signerName, now); err != nil {
		radius.Problems = append(radius.Problems, err)
	}
	return radius
}

func (r *Radius) add(notBefore, notAfter, now time.Time) {
	if notAfter.After(now) {
		r.Live++
		r.Longest = max(r.Longest, notAfter.Sub(notBefore))
	}
}

// addPodRequests adds the certificates that kubelets asked for.
func (r *Rotator) addPodRequests(ctx context.Context, radius *Radius, signerName string, now time.Time) error {
	requests, err := inspect.PodCertificateRequests(ctx, r.Client, "")
	for i := range requests {
		if s := &requests[i].Status; requests[i].Spec.SignerName == signerName && s.NotBefore != nil && s.NotAfter != nil {
			radius.add(s.NotBefore.Time, s.NotAfter.Time, now)
		}
	}
	right := rights.Right{Verb: "list", Group: certificatesv1.GroupName, Resource: "podcertificaterequests"}
	return right.Explain("listing podcertificaterequests", err)
}

func firstCertificate(text []byte) *x509.Certificate {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return leaf
}

// stale are the members that keep what they have until they are made anew.
func (r Radius) stale() []fleet.Member {
	return slices.DeleteFunc(slices.Clone(r.Members), func(m fleet.Member) bool { return m.Delivery != fleet.Init })
}

// unmoved are the members that do not take part in an emergency by themselves: those that keep what they have, and those whose kubelet renews in
// its own time.
func (r Radius) unmoved() []fleet.Member {
	return slices.DeleteFunc(slices.Clone(r.Members), func(m fleet.Member) bool {
		return m.Delivery == fleet.Agent || m.Delivery == fleet.Kubelet && m.TrustOnly
	})
}

// columns of the table of members.
var columns = []string{string(fleet.Agent), string(fleet.Kubelet), string(fleet.Init), "only verify"}

func column(m fleet.Member) string {
	if m.TrustOnly {
		return "only verify"
	}
	return string(m.Delivery)
}

// WriteText writes how many pods there are in each namespace, by what brings them their certificates.
func (r Radius) WriteText(w io.Writer, colors terminal.Palette) error {
	counts := map[string]map[string]int{}
	for _, m := range r.Members {
		if counts[m.Namespace] == nil {
			counts[m.Namespace] = map[string]int{}
		}
		counts[m.Namespace][column(m)]++
	}
	fmt.Fprintf(w, "\n%s\n", colors.Strong("Whom it reaches"))
	table := tabwriter.NewWriter(w, 0, 4, 3, ' ', 0)
	if len(counts) > 0 {
		fmt.Fprintln(table, "  NAMESPACE\tAGENT\tKUBELET\tINIT\tONLY VERIFY")
	}
	for _, namespace := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(table, "  %s", namespace)
		for _, c := range columns {
			fmt.Fprintf(table, "\t%d", counts[namespace][c])
		}
		fmt.Fprintln(table)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(counts) == 0 && len(r.Problems) == 0 {
		fmt.Fprintln(w, "  no pods")
	}
	fmt.Fprintf(w, "  %d live certificates are known%s. There may be more, as Kubernetes keeps requests for an\n", r.Live, r.longest())
	fmt.Fprintln(w, "  hour and those of kubelets for a quarter of one; and whoever has or verifies some outside of pods is not known here.")
	for _, problem := range r.Problems {
		fmt.Fprintf(w, "  %s %s\n", colors.Warn("not known:"), terminal.Escape(problem.Error()))
	}
	return nil
}

func (r Radius) longest() string {
	if r.Longest == 0 {
		return ""
	}
	return ", the longest of them valid for " + fleet.Span(r.Longest)
}
