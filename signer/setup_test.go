// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/certwright/certwright/api/v1alpha1"
)

func names(requests []reconcile.Request) []string {
	var all []string
	for _, r := range requests {
		all = append(all, r.Name)
	}
	slices.Sort(all)
	return all
}

func TestRequestsThatWaitForASigner(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*certificatesv1.CertificateSigningRequest)
		waits  bool
	}{
		"approved": {func(*certificatesv1.CertificateSigningRequest) {}, true},
		"pending":  {func(r *certificatesv1.CertificateSigningRequest) { r.Status.Conditions = nil }, false},
		"denied":   {func(r *certificatesv1.CertificateSigningRequest) { set(r, certificatesv1.CertificateDenied) }, false},
		"failed":   {func(r *certificatesv1.CertificateSigningRequest) { set(r, certificatesv1.CertificateFailed) }, false},
		"issued":   {func(r *certificatesv1.CertificateSigningRequest) { r.Status.Certificate = []byte("x") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := approved(t, nil)
			if c.change(r); waits(r) != c.waits {
				t.Errorf("waits: %t", !c.waits)
			}
		})
	}
}

func TestSecretConcernsAllSigners(t *testing.T) {
	w := newWatcher(t, called(newSigner("local"), "a", "1", time.Hour), called(newSigner("local"), "b", "2", time.Hour))
	if got, want := names(w.status.all(t.Context())), []string{"a", "b"}; !slices.Equal(got, want) {
		t.Errorf("concerned are %q, want %q", got, want)
	}
	w.readErr = func(runtime.Object) error { return errors.New("connection refused") }
	if got := names(w.status.all(t.Context())); len(got) > 0 {
		t.Errorf("concerned are %q although they cannot be listed", got)
	}
}

// Whoever writes many ConfigMaps makes nobody look at Signers that do not name them.
func TestConfigMapConcernsThoseThatNameIt(t *testing.T) {
	naming := called(newSigner("local"), "naming", "1", time.Hour)
	naming.Spec.TrustBundle.Additional = []v1alpha1.TrustSource{{PEM: "x"}, {ConfigMapRef: &v1alpha1.ConfigMapKeyRef{Name: "roots", Key: "ca.crt"}}}
	w := newWatcher(t, naming, called(newSigner("local"), "other", "2", time.Hour))
	for name, want := range map[string][]string{"roots": {"naming"}, "kube-root-ca.crt": nil, v1alpha1.TrustConfigMap: nil} {
		if got := names(w.status.naming(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}})); !slices.Equal(got, want) {
			t.Errorf("%s concerns %q, want %q", name, got, want)
		}
	}
}

// All requests that wait are looked at again when their Signer can sign again, and not each time that its status is written.
func TestStartsToServe(t *testing.T) {
	for name, c := range map[string]struct {
		before, after string
		want          bool
	}{
		"none, then one":       {"", "first", true},
		"one, then another":    {"first", "second", true},
		"the same":             {"first", "first", false},
		"one, then none":       {"first", "", false},
		"none, and still none": {"", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			before, after := newSigner("first", "second"), newSigner("first", "second")
			before.Status.Serving, after.Status.Serving = c.before, c.after
			after.Status.Conditions = []metav1.Condition{{Message: "other words"}}
			if got := startsToServe.Update(event.UpdateEvent{ObjectOld: before, ObjectNew: after}); got != c.want {
				t.Errorf("got %t, want %t", got, c.want)
			}
		})
	}
}

// Orders come and go with requests: no backend has to be checked for them.
func TestSecretsThatConcernSigners(t *testing.T) {
	for name, want := range map[string]bool{"certwright-acme-order-0a1b": false, "certwright-venafi-internal.cloud": false, "certwright-acme-internal.public": true, "certwright-ca-internal.local": true, "vault-token": true} {
		if got := concerns(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}}); got != want {
			t.Errorf("%s: %t, want %t", name, got, want)
		}
	}
}

// What is due is known to each backend: a change of a Secret makes all of them due.
func TestSecretMakesChecksDue(t *testing.T) {
	w := newWatcher(t, newSigner("local"))
	b := newAble(now.Add(time.Hour), root.Certificate)
	w.backends["local"] = b
	if _, err := w.check(t, "internal"); err != nil {
		t.Fatal(err)
	}
	b.check = errors.New("503 sealed")
	look := func() v1alpha1.BackendState {
		w.pass(between)
		if _, err := w.status.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: "internal"}}); err != nil {
			t.Fatal(err)
		}
		return w.signer(t, "internal").Status.Backends[0].State
	}
	if s := look(); s != v1alpha1.BackendServing {
		t.Errorf("it is %s although its check was not due", s)
	}
	w.Registry.expedite()
	if s := look(); s != v1alpha1.BackendDown {
		t.Errorf("it is %s after a Secret changed", s)
	}
	annotated := w.signer(t, "internal")
	annotated.Annotations = map[string]string{"certwright.dev/new-ca": "0a"}
	if err := w.Client.Update(t.Context(), annotated); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.member(t, "local").breaker.Probed(b.check) // the next one is due after more than is between two writes
	}
	b.check = nil
	if s := look(); s != v1alpha1.BackendProbing {
		t.Errorf("it is %s after a person's word", s)
	}
}

// Backends that come and go cannot have a status written without end.
func TestStatusIsWrittenRarely(t *testing.T) {
	w := newWatcher(t, newSigner("local"))
	b := newAble(now.Add(time.Hour), root.Certificate)
	w.backends["local"] = b
	if _, err := w.check(t, "internal"); err != nil {
		t.Fatal(err)
	}
	w.writes = nil
	const seconds = 60
	for i := range 10 * seconds {
		w.pass(100 * time.Millisecond)
		b.check = nil
		if i%20 < 10 {
			b.check = fmt.Errorf("connection refused from port %d", i)
		}
		w.Registry.expedite()
		if _, err := w.status.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: "internal"}}); err != nil {
			t.Fatal(err)
		}
	}
	writes := len(slices.DeleteFunc(w.writes, func(s string) bool { return s != "update status internal" }))
	if most := int(seconds * time.Second / between); writes > most || writes < 5 {
		t.Errorf("%d writes in %d seconds, want at most %d", writes, seconds, most)
	}
}

// Words that change while they mean the same, such as the port of a connection, are not written each time.
func TestWordsOfAStatusStay(t *testing.T) {
	w := newWatcher(t, newSigner("local"))
	b := newAble(now.Add(time.Hour), root.Certificate)
	w.backends["local"] = b
	b.check = errors.New("from port 0")
	if _, err := w.check(t, "internal"); err != nil {
		t.Fatal(err)
	}
	w.writes = nil
	for i := range 100 {
		w.pass(time.Second)
		b.check = fmt.Errorf("from port %d", i)
		w.Registry.expedite()
		if _, err := w.status.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: "internal"}}); err != nil {
			t.Fatal(err)
		}
	}
	if len(w.writes) != 1 {
		t.Errorf("writes %q in 100 seconds, want one a minute", w.writes)
	}
}
