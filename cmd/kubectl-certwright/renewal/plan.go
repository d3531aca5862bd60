// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package renewal

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/certwright/certwright/fleet"
	"github.com/certwright/certwright/inspect"
	"github.com/certwright/certwright/rights"
	"github.com/certwright/certwright/terminal"
)

// Plan is what becomes of the pods of a selection.
type Plan struct {
	Steps []Step
	// Problem says why it is not known when kubelets renew; nil if it is.
	Problem error
}

// Step is what becomes of one of them.
type Step struct {
	fleet.Member
	// RefreshAt is when its kubelet begins to ask for a new certificate; zero if that is not known.
	RefreshAt time.Time
}

// Plan says what becomes of these members.
func (r *Renewer) Plan(ctx context.Context, members []fleet.Member) Plan {
	var p Plan
	refresh := map[string]map[member]time.Time{} // by namespace
	for _, m := range members {
		step := Step{Member: m}
		if m.Delivery == fleet.Kubelet && p.Problem == nil {
			if refresh[m.Namespace] == nil {
				refresh[m.Namespace], p.Problem = r.refreshTimes(ctx, m.Namespace)
			}
			step.RefreshAt = refresh[m.Namespace][member{m.UID, m.SignerName}]
		}
		p.Steps = append(p.Steps, step)
	}
	return p
}

// member is what a PodCertificateRequest says of who has its certificate.
type member struct {
	pod        types.UID
	signerName string
}

// refreshTimes reads when kubelets renew in a namespace from the requests that Kubernetes still keeps. Later requests of the same pod count.
func (r *Renewer) refreshTimes(ctx context.Context, namespace string) (map[member]time.Time, error) {
	requests, err := inspect.PodCertificateRequests(ctx, r.Client, namespace)
	times := map[member]time.Time{}
	for i := range requests {
		o := &requests[i]
		if of := (member{o.Spec.PodUID, o.Spec.SignerName}); o.Status.BeginRefreshAt != nil && o.Status.BeginRefreshAt.After(times[of]) {
			times[of] = o.Status.BeginRefreshAt.Time
		}
	}
	right := rights.Right{Verb: "list", Group: certificatesv1.GroupName, Resource: "podcertificaterequests", Namespace: namespace}
	return times, right.Explain("listing podcertificaterequests", err)
}

// Told are the steps whose agents are told to renew.
func (p Plan) Told() []Step {
	return slices.DeleteFunc(slices.Clone(p.Steps), func(s Step) bool { return !s.Listens })
}

// Untold are the members that only get a new certificate now if they are made anew.
func (p Plan) Untold() []fleet.Member {
	var members []fleet.Member
	for _, s := range p.Steps {
		if !s.Listens {
			members = append(members, s.Member)
		}
	}
	return members
}

// words say what happens.
func (s Step) words(now time.Time) string {
	switch {
	case s.Listens:
		return "renews within a minute"
	case s.Delivery == fleet.Agent:
		return "cannot be told: its agent is older than that, and renews in its own time"
	case s.Delivery == fleet.Init:
		return "is never renewed"
	case s.RefreshAt.IsZero():
		return fmt.Sprintf("its kubelet renews in its own time, within %s", fleet.Span(s.MaxLifetime))
	case s.RefreshAt.After(now):
		return fmt.Sprintf("its kubelet renews from %s on (in %s)", s.RefreshAt.UTC().Format(time.RFC3339), duration.HumanDuration(s.RefreshAt.Sub(now)))
	}
	return "its kubelet is renewing it"
}

// WriteText writes what happens to each pod, and how to have the others renewed.
func (p Plan) WriteText(w io.Writer, colors terminal.Palette, now time.Time) error {
	table := tabwriter.NewWriter(w, 0, 4, 3, ' ', 0)
	fmt.Fprintln(table, "NAMESPACE\tPOD\tSIGNER\tDELIVERY\tITS CERTIFICATE")
	for _, s := range p.Steps {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", s.Namespace, s.Name, terminal.Escape(s.SignerName), s.Delivery, s.words(now))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if p.Problem != nil {
		fmt.Fprintf(w, "\n%s when kubelets renew is not known: %s\n", colors.Warn("note:"), terminal.Escape(p.Problem.Error()))
	}
	return fleet.WriteRestarts(w, "Restarts have the others renewed as well:", p.Untold())
}
