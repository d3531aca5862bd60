// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package approver

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy"
)

// limited is a policy with quotas.
func limited(approval v1alpha1.Approval, quotas ...v1alpha1.Quota) *v1alpha1.CertificatePolicy {
	p := newPolicy(approval)
	p.Spec.Quotas = quotas
	return p
}

// numbered returns requests web-0, web-1 and so on, each with a UID of its own.
func numbered(t *testing.T, n int) []client.Object {
	t.Helper()
	var all []client.Object
	for i := range n {
		r := request(t, fmt.Sprint("web-", i), "a.example.com")
		r.UID = types.UID(r.Name)
		all = append(all, r)
	}
	return all
}

// approved turns a request into one that the policy of this test approved before.
func approved(r client.Object, at time.Time) client.Object {
	o := r.(*certificatesv1.CertificateSigningRequest)
	csr.SetCondition(o, certificatesv1.CertificateApproved, ReasonPermitted, policy.Decision{Verdict: policy.Permit, Policy: "clients"}.Message(), at)
	return o
}

func TestOverQuotaTheRequestWaits(t *testing.T) {
	w := newWorld(t, append(numbered(t, 3), limited(v1alpha1.ApprovalAutomatic, v1alpha1.Quota{Per: v1alpha1.PerPolicy, Requests: 2}))...)
	for _, name := range []string{"web-0", "web-1"} {
		if result, err := w.reconcile(t, name); err != nil || !result.IsZero() || !csr.IsApproved(w.stored(t, name)) {
			t.Fatalf("%s: result %v, error %v, want it approved", name, result, err)
		}
	}
	w.writes = nil
	for range 2 {
		result, err := w.reconcile(t, "web-2")
		if err != nil || result.RequeueAfter != 30*time.Minute {
			t.Fatalf("result %v, error %v, want to come again in 30m", result, err)
		}
	}
	if want := []string{"create Event"}; !slices.Equal(w.writes, want) {
		t.Errorf("writes %q, want %q: it is neither approved nor denied", w.writes, want)
	}
	e := w.events(t)[0]
	if e.Reason != ReasonQuota || !strings.Contains(e.Note, `CertificatePolicy "clients" approves at most 2 requests in 1h0m0s for each Policy`) ||
		!strings.Contains(e.Note, now.Add(30*time.Minute).Format(time.RFC3339)) {
		t.Errorf("event %s %q, want the quota and until when", e.Reason, e.Note)
	}
	if n := w.count(t, "certwright_approver_quota_waits_total", "clients", "Policy"); n != 2 {
		t.Errorf("%v waits counted, want 2", n)
	}
	w.clock.SetTime(now.Add(30 * time.Minute))
	if result, err := w.reconcile(t, "web-2"); err != nil || !result.IsZero() || !csr.IsApproved(w.stored(t, "web-2")) {
		t.Errorf("at its time: result %v, error %v, want it approved", result, err)
	}
}

// An approval that was not written costs nothing, and neither does one that is written twice because the cache lags behind.
func TestFailedWriteGivesTheTokenBack(t *testing.T) {
	w := newWorld(t, append(numbered(t, 2), limited(v1alpha1.ApprovalAutomatic, v1alpha1.Quota{Per: v1alpha1.PerPolicy, Requests: 2, MaxPending: 9}))...)
	stale := w.stored(t, "web-0")
	w.tamper = func(string, client.Object) error { return errors.New("connection refused") }
	for range 5 {
		if _, err := w.reconcile(t, "web-0"); err == nil {
			t.Fatal("no error")
		}
	}
	w.tamper = nil
	if _, err := w.reconcile(t, "web-0"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Reconcile(t.Context(), stale); err == nil {
		t.Fatal("a stale request was approved a second time")
	}
	if result, err := w.reconcile(t, "web-1"); err != nil || !result.IsZero() {
		t.Errorf("result %v, error %v, want the second token to be there", result, err)
	}
}

func TestMaxPendingCountsWhatIsNotIssued(t *testing.T) {
	requests := numbered(t, 4)
	approved(requests[0], now)
	approved(requests[1], now).(*certificatesv1.CertificateSigningRequest).Status.Certificate = []byte("-")
	person := requests[2].(*certificatesv1.CertificateSigningRequest)
	csr.SetCondition(person, certificatesv1.CertificateApproved, "KubectlApprove", "This CSR was approved by kubectl certificate approve.", now)
	w := newWorld(t, append(requests, limited(v1alpha1.ApprovalAutomatic, v1alpha1.Quota{Per: v1alpha1.PerNamespace, MaxPending: 1}))...)
	result, err := w.reconcile(t, "web-3")
	if err != nil || result.RequeueAfter != 10*time.Second || csr.IsApproved(w.stored(t, "web-3")) {
		t.Fatalf("result %v, error %v, want it to wait", result, err)
	}
	if e := w.events(t)[0]; e.Reason != ReasonQuota || !strings.Contains(e.Note, `at most 1 unfinished requests for each Namespace, and user "alice" has as many`) {
		t.Errorf("event %s %q", e.Reason, e.Note)
	}
	issued := w.stored(t, "web-0")
	issued.Status.Certificate = []byte("-")
	if err := w.Client.Status().Update(t.Context(), issued); err != nil {
		t.Fatal(err)
	}
	if _, err := w.reconcile(t, "web-3"); err != nil || !csr.IsApproved(w.stored(t, "web-3")) {
		t.Errorf("error %v, want it approved: only the policy's own approvals count", err)
	}
}

func TestRestartKeepsBucketsEmpty(t *testing.T) {
	requests := numbered(t, 3)
	approved(requests[0], now.Add(-time.Minute)).(*certificatesv1.CertificateSigningRequest).Status.Certificate = []byte("-")
	approved(requests[1], now.Add(-2*time.Minute))
	w := newWorld(t, append(requests, limited(v1alpha1.ApprovalAutomatic, v1alpha1.Quota{Per: v1alpha1.PerPolicy, Requests: 2}))...)
	if result, err := w.reconcile(t, "web-2"); err != nil || result.RequeueAfter < 25*time.Minute {
		t.Errorf("result %v, error %v, want to wait for what was approved before", result, err)
	}
}

func TestQuotaTroubleIsReturned(t *testing.T) {
	w := newWorld(t, append(numbered(t, 1), limited(v1alpha1.ApprovalAutomatic, v1alpha1.Quota{Per: v1alpha1.PerPolicy, Requests: 2}))...)
	object, down := w.stored(t, "web-0"), errors.New("connection refused")
	w.readErr = func(o runtime.Object) error {
		if sameType(o, &certificatesv1.CertificateSigningRequestList{}) {
			return down
		}
		return nil
	}
	if result, err := w.Reconcile(t.Context(), object); !errors.Is(err, down) || !result.IsZero() || len(w.writes) > 0 {
		t.Errorf("result %v, error %v, writes %q", result, err, w.writes)
	}
}

func TestLedger(t *testing.T) {
	requests := numbered(t, 2)
	approved(requests[0], now)
	w := newWorld(t, requests...)
	l := ledger{w.Client}
	for name, c := range map[string]struct {
		request string
		uid     types.UID
		want    bool
	}{
		"undecided":               {"web-1", "web-1", true},
		"approved":                {"web-0", "web-0", false},
		"gone":                    {"web-9", "web-9", false},
		"replaced under its name": {"web-1", "another", false},
	} {
		if got, err := l.Undecided(t.Context(), c.request, c.uid); got != c.want || err != nil {
			t.Errorf("%s: %t, %v", name, got, err)
		}
	}
	if got, err := l.Approvals(t.Context(), "other"); len(got) > 0 || err != nil {
		t.Errorf("another policy approved %v, %v", got, err)
	}
	if got, err := l.Unfinished(t.Context(), "clients"); len(got) != 1 || got[0].UID != "web-0" || !got[0].At.Equal(now) || got[0].Requester.Username != "alice" || err != nil {
		t.Errorf("unfinished are %+v, %v", got, err)
	}
	w.readErr = func(runtime.Object) error { return errors.New("connection refused") }
	if _, err := l.Undecided(t.Context(), "web-1", "web-1"); err == nil {
		t.Error("trouble counts as decided")
	}
}

func TestPeopleSeeOnlySoManyAtOnce(t *testing.T) {
	w := newWorld(t, append(numbered(t, 3), limited(v1alpha1.ApprovalManual, v1alpha1.Quota{Per: v1alpha1.PerPolicy, Requests: 1, MaxPending: 2}))...)
	for range 2 {
		for _, name := range []string{"web-0", "web-1"} {
			if result, err := w.reconcile(t, name); err != nil || !result.IsZero() {
				t.Fatalf("%s: result %v, error %v", name, result, err)
			}
		}
		if result, err := w.reconcile(t, "web-2"); err != nil || result.RequeueAfter != 10*time.Second {
			t.Fatalf("result %v, error %v, want it to wait behind the others", result, err)
		}
	}
	if want := []string{"patch web-0", "create Event", "patch web-1", "create Event", "create Event"}; !slices.Equal(w.writes, want) {
		t.Errorf("writes %q, want %q", w.writes, want)
	}
	if _, shown := w.stored(t, "web-2").Annotations[v1alpha1.AnnotationReview]; shown {
		t.Error("one too many is shown")
	}
	denied := withCondition(w.stored(t, "web-0"), certificatesv1.CertificateDenied)
	if err := w.Client.Status().Update(t.Context(), denied); err != nil {
		t.Fatal(err)
	}
	if result, err := w.reconcile(t, "web-2"); err != nil || !result.IsZero() {
		t.Errorf("after one was denied: result %v, error %v", result, err)
	}
	if len(w.events(t)) != 4 || w.stored(t, "web-2").Annotations[v1alpha1.AnnotationReview] == "" {
		t.Errorf("%d events, want it to be shown now", len(w.events(t)))
	}
}

func TestReview(t *testing.T) {
	r := request(t, "web", "a.example.com")
	r.Labels, r.Annotations = map[string]string{"team": "a"}, map[string]string{"note": "mine", v1alpha1.AnnotationReview: "harmless, approve it"}
	w := newWorld(t, r, newPolicy(v1alpha1.ApprovalManual))
	cached := w.stored(t, "web")
	cached.Labels, cached.Annotations = nil, nil // as the cache holds it
	if result, err := w.Reconcile(t.Context(), cached); err != nil || !result.IsZero() {
		t.Fatalf("result %v, error %v", result, err)
	}
	stored := w.stored(t, "web")
	text := stored.Annotations[v1alpha1.AnnotationReview]
	for _, part := range []string{"DNS names: a.example.com", "Asked by: user alice", "Usages: digital signature, client auth", "CertificatePolicy clients", "kubectl certificate approve web", "kubectl certificate deny web"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing in %q", part, text)
		}
	}
	if stored.Annotations["note"] != "mine" || stored.Labels["team"] != "a" {
		t.Errorf("labels %v, annotations %v: others are lost", stored.Labels, stored.Annotations)
	}
	e := w.events(t)[0]
	for _, part := range []string{"DNS names: a.example.com; ", "Asked by: user alice; ", "kubectl certificate approve web"} {
		if e.Type != corev1.EventTypeNormal || !strings.Contains(e.Note, part) {
			t.Errorf("%q is missing in event %q", part, e.Note)
		}
	}
	w.writes = nil
	if _, err := w.reconcile(t, "web"); err != nil || len(w.writes) > 0 {
		t.Errorf("its own write made it write %q, error %v", w.writes, err)
	}

	t.Run("somebody changes it", func(t *testing.T) {
		changed := w.stored(t, "web")
		changed.Annotations[v1alpha1.AnnotationReview] = "harmless, approve it"
		if err := w.Client.Update(t.Context(), changed); err != nil {
			t.Fatal(err)
		}
		if _, err := w.reconcile(t, "web"); err != nil || w.stored(t, "web").Annotations[v1alpha1.AnnotationReview] != text {
			t.Errorf("error %v, annotation %q", err, w.stored(t, "web").Annotations[v1alpha1.AnnotationReview])
		}
	})
	t.Run("a new approver finds it there", func(t *testing.T) {
		again := New(w.Config)
		w.writes = nil
		for range 2 {
			if _, err := again.Reconcile(t.Context(), w.stored(t, "web")); err != nil || len(w.writes) > 0 {
				t.Errorf("writes %q, error %v", w.writes, err)
			}
		}
	})
}

func TestReviewIsWrittenOnlyOnWhatWasJudged(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, w *world){
		"it changed": func(t *testing.T, w *world) {
			changed := w.stored(t, "web")
			changed.Labels = map[string]string{"a": "b"}
			if err := w.Client.Update(t.Context(), changed); err != nil {
				t.Fatal(err)
			}
		},
		"it is gone": func(t *testing.T, w *world) {
			if err := w.Client.Delete(t.Context(), w.stored(t, "web")); err != nil {
				t.Fatal(err)
			}
		},
		"another one took its name": func(t *testing.T, w *world) {
			if err := w.Client.Delete(t.Context(), w.stored(t, "web")); err != nil {
				t.Fatal(err)
			}
			planted := request(t, "web", "b.example.com")
			planted.UID = "uid-2"
			if err := w.Client.Create(t.Context(), planted); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, request(t, "web", "a.example.com"), newPolicy(v1alpha1.ApprovalManual))
			judged := w.stored(t, "web")
			change(t, w)
			w.writes = nil
			if _, err := w.Reconcile(t.Context(), judged); err != nil {
				t.Errorf("error %v: the newer version comes by itself", err)
			}
			if slices.Contains(w.writes, "patch web") {
				t.Errorf("writes %q", w.writes)
			}
		})
	}
}

func TestReviewTroubleIsReturned(t *testing.T) {
	w := newWorld(t, request(t, "web", "a.example.com"), newPolicy(v1alpha1.ApprovalManual))
	object, down := w.stored(t, "web"), errors.New("connection refused")
	w.readErr = func(o runtime.Object) error {
		if sameType(o, object) {
			return down
		}
		return nil
	}
	if _, err := w.Reconcile(t.Context(), object); !errors.Is(err, down) || len(w.writes) > 0 {
		t.Errorf("error %v, writes %q", err, w.writes)
	}
}

// A person may approve what no quota counts: those are for what is approved without one.
func TestQuotaOfRequestsDoesNotBindPeople(t *testing.T) {
	w := newWorld(t, append(numbered(t, 3), limited(v1alpha1.ApprovalManual, v1alpha1.Quota{Per: v1alpha1.PerPolicy, Requests: 1, Period: metav1.Duration{Duration: time.Hour}}))...)
	for i := range 3 {
		if result, err := w.reconcile(t, fmt.Sprint("web-", i)); err != nil || !result.IsZero() {
			t.Errorf("result %v, error %v", result, err)
		}
	}
}
