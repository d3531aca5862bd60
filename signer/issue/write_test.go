// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer/internal/example"
)

// As when the signer is killed, or the API server is gone, between signing and writing.
func TestWriteThatFailsIsTriedAgain(t *testing.T) {
	w := newWorld(t, example.Approved(t, nil), example.Policy(), example.Signer("local"))
	down := errors.New("connection refused")
	w.api.Tamper = func(string, client.Object) error { return down }
	if _, err := w.reconcile(t); !errors.Is(err, down) {
		t.Fatalf("error %v, want %v", err, down)
	}
	if n := w.count(t, "certwright_signer_requests_total"); n != 0 || len(w.stored(t).Status.Certificate) > 0 {
		t.Errorf("%v requests counted, want none", n)
	}
	w.api.Tamper = nil
	for range 2 {
		if _, err := w.reconcile(t); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"patch status web", "patch status web"}; !slices.Equal(w.api.Writes, want) {
		t.Errorf("writes %q, want %q: one that failed, one that did not, and no event", w.api.Writes, want)
	}
	if chain := issued(t, w); len(chain) != 2 {
		t.Errorf("%d certificates, want the chain once", len(chain))
	}
}

// The cache holds neither labels nor annotations, and cuts what is too long. Nothing of that may reach the API server.
func TestWriteTouchesTheStatusAlone(t *testing.T) {
	for name, dnsName := range map[string]string{"issued": "web.example.com", "failed": "web.example.org"} {
		t.Run(name, func(t *testing.T) {
			r := example.Approved(t, func(r *x509.CertificateRequest) { r.DNSNames = []string{dnsName} })
			r.Labels, r.Annotations = map[string]string{"team": "shop"}, map[string]string{"certwright.dev/note": "kept"}
			r.Finalizers, r.OwnerReferences = []string{"example.com/kept"}, []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "n", UID: "u"}}
			w := newWorld(t, r, example.Policy(), example.Signer("local"))
			before := w.stored(t)
			cached := before.DeepCopy()
			cached.Labels, cached.Annotations, cached.Finalizers, cached.OwnerReferences = nil, nil, nil, nil
			w.publish(t)
			if _, err := w.Reconcile(t.Context(), cached); err != nil {
				t.Fatal(err)
			}
			after := w.stored(t)
			if csr.IsFailed(after) == (name == "issued") || !csr.IsFinished(after) {
				t.Errorf("the request got %v", after.Status)
			}
			before.ResourceVersion, before.Status = after.ResourceVersion, after.Status
			if !equality.Semantic.DeepEqual(before, after) {
				t.Errorf("the request was\n%v\nand is\n%v", before, after)
			}
			for _, patch := range w.api.Patches {
				var body map[string]map[string]any
				if err := json.Unmarshal([]byte(patch), &body); err != nil || len(body) != 2 || len(body["metadata"]) != 1 || len(body["status"]) != 1 {
					t.Errorf("the patch %s has more than a resourceVersion and one field of the status, error %v", patch, err)
				}
			}
		})
	}
}

// A stale cache shows a request that is issued as one that is not. What is signed again is not written again.
func TestSigningTwiceIsSafe(t *testing.T) {
	w := newWorld(t, example.Approved(t, nil), example.Policy(), example.Signer("local"))
	stale := w.stored(t)
	if _, err := w.reconcile(t); err != nil {
		t.Fatal(err)
	}
	before := w.stored(t).Status.Certificate
	if _, err := w.Reconcile(t.Context(), stale); !apierrors.IsConflict(err) {
		t.Errorf("error %v, want a conflict", err)
	}
	if !bytes.Equal(before, w.stored(t).Status.Certificate) {
		t.Error("the certificate was replaced")
	}
}

func TestObjectReplacedUnderItsNameGetsNoCertificate(t *testing.T) {
	for name, dnsName := range map[string]string{"while it is signed": "web.example.com", "while it is failed": "web.example.org"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, example.Approved(t, func(r *x509.CertificateRequest) { r.DNSNames = []string{dnsName} }), example.Policy(), example.Signer("local"))
			judged := w.stored(t)
			planted := example.Approved(t, nil)
			planted.UID, planted.Spec.Username = "uid-2", "mallory"
			if err := errors.Join(w.Client.Delete(t.Context(), judged.DeepCopy()), w.Client.Create(t.Context(), planted)); err != nil {
				t.Fatal(err)
			}
			w.publish(t)
			if _, err := w.Reconcile(t.Context(), judged); !apierrors.IsConflict(err) {
				t.Errorf("error %v, want a conflict", err)
			}
			if bound := fmt.Sprintf(`"resourceVersion":%q`, judged.ResourceVersion); judged.ResourceVersion == "" || len(w.api.Patches) != 1 || !strings.Contains(w.api.Patches[0], bound) {
				t.Errorf("the write is not bound to the resourceVersion %q of what was judged: %s", judged.ResourceVersion, w.api.Patches)
			}
			if status := w.stored(t).Status; len(status.Certificate) > 0 || len(status.Conditions) > 1 {
				t.Errorf("the planted request got %v", status)
			}
			if want := []string{"patch status web"}; !slices.Equal(w.api.Writes, want) {
				t.Errorf("writes %q, want %q", w.api.Writes, want)
			}
		})
	}
}

// Who may change labels and annotations must not thereby get a CA certificate, or any name, usage or lifetime.
func TestLabelsAndAnnotationsChangeNothing(t *testing.T) {
	r := example.Approved(t, nil)
	r.Annotations = map[string]string{
		"certwright.dev/isCA": "true", "certwright.dev/is-ca": "true", "experimental.cert-manager.io/request-is-ca": "true",
		"certwright.dev/dns-names": "bank.example.org", "certwright.dev/usages": "cert sign", "certwright.dev/duration": "87600h",
	}
	r.Labels = map[string]string{"isCA": "true", "certwright.dev/isCA": "true"}
	s, p := example.Signer("local"), example.Policy()
	s.Spec.Limits.IsCA, p.Spec.Allow.IsCA = true, true
	s.Spec.Limits.Usages = append(s.Spec.Limits.Usages, certificatesv1.UsageCertSign)
	w := newWorld(t, r, p, s)
	if _, err := w.reconcile(t); err != nil {
		t.Fatal(err)
	}
	leaf := issued(t, w)[0]
	if leaf.IsCA || leaf.KeyUsage&x509.KeyUsageCertSign != 0 || slices.Contains(leaf.DNSNames, "bank.example.org") || leaf.NotAfter.After(example.Now.Add(24*time.Hour)) {
		t.Errorf("CA %t, usage %b, names %q, until %s", leaf.IsCA, leaf.KeyUsage, leaf.DNSNames, leaf.NotAfter)
	}
}
