// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package venafi_test

import (
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/url"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/signertest"
	"github.com/certwright/certwright/signer/venafi/venafitest"
)

// What waits is asked for again, and bought once, whoever asks.
func TestTPPWaits(t *testing.T) {
	s := venafitest.NewTPP(t)
	s.Set(venafitest.Wait(1))
	w := newWorld(t, passwordSecret())
	req := request(t, dns("web.example.com"))
	_, err := w.backend(tppConfig(s), clock.RealClock{}).Sign(t.Context(), req)
	signertest.WantError(t, err, "pending 5s", `stage 500: "Post CSR"`)

	restarted := w.backend(tppConfig(s), clock.RealClock{})
	first, second := mustSign(t, restarted, req), mustSign(t, restarted, req)
	if s.Requests() != 1 || s.Issued() != 1 || !first[0].Equal(second[0]) {
		t.Errorf("%d requests made %d certificates, want 1 and the same again", s.Requests(), s.Issued())
	}
	if len(first) != 2 || first[1].CheckSignatureFrom(s.Root) != nil {
		t.Errorf("the chain has %d certificates, want the leaf and the intermediate", len(first))
	}
}

// The same bytes asked for in another Kubernetes request, or with another lifetime, are another order.
func TestTPPOrdersAnew(t *testing.T) {
	s := venafitest.NewTPP(t)
	b := newWorld(t, passwordSecret()).backend(tppConfig(s), clock.RealClock{})
	req := request(t, dns("web.example.com"))
	first := mustSign(t, b, req)
	later := req
	later.UID = "1d2f0a52-0f0c-4f0e-9f0e-2f3a7c1d9b11"
	second := mustSign(t, b, later)
	third := mustSign(t, b, req.WithDuration(30*time.Minute))
	if first[0].Equal(second[0]) || first[0].Equal(third[0]) || s.Issued() != 3 {
		t.Errorf("%d certificates were issued, want 3", s.Issued())
	}
	if life := time.Until(third[0].NotAfter); life > 30*time.Minute {
		t.Errorf("the third lives %s, longer than granted", life)
	}
}

func TestTPPApproval(t *testing.T) {
	s := venafitest.NewTPP(t)
	s.Set(venafitest.Approval(true))
	b := newWorld(t, passwordSecret()).backend(tppConfig(s), clock.RealClock{})
	approved, rejected := request(t, dns("a.example.com")), request(t, dns("b.example.com"))
	for range 2 {
		_, err := b.Sign(t.Context(), approved)
		signertest.WantError(t, err, "pending 1m0s", "Pending workflow resolution")
	}
	s.Set(venafitest.Approval(false))
	mustSign(t, b, approved)

	s.Set(venafitest.Approval(true))
	_, err := b.Sign(t.Context(), rejected)
	signertest.WantError(t, err, "pending 1m0s", "workflow")
	s.Set(venafitest.Rejecting(true))
	_, err = b.Sign(t.Context(), rejected)
	signertest.WantError(t, err, "permanent", "Workflow ticket was rejected by local:approver")
	if s.Requests() != 2 {
		t.Errorf("%d requests, want 2", s.Requests())
	}
}

// An object in an error state would stay in it for ever.
func TestTPPResets(t *testing.T) {
	s := venafitest.NewTPP(t)
	s.Set(venafitest.Failing(venafitest.CADown))
	b := newWorld(t, passwordSecret()).backend(tppConfig(s), clock.RealClock{})
	req := request(t, dns("web.example.com"))
	_, err := b.Sign(t.Context(), req)
	signertest.WantError(t, err, "request", "Cannot connect to the certificate authority")
	_, err = b.Sign(t.Context(), req)
	signertest.WantError(t, err, "request", "it was told to try again")
	s.Set(venafitest.Failing(""))
	mustSign(t, b, req)
	if s.Requests() != 1 {
		t.Errorf("%d requests, want 1", s.Requests())
	}
}

// Words of a CA that rejects the server itself are nobody's verdict on a request.
func TestTPPRejectedByItsCA(t *testing.T) {
	s := venafitest.NewTPP(t)
	s.Set(venafitest.Failing("the certificate authority rejected the credentials"))
	b := newWorld(t, passwordSecret()).backend(tppConfig(s), clock.RealClock{})
	req := request(t, dns("web.example.com"))
	_, err := b.Sign(t.Context(), req)
	signertest.WantError(t, err, "request", "rejected the credentials")
	s.Set(venafitest.Failing(""))
	mustSign(t, b, req)
}

func TestTPPForbids(t *testing.T) {
	s := venafitest.NewTPP(t)
	s.Set(venafitest.Domains("example.com"), venafitest.NoURIs, venafitest.NoIPs, venafitest.NoEmails, venafitest.NoWildcards)
	b := newWorld(t, passwordSecret()).backend(tppConfig(s), clock.RealClock{})
	spiffe := &url.URL{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/shop/sa/web"}
	for name, c := range map[string]struct {
		template *x509.CertificateRequest
		says     []string
	}{
		"domain":   {dns("web.example.org"), []string{"SubjAltNameDns", "web.example.org is not in the list of allowed domains"}},
		"wildcard": {dns("*.example.com"), []string{"dnsNames", "wildcards are not allowed"}},
		"URI":      {&x509.CertificateRequest{URIs: []*url.URL{spiffe}}, []string{"uris", "URI is not an allowed type"}},
		"IP":       {&x509.CertificateRequest{IPAddresses: []net.IP{net.IPv4(198, 18, 0, 1)}}, []string{"ipAddresses", "IP is not"}},
		"email":    {&x509.CertificateRequest{EmailAddresses: []string{"ops@example.com"}}, []string{"emailAddresses", "email is not"}},
		"CA":       {signertest.CARequest("CA"), []string{"isCA"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.Sign(t.Context(), request(t, c.template))
			for _, words := range c.says {
				signertest.WantError(t, err, "permanent", words)
			}
		})
	}
	if s.Issued() != 0 {
		t.Errorf("%d certificates were issued", s.Issued())
	}
	mustSign(t, b, request(t, dns("web.example.com")))
}

// What a person has configured wrongly is trouble, and the reason says what to do.
func TestTPPMisconfigured(t *testing.T) {
	s, narrow := venafitest.NewTPP(t), venafitest.NewTPP(t)
	narrow.WithoutScope()
	password := map[string]string{"username": venafitest.TPPUser, "password": venafitest.TPPPassword}
	for name, c := range map[string]struct {
		server       *venafitest.TPP
		change       func(*v1alpha1.VenafiTPP)
		data         map[string]string
		reason, says string
	}{
		"zone":            {s, func(c *v1alpha1.VenafiTPP) { c.Zone = "Elsewhere" }, password, "ZoneUnknown", `venafi.tpp.zone`},
		"whole zone":      {s, func(c *v1alpha1.VenafiTPP) { c.Zone = venafitest.TPPZone }, password, "none", ""},
		"client ID":       {s, func(c *v1alpha1.VenafiTPP) { c.ClientID = "other" }, password, "CredentialsRefused", `API integration "other"`},
		"password":        {s, nil, map[string]string{"username": venafitest.TPPUser, "password": "wrong"}, "CredentialsRefused", "not valid"},
		"scope":           {narrow, nil, password, "PermissionDenied", "User is not authorized for the requested scope"},
		"half of it":      {s, nil, map[string]string{"username": venafitest.TPPUser}, "SecretIncomplete", "0 are there"},
		"too much":        {s, nil, map[string]string{"username": "a", "password": "b", "access-token": "c"}, "SecretIncomplete", "2 are there"},
		"broken key":      {s, nil, map[string]string{"tls.crt": "a", "tls.key": "b"}, "SecretInvalid", "tls.crt and tls.key"},
		"stranger's cert": {s, nil, strangersPair(t), "CredentialsRefused", "not mapped to an identity"},
		"no Secret":       {s, func(c *v1alpha1.VenafiTPP) { c.CredentialsRef.Name = "other" }, nil, "SecretNotFound", "create it"},
	} {
		t.Run(name, func(t *testing.T) {
			config := tppConfig(c.server)
			if c.change != nil {
				c.change(config.TPP)
			}
			b := newWorld(t, secret("tpp", c.data)).backend(config, clock.RealClock{})
			signertest.WantError(t, b.Check(t.Context()), c.reason, c.says)
			if c.reason == "ZoneUnknown" {
				return // as Sign asks for the certificate first, and learns it from the request
			}
			_, err := b.Sign(t.Context(), request(t, dns("web.example.com")))
			signertest.WantError(t, err, c.reason, c.says)
		})
	}
}

// A request to a zone that is gone is no fault of the request.
func TestTPPZoneGone(t *testing.T) {
	s := venafitest.NewTPP(t)
	config := tppConfig(s)
	config.TPP.Zone = "Elsewhere"
	_, err := newWorld(t, passwordSecret()).backend(config, clock.RealClock{}).Sign(t.Context(), request(t, dns("web.example.com")))
	signertest.WantError(t, err, "ZoneUnknown", "does not exist")
}

func strangersPair(t *testing.T) map[string]string {
	key := signertest.Key(t, "ECDSA-P256")
	return map[string]string{corev1.TLSCertKey: pemBlock("CERTIFICATE", newClientCertificate(t, key)), corev1.TLSPrivateKeyKey: pemKey(t, key)}
}

func pemBlock(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
