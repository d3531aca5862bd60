// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package event

import (
	"errors"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Names of the extra fields by which the API server says which pod a token is bound to.
const podName, podUID = "authentication.kubernetes.io/pod-name", "authentication.kubernetes.io/pod-uid"

// ofPod is a request of the pod web-0 in the namespace shop, as the API server stamps one.
func ofPod(name string, uid types.UID) *certificatesv1.CertificateSigningRequest {
	r := request(name, uid)
	r.Spec.Username = "system:serviceaccount:shop:web"
	r.Spec.Extra = map[string]certificatesv1.ExtraValue{podName: {"web-0"}, podUID: {"uid-web-0"}}
	return r
}

var podMeta = metav1.ObjectMeta{Namespace: "shop", Name: "web-0-certs", UID: "uid-1"}

// onPods are the events about pods, of all namespaces.
func onPods(t *testing.T, teller Teller) []eventsv1.Event {
	t.Helper()
	var found []eventsv1.Event
	for _, e := range told(t, teller) {
		if e.Regarding.Kind == "Pod" {
			found = append(found, e)
		}
	}
	return found
}

func TestThePodIsTold(t *testing.T) {
	podRequest := certificatesv1.PodCertificateRequest{ObjectMeta: podMeta, Spec: certificatesv1.PodCertificateRequestSpec{PodName: "web-0", PodUID: "uid-web-0"}}
	podRequestBeta := certificatesv1beta1.PodCertificateRequest{ObjectMeta: podMeta, Spec: certificatesv1beta1.PodCertificateRequestSpec{PodName: "web-0", PodUID: "uid-web-0"}}
	pod := corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "web-0", UID: "uid-web-0"}
	for name, c := range map[string]struct {
		request client.Object
		about   corev1.ObjectReference
		in      string
	}{
		"CertificateSigningRequest": {
			ofPod("web-0-abc", "uid-1"),
			corev1.ObjectReference{APIVersion: "certificates.k8s.io/v1", Kind: "CertificateSigningRequest", Name: "web-0-abc", UID: "uid-1"},
			"default",
		},
		"PodCertificateRequest": {
			&podRequest,
			corev1.ObjectReference{APIVersion: "certificates.k8s.io/v1", Kind: "PodCertificateRequest", Namespace: "shop", Name: "web-0-certs", UID: "uid-1"},
			"shop",
		},
		"PodCertificateRequest of v1beta1": {
			&podRequestBeta,
			corev1.ObjectReference{APIVersion: "certificates.k8s.io/v1beta1", Kind: "PodCertificateRequest", Namespace: "shop", Name: "web-0-certs", UID: "uid-1"},
			"shop",
		},
	} {
		t.Run(name, func(t *testing.T) {
			teller, ctx, log := newTeller(t, nil)
			for range 3 {
				teller.Warn(ctx, c.request, "PolicyDenies", "Not this.")
			}
			events := told(t, teller)
			if len(events) != 2 || log.Len() > 0 {
				t.Fatalf("%d events, want one on the request and one on the pod; the log says %q", len(events), log)
			}
			for _, e := range events {
				want, in, note := c.about, c.in, "Not this."
				if e.Regarding.Kind == "Pod" {
					want, in, note = pod, "shop", c.about.Kind+" "+c.about.Name+": Not this."
				}
				if e.Regarding != want || e.Namespace != in || e.Note != note || e.Reason != "PolicyDenies" || e.Type != "Warning" {
					t.Errorf("event in %s is %+v, want one in %s about %v", e.Namespace, e, in, want)
				}
			}
		})
	}
}

func TestWhatAPodIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		tell       func(Teller)
		kind, want string
	}{
		"a verdict":         {func(to Teller) { to.Warn(t.Context(), ofPod("r", "uid"), "R", "words") }, "Warning", "CertificateSigningRequest r: words"},
		"a person decides":  {func(to Teller) { to.Inform(t.Context(), ofPod("r", "uid"), "R", "words") }, "Normal", "CertificateSigningRequest r: words"},
		"trouble, not what": {func(to Teller) { to.Trouble(t.Context(), ofPod("r", "uid"), "R", "words") }, "Warning", "CertificateSigningRequest r: " + notAnswered},
		"no remark":         {func(to Teller) { to.Remark(t.Context(), ofPod("r", "uid"), "R", "words") }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			teller, _, _ := newTeller(t, nil)
			c.tell(teller)
			var kind, note string
			for _, e := range onPods(t, teller) {
				kind, note = kind+e.Type, note+e.Note
			}
			if kind != c.kind || note != c.want {
				t.Errorf("the pod is told %q %q, want %q %q", kind, note, c.kind, c.want)
			}
			if all := told(t, teller); len(all) == 0 || all[0].Note != "words" {
				t.Errorf("of the request is told %v", all)
			}
		})
	}
}

// A request may have the name of its pod, and live where that lives.
func TestBothAreToldThoughTheyHaveOneName(t *testing.T) {
	for _, name := range []string{"web-0", "Not a DNS name"} {
		teller, ctx, _ := newTeller(t, nil)
		r := ofPod(name, "uid")
		r.Spec.Username, r.Spec.Extra[podName] = "system:serviceaccount:default:web", []string{name}
		teller.Warn(ctx, r, "NoPolicy", "text")
		if all := told(t, teller); len(all) != 2 || len(onPods(t, teller)) != 1 {
			t.Errorf("%s: %d events, want one on the request and one on the pod", name, len(all))
		}
	}
}

// An agent and a kubelet ask again with another request each time, for days if nobody mends what is wrong.
func TestAPodIsToldOnceOfEachReason(t *testing.T) {
	teller, ctx, log := newTeller(t, nil)
	for _, uid := range []types.UID{"uid-1", "uid-2", "uid-3"} {
		teller.Warn(ctx, ofPod("request-"+string(uid), uid), "NoPolicy", "text")
	}
	if n := len(onPods(t, teller)); n != 1 {
		t.Errorf("%d events on the pod for three requests, want 1", n)
	}
	teller.Warn(ctx, ofPod("last", "uid-4"), "PolicyDenies", "text")
	teller.Warn(ctx, ofPod("last", "uid-4"), "PolicyDenies", "in other words")
	if n := len(onPods(t, teller)); n != 2 {
		t.Errorf("%d events on the pod for two reasons, want 2", n)
	}
	another := ofPod("another", "uid-5")
	another.Spec.Extra[podUID] = certificatesv1.ExtraValue{"uid-web-0-again"}
	teller.Warn(ctx, another, "NoPolicy", "text")
	if n := len(onPods(t, teller)); n != 3 {
		t.Errorf("%d events, want one more for the pod that took the place of the first", n)
	}
	for _, e := range onPods(t, teller) { // as the API server does after an hour
		if err := teller.Client.Delete(ctx, &e); err != nil {
			t.Fatal(err)
		}
	}
	teller.Warn(ctx, ofPod("later", "uid-6"), "NoPolicy", "text")
	if n := len(onPods(t, teller)); n != 1 {
		t.Errorf("%d events after the first ones were forgotten, want 1", n)
	}
	if n := len(told(t, teller)); n != 7 {
		t.Errorf("%d events in all, want one for each of the six requests besides", n)
	}
	if log.Len() > 0 {
		t.Errorf("an event that exists was logged as trouble: %s", log)
	}
}

// Only the API server says whose request it is. Nobody can have events put on pods of others, or on pods that are none.
func TestNoPodIsToldOnSomebodysWord(t *testing.T) {
	change := func(f func(*certificatesv1.CertificateSigningRequest)) *certificatesv1.CertificateSigningRequest {
		r := ofPod("r", "uid")
		f(r)
		return r
	}
	for name, r := range map[string]client.Object{
		"a person with the fields of a pod": change(func(r *certificatesv1.CertificateSigningRequest) { r.Spec.Username = "mallory" }),
		"a node":                            change(func(r *certificatesv1.CertificateSigningRequest) { r.Spec.Username = "system:node:web-0" }),
		"a name like a service account's":   change(func(r *certificatesv1.CertificateSigningRequest) { r.Spec.Username = "system:serviceaccount:shop" }),
		"a token that is bound to no pod":   change(func(r *certificatesv1.CertificateSigningRequest) { r.Spec.Extra = nil }),
		"no UID":                            change(func(r *certificatesv1.CertificateSigningRequest) { delete(r.Spec.Extra, podUID) }),
		"two pods":                          change(func(r *certificatesv1.CertificateSigningRequest) { r.Spec.Extra[podName] = []string{"web-0", "db-0"} }),
		"labels and annotations": change(func(r *certificatesv1.CertificateSigningRequest) {
			r.Labels, r.Annotations, r.Spec.Extra = map[string]string{podName: "web-0"}, map[string]string{podName: "web-0", podUID: "uid-web-0"}, nil
		}),
		"another kind": &corev1.Secret{ObjectMeta: podMeta},
	} {
		t.Run(name, func(t *testing.T) {
			teller, ctx, _ := newTeller(t, nil)
			teller.Warn(ctx, r, "NoPolicy", "text")
			if events := onPods(t, teller); len(events) > 0 || len(told(t, teller)) != 1 {
				t.Errorf("a pod is told: %+v", events)
			}
		})
	}
}

func TestWhatAPodIsToldIsBounded(t *testing.T) {
	teller, ctx, _ := newTeller(t, nil)
	r := ofPod(strings.Repeat("n", 100_000), "uid")
	r.Spec.Extra[podName] = []string{strings.Repeat("p", 100_000)}
	teller.Warn(ctx, r, "NoPolicy", strings.Repeat("x", 100_000))
	if e := onPods(t, teller)[0]; len(e.Note) > maxNote || len(e.Name) > 253 {
		t.Errorf("a note of %d bytes in an event whose name has %d", len(e.Note), len(e.Name))
	}
}

// A pod that goes away with its namespace needs to hear nothing.
func TestAPodThatIsGoneIsNoTrouble(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		logged bool
	}{
		"no such namespace": {apierrors.NewNotFound(corev1.Resource("namespaces"), "shop"), false},
		"it is going away": {&apierrors.StatusError{ErrStatus: metav1.Status{Reason: metav1.StatusReasonForbidden, Details: &metav1.StatusDetails{
			Causes: []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}},
		}}}, false},
		"forbidden": {apierrors.NewForbidden(corev1.Resource("events"), "", errors.New("no")), true},
	} {
		t.Run(name, func(t *testing.T) {
			teller, ctx, log := newTeller(t, c.err)
			teller.Warn(ctx, ofPod("r", "uid"), "NoPolicy", "text")
			if (log.Len() > 0) != c.logged {
				t.Errorf("logged %q", log)
			}
		})
	}
}
