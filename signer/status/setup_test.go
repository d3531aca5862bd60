// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/internal/example"
)

func names(requests []reconcile.Request) []string {
	var all []string
	for _, r := range requests {
		all = append(all, r.Name)
	}
	slices.Sort(all)
	return all
}

func TestSecretConcernsAllSigners(t *testing.T) {
	w := newWatcher(t, example.Called(example.Signer("local"), "a", "1", time.Hour), example.Called(example.Signer("local"), "b", "2", time.Hour))
	if got, want := names(w.status.all(t.Context())), []string{"a", "b"}; !slices.Equal(got, want) {
		t.Errorf("concerned are %q, want %q", got, want)
	}
	w.api.ReadErr = func(runtime.Object) error { return errors.New("connection refused") }
	if got := names(w.status.all(t.Context())); len(got) > 0 {
		t.Errorf("concerned are %q although they cannot be listed", got)
	}
}

// Whoever writes many ConfigMaps makes nobody look at Signers that do not name them.
func TestConfigMapConcernsThoseThatNameIt(t *testing.T) {
	naming := example.Called(example.Signer("local"), "naming", "1", time.Hour)
	naming.Spec.TrustBundle.Additional = []v1alpha1.TrustSource{{PEM: "x"}, {ConfigMapRef: &v1alpha1.ConfigMapKeyRef{Name: "roots", Key: "ca.crt"}}}
	w := newWatcher(t, naming, example.Called(example.Signer("local"), "other", "2", time.Hour))
	for name, want := range map[string][]string{"roots": {"naming"}, "kube-root-ca.crt": nil, v1alpha1.TrustConfigMap: nil} {
		if got := names(w.status.naming(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}})); !slices.Equal(got, want) {
			t.Errorf("%s concerns %q, want %q", name, got, want)
		}
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
	w := newWatcher(t, example.Signer("local"))
	b := example.NewAble(example.Now.Add(time.Hour), example.Root.Certificate)
	w.backends["local"] = b
	if _, err := w.check(t, "internal"); err != nil {
		t.Fatal(err)
	}
	b.Wrong = errors.New("503 sealed")
	look := func() v1alpha1.BackendState {
		w.api.Pass(between)
		if _, err := w.status.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: "internal"}}); err != nil {
			t.Fatal(err)
		}
		return w.signer(t, "internal").Status.Backends[0].State
	}
	if s := look(); s != v1alpha1.BackendServing {
		t.Errorf("it is %s although its check was not due", s)
	}
	w.status.Registry.Expedite()
	if s := look(); s != v1alpha1.BackendDown {
		t.Errorf("it is %s after a Secret changed", s)
	}
	annotated := w.signer(t, "internal")
	annotated.Annotations = map[string]string{"certwright.dev/new-ca": "0a"}
	if err := w.api.Client.Update(t.Context(), annotated); err != nil {
		t.Fatal(err)
	}
	for range 3 { // the next one is due after more than is between two writes
		m := w.member(t, "local")
		m.Expedite()
		m.Inspect(t.Context(), v1alpha1.BackendStatus{}, true)
	}
	b.Wrong = nil
	if s := look(); s != v1alpha1.BackendProbing {
		t.Errorf("it is %s after a person's word", s)
	}
}

// Backends that come and go cannot have a status written without end.
func TestStatusIsWrittenRarely(t *testing.T) {
	w := newWatcher(t, example.Signer("local"))
	b := example.NewAble(example.Now.Add(time.Hour), example.Root.Certificate)
	w.backends["local"] = b
	if _, err := w.check(t, "internal"); err != nil {
		t.Fatal(err)
	}
	w.api.Writes = nil
	const seconds = 60
	for i := range 10 * seconds {
		w.api.Pass(100 * time.Millisecond)
		b.Wrong = nil
		if i%20 < 10 {
			b.Wrong = fmt.Errorf("connection refused from port %d", i)
		}
		w.status.Registry.Expedite()
		if _, err := w.status.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: "internal"}}); err != nil {
			t.Fatal(err)
		}
	}
	writes := len(slices.DeleteFunc(w.api.Writes, func(s string) bool { return s != "update status internal" }))
	if most := int(seconds * time.Second / between); writes > most || writes < 5 {
		t.Errorf("%d writes in %d seconds, want at most %d", writes, seconds, most)
	}
}

// Words that change while they mean the same, such as the port of a connection, are not written each time.
func TestWordsOfAStatusStay(t *testing.T) {
	w := newWatcher(t, example.Signer("local"))
	b := example.NewAble(example.Now.Add(time.Hour), example.Root.Certificate)
	w.backends["local"] = b
	b.Wrong = errors.New("from port 0")
	if _, err := w.check(t, "internal"); err != nil {
		t.Fatal(err)
	}
	w.api.Writes = nil
	for i := range 100 {
		w.api.Pass(time.Second)
		b.Wrong = fmt.Errorf("from port %d", i)
		w.status.Registry.Expedite()
		if _, err := w.status.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: "internal"}}); err != nil {
			t.Fatal(err)
		}
	}
	if len(w.api.Writes) != 1 {
		t.Errorf("writes %q in 100 seconds, want one a minute", w.api.Writes)
	}
}
