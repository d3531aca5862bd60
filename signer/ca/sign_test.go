// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer/ca"
	"github.com/certwright/certwright/signer/ca/authority"
	"github.com/certwright/certwright/signer/signertest"
)

func TestValidity(t *testing.T) {
	root := newIssuer(t, "Root", "ECDSA-P256", nil, func(c *x509.Certificate) { c.NotAfter = start.Add(48 * time.Hour) })
	young := newIssuer(t, "Young", "ECDSA-P256", root, func(c *x509.Certificate) { c.NotBefore = start.Add(-time.Minute) })
	for name, c := range map[string]struct {
		duration    time.Duration
		before, end time.Time
	}{
		"as granted":          {time.Hour, start.Add(-time.Minute), start.Add(time.Hour)},
		"clamped to the root": {1000 * time.Hour, start.Add(-time.Minute), root.cert.NotAfter},
	} {
		t.Run(name, func(t *testing.T) {
			leaf := newWorld(t, importedCA(), false, tlsSecret(t, young.key, young, root)).mustSign(c.duration)[0]
			if !leaf.NotBefore.Equal(c.before.Truncate(time.Second)) || !leaf.NotAfter.Equal(c.end.Truncate(time.Second)) {
				t.Errorf("valid from %s to %s, want %s to %s", leaf.NotBefore, leaf.NotAfter, c.before, c.end)
			}
		})
	}
	t.Run("backdated", func(t *testing.T) {
		leaf := newWorld(t, importedCA(), false, tlsSecret(t, root.key, root)).mustSign(time.Hour)[0]
		if want := start.Add(-authority.Backdate).Truncate(time.Second); !leaf.NotBefore.Equal(want) {
			t.Errorf("notBefore is %s, want %s", leaf.NotBefore, want)
		}
	})
	t.Run("without duration", func(t *testing.T) {
		_, err := newWorld(t, importedCA(), false, tlsSecret(t, root.key, root)).sign(0)
		wantTrouble(t, err)
	})
}

func TestRefusedForGood(t *testing.T) {
	web := func() *x509.CertificateRequest {
		return &x509.CertificateRequest{DNSNames: []string{"web.example.com"}}
	}
	certSign := []certificatesv1.KeyUsage{certificatesv1.UsageCertSign}
	limited := func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical = true
		c.PermittedDNSDomains = []string{"internal.example.com"}
		c.ExcludedDNSDomains = []string{"secret.internal.example.com"}
		c.PermittedIPRanges = []*net.IPNet{{IP: net.IPv4(198, 18, 0, 0).To4(), Mask: net.CIDRMask(15, 32)}}
		c.PermittedURIDomains = []string{"cluster.local"}
		c.PermittedEmailAddresses = []string{"example.com"}
	}
	for name, c := range map[string]struct {
		spoil    func(*x509.Certificate)
		template *x509.CertificateRequest
		usages   []certificatesv1.KeyUsage
		isCA     bool
		text     string
	}{
		"DNS name outside":         {limited, web(), nil, false, `"web.example.com" is not permitted by any constraint; permitted DNS domains: internal.example.com`},
		"DNS name excluded":        {limited, &x509.CertificateRequest{DNSNames: []string{"a.secret.internal.example.com"}}, nil, false, `excluded by constraint "secret.internal.example.com"`},
		"IP address outside":       {limited, &x509.CertificateRequest{IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}}, nil, false, "permitted IP ranges: 198.18.0.0/15"},
		"SPIFFE ID outside":        {limited, &x509.CertificateRequest{URIs: []*url.URL{{Scheme: "spiffe", Host: "evil.example", Path: "/a"}}}, nil, false, "permitted URI domains: cluster.local"},
		"email outside":            {limited, &x509.CertificateRequest{EmailAddresses: []string{"a@evil.example"}}, nil, false, "permitted email addresses: example.com"},
		"CA not allowed":           {nil, signertest.CARequest("Sub"), certSign, false, "limits allow no CA certificates"},
		"path length used up":      {func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }, signertest.CARequest("Sub"), certSign, true, "path length"},
		"CA without cert sign":     {nil, signertest.CARequest("Sub"), nil, true, `"cert sign"`},
		"cert sign without CA":     {nil, web(), certSign, true, `"cert sign"`},
		"CA with an empty subject": {nil, signertest.CARequest(""), certSign, true, "must not be empty"},
		"the CA's own subject":     {nil, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Root"}}, nil, false, "that of the CA itself"},
		"nothing":                  {nil, &x509.CertificateRequest{}, nil, false, "names nothing"},
		"usage beyond the CA's":    {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, web(), nil, false, "extended key usages"},
	} {
		t.Run(name, func(t *testing.T) {
			root := newIssuer(t, "Root", "ECDSA-P256", nil, c.spoil)
			w := newWorld(t, importedCA(), c.isCA, tlsSecret(t, root.key, root))
			_, err := w.Sign(t.Context(), signertest.Request(t, signertest.Key(t, "ECDSA-P256"), c.template, c.usages, time.Hour))
			wantPermanent(t, err)
			if err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want it to say %q", err, c.text)
			}
		})
	}
	t.Run("within all constraints", func(t *testing.T) {
		root := newIssuer(t, "Root", "ECDSA-P256", nil, limited)
		w := newWorld(t, importedCA(), false, tlsSecret(t, root.key, root))
		req := signertest.Request(t, signertest.Key(t, "ECDSA-P256"), &x509.CertificateRequest{
			DNSNames: []string{"web.internal.example.com"}, IPAddresses: []net.IP{net.IPv4(198, 18, 0, 1)},
			URIs: []*url.URL{{Scheme: "spiffe", Host: "cluster.local", Path: "/a"}}, EmailAddresses: []string{"a@example.com"},
		}, nil, time.Hour)
		if _, err := w.Sign(t.Context(), req); err != nil {
			t.Error(err)
		}
	})
	t.Run("the CA's own key", func(t *testing.T) {
		root := newIssuer(t, "Root", "ECDSA-P256", nil, nil)
		_, err := newWorld(t, importedCA(), false, tlsSecret(t, root.key, root)).Sign(t.Context(), signertest.Request(t, root.key, web(), nil, time.Hour))
		wantPermanent(t, err)
	})
}

// Whatever a caller leaves in the fields that have no meaning does not reach the certificate.
func TestBuiltFromFields(t *testing.T) {
	root := newIssuer(t, "Root", "ECDSA-P256", nil, nil)
	w := newWorld(t, importedCA(), false, tlsSecret(t, root.key, root))
	req := signertest.Request(t, signertest.Key(t, "ECDSA-P256"), &x509.CertificateRequest{DNSNames: []string{"planted.example.com"}}, nil, time.Hour)
	req.DNSNames = []string{"web.example.com"}
	req.Subject = pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: []int{2, 5, 4, 3}, Value: "planted"}}}
	req.Subject.Names = req.Subject.ExtraNames
	chain, err := w.Sign(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if chain[0].Subject.String() != "" || len(chain[0].DNSNames) != 1 || chain[0].DNSNames[0] != "web.example.com" {
		t.Errorf("subject %s, DNS names %q", chain[0].Subject, chain[0].DNSNames)
	}
	req.PublicKey = nil
	_, err = w.Sign(t.Context(), req)
	wantPermanent(t, err)
}

func TestReload(t *testing.T) {
	root := newIssuer(t, "Root", "ECDSA-P256", nil, nil)
	one, two := newIssuer(t, "One", "ECDSA-P256", root, nil), newIssuer(t, "Two", "RSA-2048", root, nil)
	future := newIssuer(t, "Future", "ECDSA-P256", root, func(c *x509.Certificate) { c.NotBefore = start.Add(time.Hour) })
	put := func(i *issuer, key crypto.Signer) func(map[string][]byte) {
		return func(d map[string][]byte) { d["tls.crt"], d["tls.key"] = pemCerts(i, root), pemKey(t, key) }
	}
	w := newWorld(t, importedCA(), false, tlsSecret(t, one.key, one, root))
	steps := []struct {
		name   string
		do     func()
		issuer string
		reason string
	}{
		{"good", func() {}, "One", ""},
		{"half written", func() { w.change(imported, put(two, one.key)) }, "One", "ServingLastGoodCA"},
		{"whole", func() { w.change(imported, put(two, two.key)) }, "Two", ""},
		{"emptied", func() { w.change(imported, func(d map[string][]byte) { clear(d) }) }, "Two", "ServingLastGoodCA"},
		{"not valid yet", func() { w.change(imported, func(d map[string][]byte) { d["x"] = nil; put(future, future.key)(d) }) }, "Two", "ServingLastGoodCA"},
		{"valid now", func() { w.clock.Step(time.Hour) }, "Future", ""},
		{"deleted", func() {
			if err := w.client.Delete(t.Context(), w.secret(imported)); err != nil {
				t.Fatal(err)
			}
		}, "", "SecretNotFound"},
	}
	for _, s := range steps {
		s.do()
		chain, err := w.sign(time.Hour)
		switch {
		case s.issuer == "":
			wantTrouble(t, err)
		case err != nil:
			t.Fatalf("%s: %v", s.name, err)
		case chain[0].Issuer.CommonName != s.issuer:
			t.Errorf("%s: signed by %s, want %s", s.name, chain[0].Issuer, s.issuer)
		}
		if err := w.Check(t.Context()); s.reason == "" && err != nil {
			t.Errorf("%s: Check: %v", s.name, err)
		} else if s.reason != "" {
			wantReason(t, err, s.reason)
		}
	}
}

func TestLastGoodServesNoLongerThanItIsValid(t *testing.T) {
	root := newIssuer(t, "Root", "ECDSA-P256", nil, func(c *x509.Certificate) { c.NotAfter = start.Add(time.Hour) })
	w := newWorld(t, importedCA(), false, tlsSecret(t, root.key, root))
	w.mustSign(time.Hour)
	w.change(imported, func(d map[string][]byte) { d["tls.key"] = []byte("garbage") })
	w.mustSign(time.Hour)
	w.clock.Step(time.Hour)
	_, err := w.sign(time.Hour)
	wantTrouble(t, err)
	wantReason(t, w.Check(t.Context()), "KeyInvalid")
}

// Certificates are signed by the CA that they name, whatever happens to the Secret meanwhile.
func TestSecretSwappedMidFlight(t *testing.T) {
	root := newIssuer(t, "Root", "ECDSA-P256", nil, nil)
	issuers := []*issuer{newIssuer(t, "Zero", "ECDSA-P256", root, nil), newIssuer(t, "One", "ECDSA-P256", root, nil)}
	w := newWorld(t, importedCA(), false, tlsSecret(t, issuers[0].key, issuers[0], root))
	reqs := make([]csr.Request, 40)
	for i := range reqs {
		reqs[i] = signertest.Request(t, signertest.Key(t, "ECDSA-P256"), &x509.CertificateRequest{DNSNames: []string{"web.example.com"}}, nil, time.Hour)
	}
	var wg sync.WaitGroup
	for i, req := range reqs {
		if i%4 == 0 {
			wg.Go(func() {
				w.change(imported, func(d map[string][]byte) {
					n := issuers[i/4%2]
					d["tls.crt"], d["tls.key"] = pemCerts(n, root), pemKey(t, n.key)
				})
			})
		}
		wg.Go(func() {
			chain, err := w.Sign(t.Context(), req)
			if err != nil {
				t.Errorf("Sign: %v", err)
				return
			}
			by := map[string]*issuer{"Zero": issuers[0], "One": issuers[1]}[chain[0].Issuer.CommonName]
			if by == nil || chain[0].CheckSignatureFrom(by.cert) != nil {
				t.Errorf("the certificate names %s as its issuer, whose signature it does not bear", chain[0].Issuer)
			}
		})
	}
	wg.Wait()
}

func TestNewRefuses(t *testing.T) {
	w := newWorld(t, managed(), false)
	for name, c := range map[string]struct {
		change func(*ca.Options)
		text   string
	}{
		"no source":         {func(o *ca.Options) { o.CA = v1alpha1.CA{} }, "exactly one"},
		"both sources":      {func(o *ca.Options) { o.CA.SecretRef = &v1alpha1.SecretRef{Name: "x"} }, "exactly one"},
		"no secret name":    {func(o *ca.Options) { o.CA = v1alpha1.CA{SecretRef: &v1alpha1.SecretRef{}} }, "secretRef.name"},
		"unknown algorithm": {func(o *ca.Options) { o.CA.Managed.KeyAlgorithm = "DSA" }, `"DSA" is not one of ECDSA-P256`},
		"long common name":  {func(o *ca.Options) { o.CA.Managed.CommonName = strings.Repeat("n", 51) }, "commonName"},
		"short root":        {func(o *ca.Options) { o.CA.Managed.RootDuration.Duration = time.Minute }, "rootDuration 1m0s"},
		"short intermediate": {
			func(o *ca.Options) { o.CA.Managed.IntermediateDuration.Duration = time.Minute },
			"intermediateDuration 1m0s",
		},
		"no namespace": {func(o *ca.Options) { o.Namespace = "" }, "a namespace"},
		"no client":    {func(o *ca.Options) { o.Client = nil }, "client"},
	} {
		t.Run(name, func(t *testing.T) {
			o := ca.Options{Client: w.client, Reader: w.client, Namespace: namespace, Signer: "internal", SignerName: "example.com/internal", Backend: "local", CA: managed()}
			c.change(&o)
			if _, err := ca.New(o); err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("New: %v, want it to say %q", err, c.text)
			}
		})
	}
	t.Run("long signerName", func(t *testing.T) {
		b, err := ca.New(ca.Options{Client: w.client, Reader: w.client, Namespace: namespace, Signer: "internal", SignerName: "example.com/" + strings.Repeat("n", 500), Backend: "local", CA: managed()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Rotate(t.Context(), w.ask(nil, nil)); err != nil {
			t.Fatal(err)
		}
		anchors, err := b.TrustAnchors(t.Context())
		if err != nil || len(anchors[0].Subject.CommonName) > 64 {
			t.Errorf("%v, %v", anchors, err)
		}
	})
}
