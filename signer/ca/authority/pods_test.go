// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package authority_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca/authority"
)

// TestValidityForPods: a pod's certificate begins now, and all of its life is what was granted; where the CA's end leaves it too short for
// the API server, that is the request's trouble, as others are still signed.
func TestValidityForPods(t *testing.T) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 500_000_000, time.UTC)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pod, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	start := now.Truncate(time.Second).Add(-csr.MaxPodBackdate)
	for name, c := range map[string]struct {
		caFrom, caUntil, duration time.Duration
		before, after             time.Time
		trouble                   bool
	}{
		"an hour":                     {-time.Hour, 48 * time.Hour, time.Hour, start, start.Add(time.Hour), false},
		"a day":                       {-time.Hour, 48 * time.Hour, 24 * time.Hour, start, start.Add(24 * time.Hour), false},
		"longer than the CA":          {-time.Hour, 48 * time.Hour, 91 * 24 * time.Hour, start, now.Add(48 * time.Hour).Truncate(time.Second), false},
		"a CA that was made just now": {-10 * time.Second, 48 * time.Hour, time.Hour, now.Add(-10 * time.Second).Truncate(time.Second), now.Add(-10*time.Second + time.Hour).Truncate(time.Second), false},
		"a CA that ends too soon":     {-time.Hour, 59 * time.Minute, 24 * time.Hour, time.Time{}, time.Time{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			template := &x509.Certificate{
				SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotBefore: now.Add(c.caFrom), NotAfter: now.Add(c.caUntil),
				KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true, SubjectKeyId: []byte{1},
			}
			der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
			if err != nil {
				t.Fatal(err)
			}
			root, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			a, err := authority.New([]*x509.Certificate{root}, []*x509.Certificate{root}, key)
			if err != nil {
				t.Fatal(err)
			}
			req := csr.Request{
				PublicKey: pod.Public(), DNSNames: []string{"web.shop.svc"}, ForPod: true, Duration: c.duration,
				Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth},
			}
			leaf, err := a.Issue(req, now, rand.Reader, key, authority.URLs{})
			if c.trouble {
				var own *signer.RequestError
				if !errors.As(err, &own) {
					t.Errorf("got %v, want a *signer.RequestError", err)
				}
				return
			}
			if err != nil || !leaf.NotBefore.Equal(c.before) || !leaf.NotAfter.Equal(c.after) {
				t.Errorf("valid from %s to %s, error %v, want %s to %s", leaf.NotBefore, leaf.NotAfter, err, c.before, c.after)
			}
		})
	}
}
