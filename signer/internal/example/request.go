// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package example

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"net/url"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

// SignerName is whom the request is for.
const SignerName = "example.com/internal"

// Approved returns the request web, which asks for a name of every kind and is approved. The change is made before it is signed.
func Approved(t testing.TB, change func(*x509.CertificateRequest)) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	spiffe, _ := url.Parse("spiffe://cluster.local/ns/shop/sa/web")
	template := &x509.CertificateRequest{
		Subject:        pkix.Name{CommonName: "web", Organization: []string{"shop"}},
		DNSNames:       []string{"web.example.com", "*.apps.example.com"},
		IPAddresses:    []net.IP{net.ParseIP("10.1.2.3").To4(), net.ParseIP("fd00::1")},
		URIs:           []*url.URL{spiffe},
		EmailAddresses: []string{"ops@example.com"},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, Key)
	if err != nil {
		t.Fatal(err)
	}
	return &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "uid-1", CreationTimestamp: metav1.NewTime(Now)},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			SignerName: SignerName,
			Username:   "alice",
			Usages:     []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth},
		},
		Status: certificatesv1.CertificateSigningRequestStatus{Conditions: []certificatesv1.CertificateSigningRequestCondition{
			{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Test"},
		}},
	}
}

// Request returns what the parser makes of Approved, with other usages if there are any.
func Request(t testing.TB, usages []certificatesv1.KeyUsage, change func(*x509.CertificateRequest)) csr.Request {
	t.Helper()
	object := Approved(t, change)
	if usages != nil {
		object.Spec.Usages = usages
	}
	req, err := csr.Parse(object)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// Granted returns the request as a backend gets it, with a lifetime of an hour.
func Granted(t testing.TB) csr.Request {
	t.Helper()
	return Request(t, nil, nil).WithDuration(time.Hour)
}

// Signer returns the Signer of SignerName with these backends.
func Signer(backends ...string) *v1alpha1.Signer {
	s := &v1alpha1.Signer{
		ObjectMeta: metav1.ObjectMeta{Name: "internal", UID: "signer-1", Generation: 1, CreationTimestamp: metav1.NewTime(Now)},
		Spec: v1alpha1.SignerSpec{SignerName: SignerName, Limits: v1alpha1.Limits{
			Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth},
		}},
	}
	for _, name := range backends {
		s.Spec.Backends = append(s.Spec.Backends, v1alpha1.Backend{Name: name, CA: &v1alpha1.CA{Managed: &v1alpha1.ManagedCA{}}})
	}
	return s
}

// Called gives a Signer another name, UID and age.
func Called(s *v1alpha1.Signer, name string, uid types.UID, age time.Duration) *v1alpha1.Signer {
	s.Name, s.UID, s.CreationTimestamp = name, uid, metav1.NewTime(Now.Add(-age))
	return s
}

// Policy returns a policy that lets alice have all that Approved asks for.
func Policy() *v1alpha1.CertificatePolicy {
	return &v1alpha1.CertificatePolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "all", UID: "policy-1", Generation: 1},
		Spec: v1alpha1.CertificatePolicySpec{
			SignerNames: []string{SignerName},
			Requesters:  v1alpha1.Requesters{Users: []string{"alice"}},
			Allow: v1alpha1.Allow{
				DNSNames:       []string{"*.example.com", "*.apps.example.com"},
				Wildcards:      true,
				URIs:           []string{"spiffe://{trustDomain}/ns/shop/sa/web"},
				IPAddresses:    []string{"10.0.0.0/8", "fd00::/8"},
				EmailAddresses: []string{"*@example.com"},
				CommonNames:    []string{"*"},
				Subject:        v1alpha1.Subject{Organizations: []string{"*"}},
				Usages: []certificatesv1.KeyUsage{
					certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth, certificatesv1.UsageCertSign,
				},
				Keys: []v1alpha1.Key{{Algorithm: v1alpha1.ECDSA}},
			},
		},
	}
}
