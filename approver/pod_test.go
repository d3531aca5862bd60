// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package approver

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/judge"
)

// says is a judge that always says the same.
type says struct {
	decision policy.Decision
	err      error
}

func (s says) Decide(context.Context, csr.Request) (policy.Decision, error) { return s.decision, s.err }

func (s says) Reconsider(ctx context.Context, req csr.Request) (policy.Decision, error) {
	return s.Decide(ctx, req)
}

// The owner of a pod reads on the pod why it has no certificate, once, and nothing that is none of their business.
func TestThePodIsToldWhatBecomesOfItsRequest(t *testing.T) {
	violations := []policy.Violation{{Field: "dnsNames[0]", Values: []string{`"a.example.com"`}, Allowed: "nothing"}}
	for name, c := range map[string]struct {
		judge  says
		reason string
		want   string
	}{
		"approved":          {says{decision: policy.Decision{Verdict: policy.Permit, Policy: "clients", Approval: v1alpha1.ApprovalAutomatic}}, "", ""},
		"denied":            {says{decision: policy.Decision{Verdict: policy.Deny, Denials: []policy.Denial{{Policy: "clients", Violations: violations}}}}, ReasonDenied, `"a.example.com"`},
		"waits for one":     {says{decision: policy.Decision{Verdict: policy.Permit, Policy: "clients", Approval: v1alpha1.ApprovalManual}}, ReasonManual, "It waits for a person"},
		"no policy":         {says{decision: policy.Decision{Verdict: policy.NoOpinion}}, ReasonNoPolicy, "until a CertificatePolicy selects it"},
		"something to wait": {says{err: &judge.WaitError{After: time.Second, Reason: "the pod has no address yet"}}, ReasonUndecidable, "the pod has no address yet"},
		"trouble":           {says{err: errors.New("reading from vault.internal")}, ReasonUndecidable, "for a reason that it did not give"},
		"an audit":          {says{decision: policy.Decision{Verdict: policy.Permit, Policy: "clients", Approval: v1alpha1.ApprovalAutomatic, Audits: []policy.Audit{{Policy: "new", Violations: violations}}}}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t, "web", "a.example.com")
			r.CreationTimestamp = metav1.NewTime(now.Add(-time.Hour))
			r.Spec.Username = "system:serviceaccount:shop:web"
			r.Spec.Extra = map[string]certificatesv1.ExtraValue{"authentication.kubernetes.io/pod-name": {"web-0"}, "authentication.kubernetes.io/pod-uid": {"uid-web-0"}}
			w := newWorld(t, r, newPolicy(v1alpha1.ApprovalAutomatic))
			w.Judge = c.judge
			for range 2 {
				_, err := w.reconcile(t, "web")
				if err != nil && !errors.Is(err, c.judge.err) {
					t.Fatal(err)
				}
			}
			var told []string
			for _, e := range w.events(t) {
				if e.Regarding.Kind != "Pod" {
					continue
				}
				told = append(told, e.Note)
				if e.Reason != c.reason || e.Namespace != "shop" || e.Regarding.Name != "web-0" || e.Regarding.UID != "uid-web-0" {
					t.Errorf("event %+v, want %s about the pod", e, c.reason)
				}
			}
			if c.want == "" && len(told) > 0 || c.want != "" && (len(told) != 1 || !strings.Contains(told[0], c.want) || !strings.HasPrefix(told[0], "CertificateSigningRequest web: ")) {
				t.Errorf("the pod is told %q, want %q once", told, c.want)
			}
			if strings.Contains(strings.Join(told, ""), "vault.internal") {
				t.Errorf("the pod is told of a server: %q", told)
			}
		})
	}
}
