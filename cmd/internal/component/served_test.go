// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package component

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/signer/podcert"
	"github.com/certwright/certwright/signer/podcert/naming"
)

// hostilePod is what a kubelet asks, as large as the API server takes it and larger.
//
//nolint:staticcheck // the older form of the key counts
func hostilePod(signerName string, conditions ...string) *certificatesv1beta1.PodCertificateRequest {
	o := &certificatesv1beta1.PodCertificateRequest{ObjectMeta: padded("shop", "req-1")}
	o.Spec = certificatesv1beta1.PodCertificateRequestSpec{
		SignerName: signerName, PodName: "web-0", PodUID: "u", ServiceAccountName: "web", ServiceAccountUID: "s", NodeName: "n", NodeUID: "n",
		StubPKCS10Request: bytes.Repeat([]byte("A"), 1<<20), PKIXPublicKey: bytes.Repeat([]byte("A"), 1<<20), ProofOfPossession: bytes.Repeat([]byte("A"), 1<<20),
		UnverifiedUserAnnotations: map[string]string{"a.example/x": strings.Repeat("v", 1<<20), "b.example/x": strings.Repeat("v", 1<<20)},
	}
	for _, c := range conditions {
		o.Status.Conditions = append(o.Status.Conditions, metav1.Condition{Type: c, Status: metav1.ConditionTrue, Reason: "R", Message: strings.Repeat("m", 32<<10)})
	}
	o.Status.CertificateChain = strings.Repeat("c", 100<<10)
	return o
}

// transformedPod is what the signer's cache makes of an object.
func transformedPod[T client.Object](t *testing.T, version podcert.Version, o T) T {
	t.Helper()
	for kind, options := range (servedPods{version: version}).cached() {
		if fmt.Sprintf("%T", kind) == fmt.Sprintf("%T", o) {
			kept, err := options.Transform(o)
			if err != nil {
				t.Fatal(err)
			}
			return kept.(T)
		}
	}
	t.Fatalf("there is no transform for a %T", o)
	return o
}

func TestCacheIsNotFilledByKubelets(t *testing.T) {
	for name, c := range map[string]struct {
		object *certificatesv1beta1.PodCertificateRequest
		most   int
	}{
		"pending":                   {hostilePod("example.com/internal"), 3*csr.MaxRequestBytes + naming.MaxAnnotationBytes + 500},
		"of Kubernetes' own signer": {hostilePod("kubernetes.io/kube-apiserver-client-pod"), 200},
		"issued":                    {hostilePod("example.com/internal", "Issued"), 200},
		"denied":                    {hostilePod("example.com/internal", "Denied"), 200},
		"failed":                    {hostilePod("example.com/internal", "Failed"), 200},
	} {
		t.Run(name, func(t *testing.T) {
			whole := c.object.DeepCopy()
			kept := transformedPod(t, podcert.V1Beta1, c.object)
			if kept.Size() > c.most || cap(kept.Spec.StubPKCS10Request) > csr.MaxRequestBytes+2048 { //nolint:staticcheck // the older form of the key counts
				t.Errorf("%d bytes are kept, want at most %d", kept.Size(), c.most)
			}
			if !equality.Semantic.DeepEqual(c.object, whole) {
				t.Error("the object itself was changed, which others may be reading")
			}
			if kept.UID != whole.UID || kept.ResourceVersion != whole.ResourceVersion || kept.Namespace != "shop" || !kept.CreationTimestamp.Equal(&now) ||
				kept.Spec.SignerName != whole.Spec.SignerName || len(kept.Status.Conditions) != len(whole.Status.Conditions) {
				t.Errorf("it is kept as %v of %s, %v", kept.ObjectMeta, kept.Spec.SignerName, kept.Status.Conditions)
			}
			if again := transformedPod(t, podcert.V1Beta1, kept.DeepCopy()); !equality.Semantic.DeepEqual(again, kept) {
				t.Error("a second time it becomes another one")
			}
			v1 := &certificatesv1.PodCertificateRequest{ObjectMeta: whole.ObjectMeta, Status: certificatesv1.PodCertificateRequestStatus(whole.Status)}
			v1.Spec.SignerName, v1.Spec.StubPKCS10Request, v1.Spec.UnverifiedUserAnnotations = whole.Spec.SignerName, whole.Spec.StubPKCS10Request, whole.Spec.UnverifiedUserAnnotations
			if kept := transformedPod(t, podcert.V1, v1); kept.Size() > c.most || len(kept.Status.Conditions) != len(whole.Status.Conditions) {
				t.Errorf("%d bytes are kept of v1, want at most %d", kept.Size(), c.most)
			}
		})
	}
}

// What the cache cut off is refused all the same, and what it did not is as it was.
func TestRequestsOfKubeletsAreParsedAlikeFromTheCache(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	stub, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	good := hostilePod("example.com/internal")
	good.Spec.StubPKCS10Request, good.Spec.PKIXPublicKey, good.Spec.ProofOfPossession = stub, nil, nil //nolint:staticcheck // the older form of the key counts
	parsed, err := csr.ParsePod(transformedPod(t, podcert.V1Beta1, good))
	if err != nil || parsed.Requester.Username != "system:serviceaccount:shop:web" {
		t.Fatalf("parsed %+v, error %v", parsed, err)
	}
	var refusal *csr.Refusal
	if _, err := csr.ParsePod(transformedPod(t, podcert.V1Beta1, hostilePod("example.com/internal"))); !errors.As(err, &refusal) {
		t.Errorf("error %v for a key that is too long, want a refusal", err)
	}
	for name, annotations := range map[string]map[string]string{
		"one value":   {naming.AnnotationDNSNames: strings.Repeat("a.example.com,", 10_000)},
		"many values": {naming.AnnotationDNSNames: strings.Repeat("a.example.com,", 1100), naming.AnnotationURIs: strings.Repeat("https://a.example.com,", 1100)},
	} {
		large := hostilePod("example.com/internal")
		large.Spec.UnverifiedUserAnnotations = annotations
		kept := transformedPod(t, podcert.V1Beta1, large).Spec.UnverifiedUserAnnotations
		_, err := (&naming.Template{}).Name(parsed, policy.Facts{}, kept)
		if !errors.As(err, &refusal) || !strings.Contains(err.Error(), "bytes that are allowed") {
			t.Errorf("%s: error %v, want a refusal for their size", name, err)
		}
	}
}

// The API server must be asked for nothing that it does not serve: the manager would not start.
func TestCacheSpeaksOfWhatIsServed(t *testing.T) {
	for version, want := range map[podcert.Version]string{podcert.V1: "*v1.PodCertificateRequest", podcert.V1Beta1: "*v1beta1.PodCertificateRequest", "": ""} {
		var got string
		for kind := range (servedPods{version: version}).cached() {
			if name := fmt.Sprintf("%T", kind); strings.Contains(name, "PodCertificateRequest") {
				got += name
			}
		}
		if got != want {
			t.Errorf("version %q: the cache knows %q, want %q", version, got, want)
		}
	}
	for kind := range cacheOptions("certwright-system", nil).ByObject {
		if name := fmt.Sprintf("%T", kind); strings.Contains(name, "PodCertificateRequest") {
			t.Errorf("every component's cache knows %s", name)
		}
	}
}
