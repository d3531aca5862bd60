// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gate is where a person decides about certificate requests: it shows what waits, says what policies think of it,
// and writes the decision, bound to the very request that was shown.
package gate

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/inspect"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/explanation"
)

const (
	// pendingLifetime is how long Kubernetes keeps a request that nobody decided about
	// (k8s.io/kubernetes/pkg/controller/certificates/cleaner).
	pendingLifetime = 24 * time.Hour
	// patience is how long a request that the approver decides about is not shown: it takes less than that, and nobody is
	// needed.
	patience = time.Minute
	// rewatch is how long to wait before a watch that ended is begun again.
	rewatch = time.Second
)

// Gate reads and decides with the rights of whoever runs it.
type Gate struct {
	Client client.WithWatch
	// Installation says what policies think.
	Installation *explanation.Installation
	Clock        clock.WithTicker
}

// Waiting is a request that nobody has decided about.
type Waiting struct {
	Request *inspect.Request `json:"request"`
	// For says what the request waits for.
	For string `json:"waitsFor"`
	// Verdict is what the policies say now; empty if they cannot be asked.
	Verdict string `json:"verdict,omitempty"`
	// Policy that permits the request.
	Policy string `json:"policy,omitempty"`
	// Approval says who approves what is permitted.
	Approval v1alpha1.Approval `json:"approval,omitempty"`
	// Review is what the approver wrote into the annotation certwright.dev/review. Anyone who may write the request may change
	// it, so it is only ever shown.
	Review string `json:"review,omitempty"`
	// DeletedAt is when Kubernetes may delete the request.
	DeletedAt time.Time `json:"deletedAt"`

	version string
	shown   bool
}

// Pending returns the requests that nobody has decided about, the oldest first, without those that the approver is about to
// decide about; only those for one signerName unless that is empty. The problem, if any, says why policies could not be asked.
func (g *Gate) Pending(ctx context.Context, signerName string) (waiting []Waiting, problem string, err error) {
	waiting, problem, _, err = g.list(ctx, signerName)
	return waiting, problem, err
}

func (g *Gate) list(ctx context.Context, signerName string) (waiting []Waiting, problem, version string, err error) {
	var list certificatesv1.CertificateSigningRequestList
	if err := g.Client.List(ctx, &list, bySigner(signerName)...); err != nil {
		return nil, "", "", fmt.Errorf("listing certificatesigningrequests: %w", err)
	}
	asker := g.asker(ctx)
	for i := range list.Items {
		if !csr.IsUndecided(&list.Items[i]) {
			continue
		}
		if w := asker.waiting(ctx, &list.Items[i]); w.shown {
			waiting = append(waiting, w)
		}
	}
	slices.SortFunc(waiting, func(a, b Waiting) int {
		return cmp.Or(a.DeletedAt.Compare(b.DeletedAt), strings.Compare(a.Request.Name, b.Request.Name))
	})
	return waiting, asker.problem, list.ResourceVersion, nil
}

// Watch calls show with those that wait and then with each that comes, until the context ends. A watch that breaks is begun
// again; nothing is shown twice unless it changed.
func (g *Gate) Watch(ctx context.Context, signerName string, show func(waiting []Waiting, problem string) error) error {
	shown := map[string]string{}
	for {
		waiting, problem, version, err := g.list(ctx, signerName)
		if err != nil {
			return err
		}
		fresh := slices.DeleteFunc(waiting, func(w Waiting) bool { return shown[w.Request.Name] == w.version })
		for _, w := range fresh {
			shown[w.Request.Name] = w.version
		}
		if len(fresh) > 0 {
			if err := show(fresh, problem); err != nil {
				return err
			}
		}
		if err := g.follow(ctx, signerName, version, shown, show); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-g.Clock.After(rewatch):
		}
	}
}

// follow shows what comes until the watch ends.
func (g *Gate) follow(ctx context.Context, signerName, version string, shown map[string]string, show func(waiting []Waiting, problem string) error) error {
	options := append(bySigner(signerName), &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: version}})
	w, err := g.Client.Watch(ctx, &certificatesv1.CertificateSigningRequestList{}, options...)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("watching certificatesigningrequests: %w", err)
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, open := <-w.ResultChan():
			if !open || e.Type == watch.Error {
				return nil
			}
			object, ok := e.Object.(*certificatesv1.CertificateSigningRequest)
			if !ok || e.Type == watch.Deleted || !csr.IsUndecided(object) || shown[object.Name] == versionOf(object) {
				continue
			}
			asker := g.asker(ctx)
			waiting := asker.waiting(ctx, object)
			if !waiting.shown {
				continue
			}
			shown[object.Name] = waiting.version
			if err := show([]Waiting{waiting}, asker.problem); err != nil {
				return err
			}
		}
	}
}

func bySigner(signerName string) []client.ListOption {
	if signerName == "" {
		return nil
	}
	return []client.ListOption{client.MatchingFields{"spec.signerName": signerName}}
}

// versionOf tells whether a request has to be shown again: it is another one of this name, or has another review.
func versionOf(object *certificatesv1.CertificateSigningRequest) string {
	return string(object.UID) + " " + object.Annotations[v1alpha1.AnnotationReview]
}

// asker asks the policies, which it lists once for several requests.
type asker struct {
	gate     *Gate
	policies []*policy.Policy
	unknown  bool   // the policies cannot be read
	problem  string // what went wrong last
}

func (g *Gate) asker(ctx context.Context) *asker {
	a := &asker{gate: g}
	var err error
	if a.policies, _, err = g.Installation.Policies(ctx); err != nil {
		a.unknown, a.problem = true, err.Error()
	}
	return a
}

func (a *asker) waiting(ctx context.Context, object *certificatesv1.CertificateSigningRequest) Waiting {
	w := Waiting{
		Request:   inspect.NewRequest(object),
		Review:    object.Annotations[v1alpha1.AnnotationReview],
		DeletedAt: object.CreationTimestamp.Add(pendingLifetime).UTC(),
		For:       "unknown",
		version:   versionOf(object),
		shown:     true,
	}
	if csr.IsKubernetesSigner(object.Spec.SignerName) {
		w.For = "Kubernetes' own approver, or kubectl certificate approve"
		return w
	}
	if a.unknown {
		return w
	}
	var notes []string // assumptions and broken policies are for explain to tell
	e, err := explanation.New(object, a.gate.Installation.Facts(ctx, &notes), a.policies)
	if err != nil {
		a.problem = err.Error()
		return w
	}
	w.Verdict, w.Policy, w.Approval = e.Verdict, e.Policy, e.Approval
	manual := e.Approval == v1alpha1.ApprovalManual
	w.shown = e.Decided() == policy.NoOpinion || manual || a.gate.Clock.Since(object.CreationTimestamp.Time) > patience
	switch {
	case e.Decided() == policy.NoOpinion:
		w.For = "a policy that selects it"
	case e.Decided() == policy.Deny:
		w.For = "the approver, to be denied"
	case manual:
		w.For = "a person (policy " + e.Policy + ")"
	case len(e.Quotas) > 0:
		w.For = "the approver (policy " + e.Policy + ", which has a quota)"
	default:
		w.For = "the approver (policy " + e.Policy + ")"
	}
	return w
}
