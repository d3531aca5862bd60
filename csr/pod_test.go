// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package csr_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"reflect"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/certwright/certwright/csr"
)

type podObject = certificatesv1beta1.PodCertificateRequest

// podRequest returns what the API server holds for the stub of a kubelet.
func podRequest(stub []byte) *podObject {
	return &podObject{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "req-abcde", UID: "5f5c0c9e-1b7f-4f4e-8f3e-1f3f0f5b7f10"},
		Spec: certificatesv1beta1.PodCertificateRequestSpec{
			SignerName: "example.com/internal", PodName: "web-0", PodUID: "pod-uid", ServiceAccountName: "web", ServiceAccountUID: "7a1f",
			NodeName: "node-1", NodeUID: "node-uid", MaxExpirationSeconds: ptr.To[int32](86400), StubPKCS10Request: stub,
		},
	}
}

// withPublicKey returns a request in the older form, with a proof by the key over a text.
func withPublicKey(t testing.TB, key crypto.Signer, text string) *podObject {
	t.Helper()
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256([]byte(text))
	digest, options := hash[:], crypto.SignerOpts(crypto.SHA256)
	switch key.(type) {
	case ed25519.PrivateKey:
		digest, options = []byte(text), crypto.Hash(0)
	case *rsa.PrivateKey:
		options = &rsa.PSSOptions{Hash: crypto.SHA256}
	}
	proof, err := key.Sign(rand.Reader, digest, options)
	if err != nil {
		t.Fatal(err)
	}
	r := podRequest(nil)
	r.Spec.PKIXPublicKey, r.Spec.ProofOfPossession = public, proof //nolint:staticcheck // kubelets before 1.36 know this form only
	return r
}

func podKeys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	keys := map[string]crypto.Signer{"Ed25519": testKey}
	for name, curve := range map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = key
	}
	key, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	keys["RSA"] = key
	return keys
}

// A request names the pod as its own token would, and nothing else.
func TestParsePod(t *testing.T) {
	for name, key := range podKeys(t) {
		block, _ := pem.Decode(create(t, &x509.CertificateRequest{}, key))
		for form, object := range map[string]*podObject{"stub": podRequest(block.Bytes), "public key": withPublicKey(t, key, "pod-uid")} {
			t.Run(name+" as "+form, func(t *testing.T) {
				got, err := csr.ParsePod(object)
				if err != nil {
					t.Fatal(err)
				}
				if !got.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) || got.Key.Algorithm == "" || got.Key.Size == 0 {
					t.Errorf("key %+v of the type %T is not the kubelet's", got.Key, got.PublicKey)
				}
				got.PublicKey, got.Key = nil, csr.Key{}
				want := csr.Request{
					Name: "req-abcde", UID: object.UID, SignerName: "example.com/internal", Duration: 24 * time.Hour, ForPod: true,
					Requester: csr.Requester{
						Username: "system:serviceaccount:shop:web", UID: "7a1f",
						Groups: []string{"system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"},
						Extra: map[string]certificatesv1.ExtraValue{
							"authentication.kubernetes.io/pod-name": {"web-0"}, "authentication.kubernetes.io/pod-uid": {"pod-uid"},
							"authentication.kubernetes.io/node-name": {"node-1"}, "authentication.kubernetes.io/node-uid": {"node-uid"},
						},
					},
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("got  %+v\nwant %+v", got, want)
				}
				if pod, bound := got.Requester.Pod(); !bound || pod != (csr.PodIdentity{Namespace: "shop", Name: "web-0", UID: "pod-uid", NodeName: "node-1"}) {
					t.Errorf("it is bound (%t) to %+v", bound, pod)
				}
			})
		}
	}
}

func TestParsePodDefaultsToADay(t *testing.T) {
	object := podRequest(raw{}.der())
	object.Spec.MaxExpirationSeconds = nil
	if got, err := csr.ParsePod(object); err != nil || got.Duration != 24*time.Hour {
		t.Errorf("got %s, %v", got.Duration, err)
	}
}

// hostilePod is a request of a kubelet that is refused, and where.
type hostilePod struct {
	name          string
	change        func(*podObject)
	reason, field string
}

//nolint:staticcheck // kubelets before 1.36 know the older form of the key only
func hostilePods(t testing.TB) []hostilePod {
	const stub, public, possession = "spec.stubPKCS10Request", "spec.pkixPublicKey", "spec.proofOfPossession"
	set := func(der []byte) func(*podObject) { return func(o *podObject) { o.Spec.StubPKCS10Request = der } }
	der := func(template *x509.CertificateRequest, key crypto.Signer) []byte {
		block, _ := pem.Decode(create(t, template, key))
		return block.Bytes
	}
	other := func(key crypto.Signer, text string, change func(*podObject)) func(*podObject) {
		return func(o *podObject) {
			*o = *withPublicKey(t, key, text)
			if change != nil {
				change(o)
			}
		}
	}
	_, foreign, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := podKeys(t)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256 := keys["P-256"].(*ecdsa.PrivateKey)
	return []hostilePod{
		{"no namespace", func(o *podObject) { o.Namespace = "" }, csr.ReasonPodIdentity, "spec.serviceAccountName"},
		{"no service account", func(o *podObject) { o.Spec.ServiceAccountName = "" }, csr.ReasonPodIdentity, "spec.serviceAccountName"},
		{"no UID of a service account", func(o *podObject) { o.Spec.ServiceAccountUID = "" }, csr.ReasonPodIdentity, "spec.serviceAccountUID"},
		{"no pod", func(o *podObject) { o.Spec.PodName = "" }, csr.ReasonPodIdentity, "spec.podName"},
		{"no UID of a pod", func(o *podObject) { o.Spec.PodUID = "" }, csr.ReasonPodIdentity, "spec.podUID"},
		{"no node", func(o *podObject) { o.Spec.NodeName = "" }, csr.ReasonPodIdentity, "spec.nodeName"},
		{"no UID of a node", func(o *podObject) { o.Spec.NodeUID = "" }, csr.ReasonPodIdentity, "spec.nodeUID"},
		{"a service account that reaches into another namespace", func(o *podObject) { o.Spec.ServiceAccountName = "web:admin" }, csr.ReasonPodIdentity, "spec.serviceAccountName"},
		{"a namespace that brings its service account", func(o *podObject) { o.Namespace = "shop:admin" }, csr.ReasonPodIdentity, "spec.serviceAccountName"},
		{"less than an hour", func(o *podObject) { o.Spec.MaxExpirationSeconds = ptr.To[int32](3599) }, csr.ReasonExpirationTooShort, "spec.maxExpirationSeconds"},
		{"a negative lifetime", func(o *podObject) { o.Spec.MaxExpirationSeconds = ptr.To[int32](-1) }, csr.ReasonExpirationTooShort, "spec.maxExpirationSeconds"},

		{"no key", set(nil), csr.ReasonPodKey, stub},
		{"a key without a proof", other(testKey, "pod-uid", func(o *podObject) { o.Spec.ProofOfPossession = nil }), csr.ReasonSignatureDoesNotVerify, possession},
		{"a proof without a key", other(testKey, "pod-uid", func(o *podObject) { o.Spec.PKIXPublicKey = nil }), csr.ReasonDERMalformed, public},
		{"keys in both forms", other(testKey, "pod-uid", func(o *podObject) { o.Spec.StubPKCS10Request = raw{}.der() }), csr.ReasonPodKey, stub},

		{"a stub that is too long", set(make([]byte, csr.MaxRequestBytes+1)), csr.ReasonRequestTooLarge, stub},
		{"a stub in PEM", set(raw{}.pem()), csr.ReasonDERMalformed, stub},
		{"a stub with bytes behind it", set(raw{after: []byte{0}}.der()), csr.ReasonDERTrailingBytes, stub},
		{"a stub with a subject", set(der(&x509.CertificateRequest{Subject: pkix.Name{CommonName: "admin"}}, testKey)), csr.ReasonStubNotEmpty, stub},
		{"a stub with names", set(der(&x509.CertificateRequest{DNSNames: []string{"bank.example.com"}}, testKey)), csr.ReasonStubNotEmpty, stub},
		{"a stub with an attribute", set(raw{attributes: attributes(sequence(oidChallengePassword, tlv(tagSet, tlv(tagUTF8, []byte("x")))))}.der()), csr.ReasonStubNotEmpty, stub},
		{"a stub signed by another key", set(raw{signature: tlv(tagBitString, []byte{0}, ed25519.Sign(foreign, []byte("x")))}.der()), csr.ReasonSignatureDoesNotVerify, stub},
		{"a stub with a short key", set(der(&x509.CertificateRequest{}, small)), csr.ReasonUnsupportedKeyType, stub},
		{"a stub on a curve that is not allowed", set(der(&x509.CertificateRequest{}, p224)), csr.ReasonUnsupportedKeyType, stub},

		{"a public key that is too long", other(testKey, "pod-uid", func(o *podObject) { o.Spec.PKIXPublicKey = make([]byte, csr.MaxRequestBytes+1) }), csr.ReasonRequestTooLarge, public},
		{"a proof that is too long", other(testKey, "pod-uid", func(o *podObject) { o.Spec.ProofOfPossession = make([]byte, csr.MaxRequestBytes+1) }), csr.ReasonRequestTooLarge, possession},
		{"a public key with bytes behind it", other(testKey, "pod-uid", func(o *podObject) { o.Spec.PKIXPublicKey = append(o.Spec.PKIXPublicKey, 0) }), csr.ReasonKeyMalformed, public},
		{"a short public key", other(small, "pod-uid", nil), csr.ReasonUnsupportedKeyType, public},
		{"a public key on a curve that is not allowed", other(p224, "pod-uid", nil), csr.ReasonUnsupportedKeyType, public},
		{"a proof for another pod, Ed25519", other(testKey, "uid-of-another", nil), csr.ReasonSignatureDoesNotVerify, possession},
		{"a proof for another pod, ECDSA", other(p256, "uid-of-another", nil), csr.ReasonSignatureDoesNotVerify, possession},
		{"a proof for another pod, RSA", other(keys["RSA"], "uid-of-another", nil), csr.ReasonSignatureDoesNotVerify, possession},
		{"a proof by another key", other(testKey, "pod-uid", func(o *podObject) { o.Spec.ProofOfPossession = ed25519.Sign(foreign, []byte("pod-uid")) }), csr.ReasonSignatureDoesNotVerify, possession},
	}
}

func TestParsePodRefuses(t *testing.T) {
	for _, c := range hostilePods(t) {
		t.Run(c.name, func(t *testing.T) {
			object := podRequest(raw{}.der())
			c.change(object)
			_, err := csr.ParsePod(object)
			refusal := checkRefusal(t, err)
			if refusal == nil || refusal.Reason != c.reason || refusal.Field != c.field {
				t.Errorf("got %+v, want %s at %s", refusal, c.reason, c.field)
			}
		})
	}
}

// The reason for a key that is not supported is one that kubelets and people know.
func TestReasonsThatKubernetesKnows(t *testing.T) {
	if csr.ReasonUnsupportedKeyType != certificatesv1.PodCertificateRequestConditionUnsupportedKeyType {
		t.Errorf("%q is not Kubernetes' %q", csr.ReasonUnsupportedKeyType, certificatesv1.PodCertificateRequestConditionUnsupportedKeyType)
	}
}

// FuzzParsePod writes arbitrary bytes into all fields of a key. What is accepted is a key whose owner proved to have it, and says nothing else.
//
//nolint:staticcheck // kubelets before 1.36 know the older form of the key only
func FuzzParsePod(f *testing.F) {
	good := withPublicKey(f, testKey, "pod-uid")
	f.Add(raw{}.der(), []byte(nil), []byte(nil), "pod-uid")
	f.Add([]byte(nil), good.Spec.PKIXPublicKey, good.Spec.ProofOfPossession, "pod-uid")
	f.Add(raw{subject: sequence(tlv(tagSet, attribute(oidCN, tagUTF8, "admin")))}.der(), []byte(nil), []byte(nil), "pod-uid")
	f.Fuzz(func(t *testing.T, stub, public, proof []byte, uid string) {
		object := podRequest(stub)
		object.Spec.PKIXPublicKey, object.Spec.ProofOfPossession, object.Spec.PodUID = public, proof, types.UID(uid)
		req, err := csr.ParsePod(object)
		if err != nil {
			_ = checkRefusal(t, err)
			return
		}
		if !req.ForPod || req.DER != nil || len(req.DNSNames)+len(req.URIs)+len(req.IPAddresses)+len(req.EmailAddresses)+len(req.Usages) > 0 || req.IsCA || !reflect.DeepEqual(req.Subject, pkix.Name{}) {
			t.Fatalf("it says more than a key: %+v", req)
		}
		der, err := x509.MarshalPKIXPublicKey(req.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		if len(stub) == 0 {
			if !bytes.Equal(der, public) {
				t.Fatalf("the key is %x, given was %x", der, public)
			}
			return
		}
		other, err := x509.ParseCertificateRequest(stub)
		if err != nil || other.CheckSignature() != nil || len(other.Extensions) > 0 || other.Subject.String() != "" || !bytes.Equal(other.RawSubjectPublicKeyInfo, der) {
			t.Fatalf("crypto/x509 sees another stub: %+v, %v", other, err)
		}
	})
}

// The message of a refusal repeats little of what a stranger wrote.
func TestPodRefusalsAreShort(t *testing.T) {
	object := podRequest(raw{}.der())
	object.Spec.ServiceAccountName = strings.Repeat("\x1b[31m:", 1000)
	_, err := csr.ParsePod(object)
	if refusal := checkRefusal(t, err); refusal == nil || len(refusal.Error()) > 300 {
		t.Errorf("got %v", err)
	}
}
