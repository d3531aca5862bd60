// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
)

// pair is a certificate and a key in PEM, as they stand in a Secret.
type pair struct{ crt, key []byte }

// name is the common name of the certificate.
func (p pair) name(s *story) string {
	s.Helper()
	block, _ := pem.Decode(p.crt)
	crt, err := x509.ParseCertificate(block.Bytes)
	s.must(err, "reading a certificate")
	return crt.Subject.CommonName
}

// newCA makes a self-signed certificate; change makes it differ from a good CA.
func (s *story) newCA(change func(*x509.Certificate)) pair {
	s.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.must(err, "making a key")
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: s.nextName() + " CA"},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	s.must(err, "making a CA")
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	s.must(err, "encoding a key")
	return pair{
		crt: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
	}
}

// caSecret makes a Secret in the namespace of Certwright.
func (s *story) caSecret(p pair) *corev1.Secret {
	s.Helper()
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: s.name}, Type: corev1.SecretTypeTLS, Data: p.data(),
	}
	s.make(secret)
	return secret
}

func (p pair) data() map[string][]byte {
	return map[string][]byte{corev1.TLSCertKey: p.crt, corev1.TLSPrivateKeyKey: p.key}
}

// bySecret has a Signer sign with the CA in the story's Secret.
func (s *story) bySecret(spec *v1alpha1.SignerSpec) {
	spec.Backends[0].CA = &v1alpha1.CA{SecretRef: &v1alpha1.SecretRef{Name: s.name}}
}

// A CA that is no good says what is wrong with it. Requests wait meanwhile, and are signed as soon as it is mended.
func TestInvariant5_ABrokenCAIsNoVerdict(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, reason string
		broken       func(s *story) pair
	}{
		{"KeyOfAnotherCertificate", "KeyMismatch", func(s *story) pair { return pair{crt: s.newCA(nil).crt, key: s.newCA(nil).key} }},
		{"NoCACertificate", "NotACA", func(s *story) pair { return s.newCA(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, 0 }) }},
		{"ExpiredCACertificate", "CAExpired", func(s *story) pair {
			return s.newCA(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
		}},
		{"NoSecret", "SecretNotFound", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := tell(t)
			someone := s.requester()
			s.policy(forPeople(someone))
			var secret *corev1.Secret
			if c.broken != nil {
				secret = s.caSecret(c.broken(s))
			}
			o := s.signerNotReady(s.bySecret)
			s.signerIs(o, metav1.ConditionFalse, c.reason)
			s.contains("the Signer's condition", o.Status.Conditions[0].Message, s.name)

			request := s.request(someone)
			s.becomes(request, certificatesv1.CertificateApproved, "PolicyPermits")
			s.warned(request, "NotSignedYet")
			s.refresh(request)
			if len(request.Status.Conditions) != 1 || len(request.Status.Certificate) != 0 {
				s.Errorf("the request does not wait: %+v", request.Status)
			}
			good := s.newCA(nil)
			if secret == nil {
				s.caSecret(good)
			} else {
				s.change(secret, func() { secret.Data = good.data() })
			}
			s.issued(request)
			s.signerIs(o, metav1.ConditionTrue, "Ready")
		})
	}
}

// A good CA in use is not given up for a broken one.
func TestInvariant9_AGoodCAIsNotReplacedByABrokenOne(t *testing.T) {
	t.Parallel()
	s := tell(t)
	someone := s.requester()
	s.policy(forPeople(someone))
	good := s.newCA(nil)
	secret := s.caSecret(good)
	o := s.signer(s.bySecret, func(spec *v1alpha1.SignerSpec) { spec.Backends[0].CA.TrustPropagation.Duration = time.Second })
	first := s.issued(s.request(someone))

	s.change(secret, func() { secret.Data[corev1.TLSCertKey] = s.newCA(nil).crt })
	s.signerIs(o, metav1.ConditionTrue, "Degraded")
	if b := o.Status.Backends[0]; b.Reason != "ServingLastGoodCA" {
		s.Errorf("the Signer says of its backend %+v, want that it serves with the last good CA", b)
	}
	second := s.issued(s.request(someone))
	if first.Issuer.String() != second.Issuer.String() {
		s.Errorf("the issuer was %s, and is now %s", first.Issuer, second.Issuer)
	}
	other := s.newCA(nil)
	s.change(secret, func() { secret.Data = other.data() })
	// The new one signs when everybody had time to learn of it.
	s.rotationIs(o, v1alpha1.RotationSigning, soon)
	s.signerIs(o, metav1.ConditionTrue, "Ready")
	if third := s.issued(s.request(someone)); third.Issuer.String() == first.Issuer.String() {
		s.Errorf("the new CA is not used: the issuer is still %s", third.Issuer)
	}
}
