// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/internal/example"
	"github.com/certwright/certwright/signer/member"
	"github.com/certwright/certwright/signer/registry"
)

func TestReadySigner(t *testing.T) {
	w := newWatcher(t, example.Signer("first", "second"))
	late, early := example.Now.Add(48*time.Hour), example.Now.Add(24*time.Hour+500*time.Millisecond)
	w.backends["first"], w.backends["second"] = example.NewAble(late, example.Root.Certificate), example.NewAble(early, example.Stranger.Certificate)
	result, err := w.check(t, "internal")
	if err != nil || result.RequeueAfter != recheck {
		t.Fatalf("result %v, error %v, want to look again in %s", result, err, recheck)
	}
	since := &metav1.Time{Time: example.Now.Add(2 * recheck)} // when it was looked at first
	w.wantReady(t, "internal", metav1.ConditionTrue, ReasonReady, "can sign")
	status := w.signer(t, "internal").Status
	if want := example.Now.Add(24 * time.Hour); status.CANotAfter == nil || !status.CANotAfter.Time.Equal(want) {
		t.Errorf("caNotAfter is %v, want %s, the earlier of the two", status.CANotAfter, want)
	}
	if got, want := fmt.Sprint(status.Backends), fmt.Sprint([]v1alpha1.BackendStatus{
		{Name: "first", State: v1alpha1.BackendServing, Since: since, Root: signer.Fingerprint(example.Root.Certificate), CANotAfter: &metav1.Time{Time: late}},
		{Name: "second", State: v1alpha1.BackendServing, Since: since, Root: signer.Fingerprint(example.Stranger.Certificate), CANotAfter: &metav1.Time{Time: early.Truncate(time.Second)}},
	}); got != want {
		t.Errorf("the backends are %s, want %s", got, want)
	}
	if status.TrustBundle != "configmap/"+example.SignerName || status.Serving != "first" {
		t.Errorf("trustBundle is %q, serving is %q", status.TrustBundle, status.Serving)
	}
	if want := []string{"publish " + example.SignerName + " root stranger"}; !slices.Equal(w.calls, want) {
		t.Errorf("calls %q, want %q", w.calls, want)
	}
	if got := w.count(t, "certwright_signer_ca_not_after_seconds", example.SignerName); got != float64(example.Now.Add(24*time.Hour).Unix()) {
		t.Errorf("the metric says %v", got)
	}
	for range 2 {
		if _, err := w.check(t, "internal"); err != nil || len(w.api.Writes) > 0 {
			t.Errorf("writes %q, error %v, although nothing changed", w.api.Writes, err)
		}
	}
}

func TestSignerInTrouble(t *testing.T) {
	sealed := errors.New("503 sealed")
	for name, c := range map[string]struct {
		change  func(w *watcher, first *example.Able)
		status  metav1.ConditionStatus
		reason  string // of the condition
		backend string // reason of the first backend
		text    string
		serving string
		again   time.Duration // 0 for an error
	}{
		"a backend in trouble": {
			func(_ *watcher, b *example.Able) { b.Wrong = sealed }, metav1.ConditionTrue, ReasonDegraded, member.ReasonBackendNotReady, "backend first: 503 sealed", "second", 2 * time.Second,
		},
		"trouble with a reason": {
			func(_ *watcher, b *example.Able) { b.Wrong = &signer.CheckError{Reason: "CAExpired", Err: sealed} }, metav1.ConditionTrue, ReasonDegraded, "CAExpired", "503 sealed", "second", 2 * time.Second,
		},
		"wrapped trouble": {func(_ *watcher, b *example.Able) {
			b.Wrong = fmt.Errorf("checking: %w", &signer.CheckError{Reason: "CAExpired", Err: sealed})
		}, metav1.ConditionTrue, ReasonDegraded, "CAExpired", "503 sealed", "second", 2 * time.Second},
		"all in trouble": {func(w *watcher, b *example.Able) {
			b.Wrong = &signer.CheckError{Reason: "CAExpired", Err: sealed}
			w.backends["second"].(*example.Able).Wrong = sealed
		}, metav1.ConditionFalse, "CAExpired", "CAExpired", "backend second: 503 sealed", "", 2 * time.Second},
		"a warning": {func(_ *watcher, b *example.Able) {
			b.Wrong = &signer.CheckError{Reason: "ServingLastGoodCA", Err: sealed, Signs: true}
		}, metav1.ConditionTrue, ReasonDegraded, "ServingLastGoodCA", "503 sealed", "first", recheck},
		"unknown anchors": {
			func(_ *watcher, b *example.Able) { b.Err = sealed }, metav1.ConditionTrue, ReasonDegraded, member.ReasonBackendNotReady, "backend first: reading trust anchors: 503 sealed", "second", recheck,
		},
		"a bundle that is not published": {
			func(w *watcher, _ *example.Able) { w.publisher.err = sealed }, metav1.ConditionFalse, member.ReasonTrustNotPublished, member.ReasonTrustNotPublished, "publishing the trust bundle: 503 sealed", "", 0,
		},
		"a CA that has expired, of which nothing is published": {func(w *watcher, b *example.Able) {
			w.publisher.err = errors.New("none of the 1 trust anchors can be published")
			b.Wrong, w.backends["second"].(*example.Able).Wrong = &signer.CheckError{Reason: "CAExpired", Err: sealed}, sealed
		}, metav1.ConditionFalse, "CAExpired", "CAExpired", "503 sealed", "", 0},
		"a backend that cannot be made": {func(w *watcher, _ *example.Able) { delete(w.backends, "first") }, metav1.ConditionFalse, registry.ReasonBackendInvalid, "", "backend first", "", 0},
		"words without end": {
			func(_ *watcher, b *example.Able) { b.Wrong = errors.New(strings.Repeat("é", 1<<20)) }, metav1.ConditionTrue, ReasonDegraded, member.ReasonBackendNotReady, "backend first", "second", 2 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWatcher(t, example.Signer("first", "second"))
			first := example.NewAble(example.Now.Add(time.Hour), example.Root.Certificate)
			w.backends["first"], w.backends["second"] = first, example.NewAble(example.Now.Add(time.Hour), example.Root.Certificate)
			c.change(w, first)
			for i := range 2 { // the second time nothing has changed
				result, err := w.check(t, "internal")
				if (err != nil) != (c.again == 0) || (i == 0 && result.RequeueAfter > c.again) {
					t.Fatalf("result %v, error %v, want to look again in %s at the latest", result, err, c.again)
				}
				writes := slices.DeleteFunc(w.api.Writes, func(s string) bool { return s == "create Event" })
				if want := []string{"update status internal"}[:1-i]; !slices.Equal(writes, want) {
					t.Errorf("writes %q, want %q", writes, want)
				}
			}
			w.wantReady(t, "internal", c.status, c.reason, c.text)
			status := w.signer(t, "internal").Status
			if status.Serving != c.serving {
				t.Errorf("serving is %q, want %q", status.Serving, c.serving)
			}
			if c.backend != "" && (status.Backends[0].Reason != c.backend || status.Backends[0].Message == "") {
				t.Errorf("the first backend is %+v, want the reason %s", status.Backends[0], c.backend)
			}
			if n := len(status.Conditions[0].Message); n > 32768 {
				t.Errorf("the message has %d bytes", n)
			}
		})
	}
}

// What is known of a CA is known while it is in trouble, as whether a new one may be made hangs on it, and only of backends
// that the Signer still has.
func TestWhatIsKnownOfCAsIsKept(t *testing.T) {
	w := newWatcher(t, example.Signer("first", "second"))
	first := example.NewAble(example.Now.Add(time.Hour), example.Root.Certificate)
	w.backends["first"], w.backends["second"] = first, example.NewAble(example.Now.Add(2*time.Hour), example.Stranger.Certificate)
	if _, err := w.check(t, "internal"); err != nil {
		t.Fatal(err)
	}
	before := w.signer(t, "internal").Status
	first.Err, first.Wrong = errors.New("503 sealed"), errors.New("503 sealed")
	for range 2 {
		if _, err := w.check(t, "internal"); err != nil {
			t.Fatal(err)
		}
		status := w.signer(t, "internal").Status
		if b := status.Backends[0]; b.State != v1alpha1.BackendDown || b.Root != before.Backends[0].Root || !b.CANotAfter.Equal(before.Backends[0].CANotAfter) || !status.CANotAfter.Equal(before.CANotAfter) {
			t.Errorf("in trouble the backends are %v, until %s; before they were %v, until %s", status.Backends, status.CANotAfter, before.Backends, before.CANotAfter)
		}
	}
	edited := w.signer(t, "internal")
	edited.Generation, edited.Spec.Backends = 2, edited.Spec.Backends[1:]
	if err := w.api.Client.Update(t.Context(), edited); err != nil {
		t.Fatal(err)
	}
	if _, err := w.check(t, "internal"); err != nil {
		t.Fatal(err)
	}
	if status := w.signer(t, "internal").Status; len(status.Backends) != 1 || !equality.Semantic.DeepEqual(status.Backends[0], before.Backends[1]) {
		t.Errorf("the backends are %v, want the second alone", status.Backends)
	}
}

func TestSignerIsReadyAgain(t *testing.T) {
	w := newWatcher(t, example.Signer("first"))
	b := example.NewAble(example.Now.Add(time.Hour), example.Root.Certificate)
	w.backends["first"], b.Wrong = b, errors.New("503 sealed")
	if _, err := w.check(t, "internal"); err != nil {
		t.Fatal(err)
	}
	w.wantReady(t, "internal", metav1.ConditionFalse, member.ReasonBackendNotReady, "503 sealed")
	b.Wrong = nil
	for _, want := range []v1alpha1.BackendState{v1alpha1.BackendProbing, v1alpha1.BackendServing} {
		if _, err := w.check(t, "internal"); err != nil {
			t.Fatal(err)
		}
		if s := w.signer(t, "internal").Status; s.Backends[0].State != want || s.Serving != "first" {
			t.Errorf("the backend is %+v, want %s; serving is %q", s.Backends[0], want, s.Serving)
		}
	}
	w.wantReady(t, "internal", metav1.ConditionTrue, ReasonReady, "")
	if got := w.reasons(t); !slices.Equal(got, []string{ReasonReady}) {
		t.Errorf("the metric has the reasons %q, want that of now alone", got)
	}
}

func TestSecondSignerOfASignerName(t *testing.T) {
	w := newWatcher(t, example.Called(example.Signer("local"), "older", "1", time.Hour), example.Called(example.Signer("local"), "younger", "2", time.Minute))
	for range 2 {
		if _, err := w.check(t, "younger"); err == nil {
			t.Fatal("no error")
		}
		if len(w.calls) > 0 {
			t.Errorf("calls %q, want none: the bundle belongs to the older one", w.calls)
		}
	}
	w.wantReady(t, "younger", metav1.ConditionFalse, ReasonSignerNameTaken, `belongs to Signer "older"`)
	if _, err := w.check(t, "older"); err != nil {
		t.Fatal(err)
	}
	w.wantReady(t, "older", metav1.ConditionTrue, ReasonReady, "")

	if err := w.api.Client.Delete(t.Context(), w.signer(t, "older")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.check(t, "older"); err != nil || len(w.calls) > 0 {
		t.Errorf("calls %q, error %v: the signerName has an heir", w.calls, err)
	}
	if _, err := w.check(t, "younger"); err != nil {
		t.Fatal(err)
	}
	w.wantReady(t, "younger", metav1.ConditionTrue, ReasonReady, "")
}

func TestStatusTroubleIsReturned(t *testing.T) {
	down := errors.New("connection refused")
	t.Run("reading", func(t *testing.T) {
		w := newWatcher(t, example.Signer("local"))
		w.api.ReadErr = func(runtime.Object) error { return down }
		if _, err := w.check(t, "internal"); !errors.Is(err, down) || len(w.calls) > 0 {
			t.Errorf("error %v, calls %q, want %v and none", err, w.calls, down)
		}
	})
	t.Run("writing", func(t *testing.T) {
		w := newWatcher(t, example.Signer("local"))
		w.api.Tamper = func(string, client.Object) error { return down }
		if _, err := w.check(t, "internal"); !errors.Is(err, down) || !strings.Contains(err.Error(), "internal") {
			t.Errorf("error %v, want %v with the Signer's name", err, down)
		}
	})
	t.Run("writing what somebody else wrote", func(t *testing.T) {
		w := newWatcher(t, example.Signer("local"))
		w.api.Tamper = func(string, client.Object) error {
			return apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("signers").GroupResource(), "internal", errors.New("it was modified"))
		}
		if result, err := w.check(t, "internal"); err != nil || result.RequeueAfter != soonest {
			t.Errorf("result %v, error %v, want another look soon and no error: it is nobody's fault", result, err)
		}
		w.api.Tamper = nil
		if _, err := w.check(t, "internal"); err != nil {
			t.Error(err)
		}
		w.wantReady(t, "internal", metav1.ConditionTrue, ReasonReady, "can sign")
	})
}
