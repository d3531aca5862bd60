// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// audit has a policy report what it would decide.
func audit(p *v1alpha1.CertificatePolicySpec) { p.Mode = v1alpha1.ModeAudit }

// A stricter policy in mode Audit counts what it would have permitted and denied, and changes no verdict.
func TestAuditModeReportsAndDecidesNothing(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	someone, other := s.person("someone", mayRequest), s.person("other", mayRequest)
	s.policy(forPeople(someone))
	stricter := s.policy(forPeople(someone, other), audit, func(p *v1alpha1.CertificatePolicySpec) { p.Allow.CommonNames = []string{"team-*"} })
	s.contains("the policy's condition", stricter.Status.Conditions[0].Message, "Audit")

	denied, permitted := s.request(someone, commonName("shop")), s.request(someone, commonName("team-shop"))
	s.issued(denied)
	s.issued(permitted)
	s.contains("the event", s.warned(denied, "AuditDenies"), stricter.Name, "commonNames", `"shop"`, "team-*", "Audit")
	events, err := eventsAbout(s.ctx, denied)
	s.must(err, "listing events")
	if len(events) != 1 || events[0].Type != corev1.EventTypeNormal {
		s.Errorf("the request that was permitted has these events: %+v", events)
	}
	// Whom no other policy selects gets no verdict from a policy in mode Audit, whatever it thinks.
	undecided := s.request(other, commonName("team-other"))
	s.warned(undecided, "NoPolicy")
	s.untouchedBut(undecided, "NoPolicy")

	s.until("the policy's counters", starting, func(ctx context.Context) error {
		if err := admin.Get(ctx, client.ObjectKeyFromObject(stricter), stricter); err != nil {
			return err
		}
		if a := stricter.Status.Audit; a == nil || a.Permitted != 2 || a.Denied != 1 || a.LastDenied == nil {
			return fmt.Errorf("they are %+v", a)
		}
		return nil
	})
	last := stricter.Status.Audit.LastDenied
	s.contains("the newest denial", last.Request+": "+last.Message, denied.Name, "commonNames", `"shop"`)

	// Once it is enforced it decides, and counts no more.
	s.change(stricter, func() { stricter.Spec.Mode = v1alpha1.ModeEnforce })
	s.policyIs(stricter, "True", "InForce")
	s.issued(undecided)
	if stricter.Status.Audit != nil {
		s.Errorf("a policy that is enforced counts: %+v", stricter.Status.Audit)
	}
}
