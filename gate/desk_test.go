// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bufio"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

// writes counts what reaches the subresource approval, which the fake client does not know: there it goes to status.
type writes struct {
	count int
	err   error
	// before runs before the write, as somebody else's.
	before func(c client.Client)
}

func (w *writes) funcs() interceptor.Funcs {
	return interceptor.Funcs{SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, object client.Object, opts ...client.SubResourceUpdateOption) error {
		w.count++
		if sub != "approval" {
			return errors.New("unexpected write to " + sub)
		}
		if w.err != nil {
			return w.err
		}
		if w.before != nil {
			w.before(c)
		}
		return c.Status().Update(ctx, object, opts...)
	}}
}

func newDesk(t *testing.T, w *writes, answer string, objects ...client.Object) (*Desk, *strings.Builder) {
	t.Helper()
	out := &strings.Builder{}
	objects = append(objects, newPolicy("people", v1alpha1.ApprovalManual))
	return &Desk{Gate: newGate(t, w.funcs(), objects...), In: bufio.NewReader(strings.NewReader(answer)), Out: out, Ask: true}, out
}

func read(t *testing.T, d *Desk, name string) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	object := &certificatesv1.CertificateSigningRequest{}
	if err := d.Gate.Client.Get(t.Context(), client.ObjectKey{Name: name}, object); err != nil {
		t.Fatal(err)
	}
	return object
}

func TestApprove(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		group, answer   string
		yes, force, ask bool
		approved        bool
		err             string
		shown           string
	}{
		"yes":                      {"people", "y\n", false, false, true, true, "", "Approve web? [y/N]"},
		"yes in full":              {"people", "YES\n", false, false, true, true, "", "Permit: Permitted by CertificatePolicy \"people\""},
		"no":                       {"people", "n\n", false, false, true, false, "nothing was written", "asked by      user alice"},
		"only return":              {"people", "\n", false, false, true, false, "nothing was written", ""},
		"end of input":             {"people", "", false, false, true, false, "nothing was written", ""},
		"something else":           {"people", "yy\n", false, false, true, false, "nothing was written", ""},
		"no terminal":              {"people", "y\n", false, false, false, false, "say --yes", ""},
		"without being asked":      {"people", "", true, false, false, true, "", "web.example.com"},
		"no policy permits it":     {"strangers", "y\n", true, false, true, false, "no policy permits this", "NoOpinion"},
		"no policy, but forced":    {"strangers", "y\n", false, true, true, true, "", "warning: no policy permits this: the signer will refuse"},
		"forced, and then refused": {"strangers", "n\n", false, true, true, false, "nothing was written", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &writes{}
			d, out := newDesk(t, w, tc.answer, newRequest(t, "web", tc.group, time.Hour))
			d.Yes, d.Force, d.Ask = tc.yes, tc.force, tc.ask
			err := d.Approve(t.Context(), "web", "")
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("got %v, want %q", err, tc.err)
			}
			if got := csr.IsApproved(read(t, d, "web")); got != tc.approved || w.count != map[bool]int{true: 1}[tc.approved] {
				t.Errorf("approved: got %v with %d writes, want %v", got, w.count, tc.approved)
			}
			if !strings.Contains(out.String(), tc.shown) {
				t.Errorf("%q was not shown:\n%s", tc.shown, out)
			}
		})
	}
}

func TestDecisionsSayWhy(t *testing.T) {
	t.Parallel()
	d, out := newDesk(t, &writes{}, "", newRequest(t, "a", "people", time.Hour), newRequest(t, "b", "people", time.Hour), newRequest(t, "c", "strangers", time.Hour))
	d.Yes = true
	for _, err := range []error{d.Approve(t.Context(), "a", ""), d.Approve(t.Context(), "b", "new laptop"), d.Deny(t.Context(), "c", "who are you?")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string][3]string{
		"a": {"Approved", "ApprovedByPerson", "Approved by a person with kubectl certwright."},
		"b": {"Approved", "ApprovedByPerson", "new laptop"},
		"c": {"Denied", "DeniedByPerson", "who are you?"},
	} {
		c := read(t, d, name).Status.Conditions[0]
		if got := [3]string{string(c.Type), c.Reason, c.Message}; got != want || !c.LastUpdateTime.Time.Equal(now) {
			t.Errorf("%s: got %v at %s, want %v", name, got, c.LastUpdateTime, want)
		}
	}
	if !strings.Contains(out.String(), "a approved\n") || !strings.Contains(out.String(), "c denied\n") {
		t.Errorf("got %s", out)
	}
}

// A request that took the place of the one that was shown, or changed, must not be approved in its stead.
func TestDecisionIsBoundToWhatWasShown(t *testing.T) {
	t.Parallel()
	w := &writes{}
	d, _ := newDesk(t, w, "", newRequest(t, "web", "people", time.Hour))
	d.Yes = true
	w.before = func(c client.Client) {
		object := read(t, d, "web")
		object.Labels = map[string]string{"changed": "yes"}
		if err := c.Update(context.Background(), object); err != nil {
			t.Error(err)
		}
	}
	err := d.Approve(t.Context(), "web", "")
	if err == nil || !strings.Contains(err.Error(), "changed or went away since it was shown") {
		t.Errorf("got %v", err)
	}
	if csr.IsApproved(read(t, d, "web")) {
		t.Error("it was approved")
	}
}

func TestWhatIsNotDecided(t *testing.T) {
	t.Parallel()
	denied := newRequest(t, "denied", "people", time.Hour)
	csr.SetCondition(denied, certificatesv1.CertificateDenied, "x", "x", now)
	kubelet := newRequest(t, "kubelet", "people", time.Hour)
	kubelet.Spec.SignerName = "kubernetes.io/kubelet-serving"
	w := &writes{}
	d, _ := newDesk(t, w, "", denied, kubelet)
	d.Yes, d.Force = true, true
	for name, want := range map[string]string{"denied": "it is decided already: denied", "kubelet": "belongs to Kubernetes", "missing": "not found"} {
		for _, err := range []error{d.Approve(t.Context(), name, ""), d.Deny(t.Context(), name, "x")} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %q", name, err, want)
			}
		}
	}
	if w.count > 0 {
		t.Errorf("got %d writes", w.count)
	}
}

// Whoever may approve and not read policies is told so, and may go on: the signer asks the policies anyway.
func TestApproveWithoutPolicies(t *testing.T) {
	t.Parallel()
	w := &writes{}
	funcs := w.funcs()
	funcs.List = func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
		return errors.New("forbidden")
	}
	out := &strings.Builder{}
	d := &Desk{Gate: newGate(t, funcs, newRequest(t, "web", "people", time.Hour)), In: bufio.NewReader(strings.NewReader("y\n")), Out: out, Ask: true}
	if err := d.Approve(t.Context(), "web", ""); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "policies cannot be asked") || !strings.Contains(out.String(), "web.example.com") || !csr.IsApproved(read(t, d, "web")) {
		t.Errorf("got %s", out)
	}
}

func TestTroubleWithTheWriteIsTold(t *testing.T) {
	t.Parallel()
	trouble := errors.New("trouble")
	d, out := newDesk(t, &writes{err: trouble}, "", newRequest(t, "web", "people", time.Hour))
	d.Yes = true
	if err := d.Approve(t.Context(), "web", ""); !errors.Is(err, trouble) || strings.Contains(out.String(), "web approved") {
		t.Errorf("got %v and %s", err, out)
	}
}

// deaf is where nothing can be shown.
type deaf struct{}

func (deaf) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestWhatCannotBeShownIsNotDecided(t *testing.T) {
	t.Parallel()
	for name, decide := range map[string]func(*Desk) error{
		"approve": func(d *Desk) error { return d.Approve(t.Context(), "web", "") },
		"deny":    func(d *Desk) error { return d.Deny(t.Context(), "web", "no") },
	} {
		t.Run(name, func(t *testing.T) {
			w := &writes{}
			d, _ := newDesk(t, w, "", newRequest(t, "web", "people", time.Minute))
			d.Out, d.Yes = deaf{}, true
			if err := decide(d); err == nil || !strings.Contains(err.Error(), "broken pipe") || w.count > 0 {
				t.Errorf("error %v, %d writes", err, w.count)
			}
		})
	}
}
