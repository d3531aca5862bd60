// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package approver

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy"
)

// stricter is a policy in mode Audit that allows one name only.
func stricter() *v1alpha1.CertificatePolicy {
	p := newPolicy(v1alpha1.ApprovalAutomatic)
	p.Name, p.UID, p.Spec.Mode, p.Spec.Allow.DNSNames = "stricter", "policy-2", v1alpha1.ModeAudit, []string{"a.example.com"}
	return p
}

func TestAuditReportsAndDecidesNothing(t *testing.T) {
	good, bad := request(t, "good", "a.example.com"), request(t, "bad", "b.example.com")
	good.UID, bad.UID = "uid-good", "uid-bad"
	w := newWorld(t, good, bad, newPolicy(v1alpha1.ApprovalAutomatic), stricter())
	for _, name := range []string{"good", "bad"} {
		stale := w.stored(t, name)
		for range 2 { // the second look, at a stale cache, counts nothing
			_, _ = w.Reconcile(t.Context(), stale)
		}
		if !csr.IsApproved(w.stored(t, name)) {
			t.Errorf("%s is not approved", name)
		}
	}
	if want := []string{"patch approval good", "patch approval good", "create Event", "patch approval bad", "patch approval bad"}; !slices.Equal(w.writes, want) {
		t.Errorf("writes %q, want %q", w.writes, want)
	}
	e := w.events(t)[0]
	if e.Reason != ReasonAuditDenies || e.Type != corev1.EventTypeNormal || e.Regarding.Name != "bad" {
		t.Errorf("event %s %s about %s", e.Type, e.Reason, e.Regarding.Name)
	}
	for _, text := range []string{`"stricter"`, "dnsNames", "b.example.com", "mode Audit"} {
		if !strings.Contains(e.Note, text) {
			t.Errorf("%q is missing in event %q", text, e.Note)
		}
	}
	for outcome, want := range map[string]float64{"Permit": 1, "Deny": 1} {
		if got := w.count(t, "certwright_policy_audits_total", "stricter", outcome); got != want {
			t.Errorf("%v counted for %s, want %v", got, outcome, want)
		}
	}
	status := w.Audits.Status(stricter())
	if status.Permitted != 1 || status.Denied != 1 || status.LastDenied == nil || status.LastDenied.Request != "bad" || !status.Since.Time.Equal(now) ||
		!status.LastDenied.Time.Time.Equal(now) || !strings.Contains(status.LastDenied.Message, "b.example.com") {
		t.Errorf("status %+v", status)
	}
}

// A request that nobody decides about is looked at again and again.
func TestAuditCountsEachRequestOnce(t *testing.T) {
	w := newWorld(t, request(t, "web", "b.example.com"), newPolicy(v1alpha1.ApprovalManual), stricter())
	for range 3 {
		if _, err := w.reconcile(t, "web"); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.Audits.Status(stricter()); got.Denied != 1 || got.Permitted != 0 {
		t.Errorf("status %+v, want one", got)
	}
	if n := len(w.events(t)); n != 2 {
		t.Errorf("%d events, want one for the audit and one for people", n)
	}
}

func record(a *Audits, uid string, violations ...policy.Violation) {
	o := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: uid, UID: types.UID(uid)}}
	a.Record(o, []policy.Audit{{Policy: "stricter", Violations: violations}})
}

func TestAuditCountersOfGenerations(t *testing.T) {
	w := newWorld(t)
	p := stricter()
	record(w.Audits, "before the policy was compiled here")
	if got := w.Audits.Status(p); got.Permitted != 1 {
		t.Errorf("got %+v, want what was counted before its first report", got)
	}
	w.clock.SetTime(now.Add(time.Minute))
	record(w.Audits, "a")
	record(w.Audits, "b", policy.Violation{Field: "usages"})
	if got := w.Audits.Status(p); got.Permitted != 2 || got.Denied != 1 {
		t.Errorf("got %+v", got)
	}
	for name, change := range map[string]func(){
		"a new generation":         func() { p.Generation++ },
		"made anew under its name": func() { p.UID = "policy-3" },
	} {
		change()
		got := w.Audits.Status(p)
		if got.Permitted+got.Denied != 0 || got.LastDenied != nil || !got.Since.Time.Equal(now.Add(time.Minute)) {
			t.Errorf("%s: got %+v, want it to start anew", name, got)
		}
	}
	w.clock.SetTime(now.Add(time.Hour))
	record(w.Audits, "a") // of a request that was counted for another generation
	if got := w.Audits.Status(p); got.Permitted != 1 {
		t.Errorf("got %+v, want 1", got)
	}
	p.Spec.Mode = v1alpha1.ModeEnforce
	if got := w.Audits.Status(p); got != nil || len(w.Audits.counts) > 0 {
		t.Errorf("got %+v of a policy that decides", got)
	}
}

func TestAuditMessageIsBounded(t *testing.T) {
	w := newWorld(t)
	record(w.Audits, "a", policy.Violation{Field: "dnsNames", Values: []string{strings.Repeat("é", 5000)}})
	if got := w.Audits.Status(stricter()).LastDenied.Message; len(got) > maxAudit+len("…") || len(got) < maxAudit/2 {
		t.Errorf("message of %d bytes", len(got))
	}
}

func TestAuditStatusIsWrittenOnceInAWhile(t *testing.T) {
	w := newWorld(t, stricter())
	policies := w.policies()
	get := func() *v1alpha1.CertificatePolicy {
		var p v1alpha1.CertificatePolicy
		if err := w.Client.Get(t.Context(), client.ObjectKey{Name: "stricter"}, &p); err != nil {
			t.Fatal(err)
		}
		return &p
	}
	reconcile := func(after time.Duration, writes int, permitted int64) {
		t.Helper()
		w.writes = nil
		w.clock.SetTime(now.Add(after))
		for range 3 {
			if result, err := policies.Reconcile(t.Context(), get()); err != nil || result.RequeueAfter != publishEvery {
				t.Fatalf("result %v, error %v, want to come again in %s", result, err, publishEvery)
			}
		}
		if got := get().Status.Audit; len(w.writes) != writes || got == nil || got.Permitted != permitted {
			t.Errorf("after %s: %d writes, want %d; status %+v, want %d permitted", after, len(w.writes), writes, got, permitted)
		}
	}
	reconcile(0, 1, 0)
	c := meta.FindStatusCondition(get().Status.Conditions, v1alpha1.ConditionReady)
	if c == nil || c.Status != metav1.ConditionTrue || !strings.Contains(c.Message, "decides nothing") {
		t.Errorf("condition %+v", c)
	}
	record(w.Audits, "a")
	reconcile(29*time.Second, 0, 0)
	reconcile(30*time.Second, 1, 1)
	reconcile(10*time.Minute, 0, 1) // nothing new
	for i := range 100 {
		record(w.Audits, fmt.Sprint("b", i))
	}
	reconcile(10*time.Minute+29*time.Second, 0, 1)
	reconcile(11*time.Minute, 1, 101)

	enforced := get()
	enforced.Spec.Mode = v1alpha1.ModeEnforce
	enforced.Generation++
	if err := w.Client.Update(t.Context(), enforced); err != nil {
		t.Fatal(err)
	}
	if result, err := policies.Reconcile(t.Context(), get()); err != nil || !result.IsZero() || get().Status.Audit != nil {
		t.Errorf("result %v, error %v, status %+v of a policy that decides", result, err, get().Status.Audit)
	}
}

func TestAuditsConcurrently(t *testing.T) {
	a := newWorld(t).Audits
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for i := range 100 {
				record(a, fmt.Sprint(i))
				a.Status(stricter())
			}
		})
	}
	group.Wait()
	if got := a.counts["stricter"].now.Permitted; got != 100 {
		t.Errorf("%d counted, want 100", got)
	}
}
