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
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

// only returns the one condition of the request.
func only(t *testing.T, r *certificatesv1.CertificateSigningRequest) certificatesv1.CertificateSigningRequestCondition {
	t.Helper()
	if len(r.Status.Conditions) != 1 {
		t.Fatalf("conditions %v, want one", r.Status.Conditions)
	}
	return r.Status.Conditions[0]
}

func TestPermittedIsApprovedInOneWriteWithoutEvent(t *testing.T) {
	w := newWorld(t, request(t, "web", "a.example.com"), newPolicy(v1alpha1.ApprovalAutomatic))
	result, err := w.reconcile(t, "web")
	if err != nil || !result.IsZero() {
		t.Fatalf("result %v, error %v", result, err)
	}
	if want := []string{"patch approval web"}; !slices.Equal(w.writes, want) {
		t.Errorf("writes %q, want %q", w.writes, want)
	}
	c := only(t, w.stored(t, "web"))
	if c.Type != certificatesv1.CertificateApproved || c.Status != corev1.ConditionTrue || c.Reason != ReasonPermitted ||
		!strings.Contains(c.Message, `"clients"`) || !c.LastUpdateTime.Time.Equal(now) {
		t.Errorf("condition %+v, want Approved by the policy", c)
	}
	if _, err := w.reconcile(t, "web"); err != nil || len(w.writes) != 1 {
		t.Errorf("a second look wrote again: %q, error %v", w.writes, err)
	}
}

func TestDeniedNamesEveryViolatedField(t *testing.T) {
	r := request(t, "web", "a.example.org", "b.example.org", "c.example.com")
	r.Spec.Usages = append(r.Spec.Usages, certificatesv1.UsageServerAuth)
	w := newWorld(t, r, newPolicy(v1alpha1.ApprovalAutomatic))
	result, err := w.reconcile(t, "web")
	if err != nil || !result.IsZero() {
		t.Fatalf("result %v, error %v", result, err)
	}
	if want := []string{"patch approval web", "create Event"}; !slices.Equal(w.writes, want) {
		t.Errorf("writes %q, want %q", w.writes, want)
	}
	c := only(t, w.stored(t, "web"))
	if c.Type != certificatesv1.CertificateDenied || c.Reason != ReasonDenied {
		t.Errorf("condition %+v, want Denied", c)
	}
	e := w.events(t)[0]
	if e.Type != corev1.EventTypeWarning || e.Reason != ReasonDenied {
		t.Errorf("event %s %s", e.Type, e.Reason)
	}
	for _, text := range []string{"dnsNames", "a.example.org", "b.example.org", "*.example.com", "usages", "server auth", `"clients"`} {
		if !strings.Contains(c.Message, text) || !strings.Contains(e.Note, text) {
			t.Errorf("%q is missing in condition %q or event %q", text, c.Message, e.Note)
		}
	}
	if strings.Contains(c.Message, "c.example.com") {
		t.Errorf("what is allowed is named as refused: %q", c.Message)
	}
}

func TestUnparsableIsDeniedWithTheParsersReason(t *testing.T) {
	for name, c := range map[string]struct {
		change func(r *certificatesv1.CertificateSigningRequest)
		reason string
	}{
		"no PEM": {func(r *certificatesv1.CertificateSigningRequest) { r.Spec.Request = []byte("nonsense") }, csr.ReasonPEMMissing},
		"a second PEM block": {func(r *certificatesv1.CertificateSigningRequest) {
			r.Spec.Request = slices.Concat(r.Spec.Request, r.Spec.Request)
		}, csr.ReasonPEMSecondBlock},
		"too large": {func(r *certificatesv1.CertificateSigningRequest) { r.Spec.Request = make([]byte, 1<<20) }, csr.ReasonRequestTooLarge},
		"no usages": {func(r *certificatesv1.CertificateSigningRequest) { r.Spec.Usages = nil }, csr.ReasonNoUsages},
		"requester that no policy selects": {func(r *certificatesv1.CertificateSigningRequest) {
			r.Spec.Username, r.Spec.Request = "mallory", []byte("nonsense")
		}, csr.ReasonPEMMissing},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t, "web", "a.example.com")
			c.change(r)
			w := newWorld(t, r, newPolicy(v1alpha1.ApprovalAutomatic))
			if _, err := w.reconcile(t, "web"); err != nil {
				t.Fatal(err)
			}
			if want := []string{"patch approval web", "create Event"}; !slices.Equal(w.writes, want) {
				t.Errorf("writes %q, want %q", w.writes, want)
			}
			condition, e := only(t, w.stored(t, "web")), w.events(t)[0]
			if condition.Type != certificatesv1.CertificateDenied || condition.Reason != c.reason || e.Reason != c.reason || e.Note != condition.Message {
				t.Errorf("condition %+v, event %s %q, want Denied for %s", condition, e.Reason, e.Note, c.reason)
			}
		})
	}
}

func TestManualWaitsForAPerson(t *testing.T) {
	for name, want := range map[string]string{
		"web":            "kubectl certificate approve web, or kubectl certificate deny web.",
		"Node-1_a.b:c":   "kubectl certificate approve Node-1_a.b:c, or kubectl certificate deny Node-1_a.b:c.",
		"x; rm -rf ~":    `where NAME is "x; rm -rf ~"`,
		"$(reboot)":      `where NAME is "$(reboot)"`,
		"--all":          `where NAME is "--all"`,
		"a\nkubectl":     `where NAME is "a\nkubectl"`,
		"web\u202etxt.x": `where NAME is "web\u202etxt.x"`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, request(t, name, "a.example.com"), newPolicy(v1alpha1.ApprovalManual))
			for range 2 {
				if result, err := w.reconcile(t, name); err != nil || !result.IsZero() {
					t.Fatalf("result %v, error %v", result, err)
				}
			}
			if want := []string{"patch " + name, "create Event"}; !slices.Equal(w.writes, want) {
				t.Errorf("writes %q, want %q", w.writes, want)
			}
			e := w.events(t)[0]
			if e.Type != corev1.EventTypeNormal || e.Reason != ReasonManual || !strings.Contains(e.Note, want) || !strings.Contains(e.Note, `"clients"`) {
				t.Errorf("event %s %s %q, want %q", e.Type, e.Reason, e.Note, want)
			}
			if strings.Contains(want, "NAME") && strings.Contains(e.Note, "approve "+name) {
				t.Errorf("a name that a shell acts on stands in a command: %q", e.Note)
			}
		})
	}
}

func TestNoPolicyLeavesTheRequestPending(t *testing.T) {
	r := request(t, "web", "a.example.com")
	r.Spec.Username = "mallory\n"
	w := newWorld(t, r, newPolicy(v1alpha1.ApprovalAutomatic))
	for range 2 {
		result, err := w.reconcile(t, "web")
		if err != nil || result.RequeueAfter != 5*time.Minute {
			t.Fatalf("result %v, error %v, want to look again in 5m", result, err)
		}
	}
	if want := []string{"create Event"}; !slices.Equal(w.writes, want) {
		t.Errorf("writes %q, want %q", w.writes, want)
	}
	e := w.events(t)[0]
	if e.Reason != ReasonNoPolicy || !strings.Contains(e.Note, `"mallory\n"`) || !strings.Contains(e.Note, signerName) {
		t.Errorf("event %s %q, want the requester and the signerName", e.Reason, e.Note)
	}
}

func TestTroubleIsNoVerdict(t *testing.T) {
	r := request(t, "web", "a.example.com")
	r.Spec.Username = "system:serviceaccount:shop:web"
	w := newWorld(t, r, newPolicy(v1alpha1.ApprovalAutomatic))
	object := w.stored(t, "web")
	down := errors.New("connection refused")
	w.readErr = func(o runtime.Object) error {
		if sameType(o, &corev1.Namespace{}) {
			return down
		}
		return nil
	}
	for range 3 {
		if _, err := w.Reconcile(t.Context(), object); !errors.Is(err, down) {
			t.Fatalf("error %v, want %v", err, down)
		}
	}
	if want := []string{"create Event"}; !slices.Equal(w.writes, want) {
		t.Errorf("writes %q, want %q", w.writes, want)
	}
	if e := w.events(t)[0]; e.Reason != ReasonUndecidable || !strings.Contains(e.Note, "connection refused") || !strings.Contains(e.Note, "tried again") {
		t.Errorf("event %s %q", e.Reason, e.Note)
	}
	if n := w.count(t, "certwright_approver_policy_evaluations_total"); n != 0 {
		t.Errorf("%v evaluations counted, want none", n)
	}
}

func TestMetricsCountDecisionsViolationsAndWrites(t *testing.T) {
	good, bad, none := request(t, "good", "a.example.com"), request(t, "bad", "a.example.org"), request(t, "none", "a.example.com")
	none.Spec.Username = "mallory"
	w := newWorld(t, good, bad, none, newPolicy(v1alpha1.ApprovalAutomatic))
	for _, name := range []string{"good", "bad", "none", "none"} {
		if _, err := w.reconcile(t, name); err != nil {
			t.Fatal(err)
		}
	}
	for metric, want := range map[string]map[string]float64{
		"certwright_approver_policy_evaluations_total": {"Permit": 1, "Deny": 1, "NoOpinion": 2},
		"certwright_approver_policy_violations_total":  {"dnsNames": 1},
		"certwright_approver_requests_total":           {"Approved": 1, "Denied": 1},
	} {
		for label, n := range want {
			if got := w.count(t, metric, label); got != n {
				t.Errorf("%s for %s is %v, want %v", metric, label, got, n)
			}
		}
	}
}

// count adds up a metric's series that have all of the label values.
func (w *world) count(t *testing.T, metric string, values ...string) float64 {
	t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var sum float64
	for _, family := range families {
		if family.GetName() != metric {
			continue
		}
		for _, series := range family.GetMetric() {
			var labels []string
			for _, l := range series.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			if !slices.ContainsFunc(values, func(v string) bool { return !slices.Contains(labels, v) }) {
				sum += series.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func sameType(a, b any) bool { return fmt.Sprintf("%T", a) == fmt.Sprintf("%T", b) }
