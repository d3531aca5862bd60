// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"crypto/x509"
	"encoding/pem"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCertificateIsDecoded(t *testing.T) {
	t.Parallel()
	root := newRoot(t, "root")
	r, err := PEM("x", encode(root.issue(t, newKey(t), leaf())), nil, now)
	if err != nil {
		t.Fatal(err)
	}
	got := r.Certificates[0]
	if len(got.Fingerprint) != 64 {
		t.Errorf("fingerprint: got %q", got.Fingerprint)
	}
	got.Fingerprint = ""
	want := Certificate{
		Issuer: "CN=root", SerialNumber: "abcdef",
		DNSNames: []string{"web.shop.svc"}, URIs: []string{"spiffe://example.com/web"}, IPAddresses: []string{"10.0.0.7"}, EmailAddresses: []string{"ops@example.com"},
		Usages: []string{"digital signature", "server auth"}, Key: Key{Algorithm: "ECDSA", Size: 256},
		NotBefore: now.Add(-12 * time.Hour), NotAfter: now.Add(12 * time.Hour),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestChain(t *testing.T) {
	t.Parallel()
	root, other := newRoot(t, "root"), newRoot(t, "other")
	middle := root.sub(t, "middle", now.Add(-year), now.Add(year/2))
	cert := middle.issue(t, newKey(t), leaf())
	anchors := &Anchors{Source: "here", Certificates: []*x509.Certificate{root.cert}}
	for name, tc := range map[string]struct {
		chain    []*x509.Certificate
		anchors  *Anchors
		verified bool
		want     []string
	}{
		"leads to the bundle":      {[]*x509.Certificate{cert, middle.cert}, anchors, true, nil},
		"no bundle":                {[]*x509.Certificate{cert, middle.cert}, nil, false, nil},
		"intermediate is missing":  {[]*x509.Certificate{cert}, anchors, false, []string{"error: the chain does not lead to the trust bundle: certificate signed by unknown authority"}},
		"another bundle":           {[]*x509.Certificate{cert, middle.cert}, &Anchors{Source: "other", Certificates: []*x509.Certificate{other.cert}}, false, []string{"error: the chain does not lead"}},
		"in disorder":              {[]*x509.Certificate{cert, root.cert, middle.cert}, anchors, true, []string{"certificate 2 is not the issuer of certificate 1", "certificate 3 is not the issuer of certificate 2"}},
		"a trust bundle, no chain": {[]*x509.Certificate{root.cert, other.cert}, anchors, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := PEM("x", encode(tc.chain...), tc.anchors, now)
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Trust != nil && r.Trust.Verified; got != tc.verified {
				t.Errorf("verified: got %v, want %v", got, tc.verified)
			}
			if tc.verified && !slices.Equal(r.Trust.Path, []string{"web.shop.svc", "CN=middle", "CN=root"}) {
				t.Errorf("path: got %v", r.Trust.Path)
			}
			wantFindings(t, r, tc.want...)
			if want := strings.Contains(strings.Join(tc.want, ""), "error"); r.HasErrors() != want {
				t.Errorf("has errors: got %v, want %v", r.HasErrors(), want)
			}
		})
	}
}

func TestValidity(t *testing.T) {
	t.Parallel()
	root := newRoot(t, "root")
	for name, tc := range map[string]struct {
		notBefore, notAfter time.Duration
		want                []string
	}{
		"half over":          {-12 * time.Hour, 12 * time.Hour, nil},
		"a fifth left":       {-8 * time.Hour, 2 * time.Hour, nil},
		"renewal is overdue": {-8*time.Hour - time.Second, 2*time.Hour - time.Second, []string{"warning: web.shop.svc expires in 119m: it should have been renewed by now"}},
		"expires now":        {-time.Hour, 0, []string{"error: web.shop.svc expired 0s ago"}},
		"expired":            {-48 * time.Hour, -3 * time.Hour, []string{"error: web.shop.svc expired 3h ago"}},
		"not valid yet":      {2 * time.Hour, 4 * time.Hour, []string{"error: web.shop.svc is not valid yet: it will be in 120m"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			template := leaf()
			template.NotBefore, template.NotAfter = now.Add(tc.notBefore), now.Add(tc.notAfter)
			anchors := &Anchors{Source: "here", Certificates: []*x509.Certificate{root.cert}}
			r, err := PEM("x", encode(root.issue(t, newKey(t), template)), anchors, now)
			if err != nil {
				t.Fatal(err)
			}
			// That it is not valid now is told once, and apart from whether anyone trusts it.
			wantFindings(t, r, tc.want...)
			if !r.Trust.Verified {
				t.Errorf("trust: got %+v, want it verified for when it was valid", r.Trust)
			}
		})
	}
}

func TestOtherFindings(t *testing.T) {
	t.Parallel()
	root := newRoot(t, "root")
	nameless := leaf()
	nameless.DNSNames, nameless.URIs, nameless.IPAddresses, nameless.EmailAddresses = nil, nil, nil, nil
	soon := (*authority)(nil).sub(t, "soon", now.Add(-year), now.Add(29*24*time.Hour))
	young := (*authority)(nil).sub(t, "young", now.Add(-time.Hour), now.Add(29*24*time.Hour))
	key := newKey(t)
	for name, tc := range map[string]struct {
		text []byte
		want []string
	}{
		"a server without names":    {encode(root.issue(t, newKey(t), nameless)), []string{"warning: serial number abcdef has no subject alternative name"}},
		"a CA that expires soon":    {encode(soon.cert), []string{"warning: CN=soon is a CA that expires in 29d"}},
		"a CA of a short life":      {encode(young.cert), nil},
		"a key of its own":          {append(encode(root.issue(t, key, leaf())), encodeKey(t, key)...), nil},
		"a key of another":          {append(encode(root.issue(t, key, leaf())), encodeKey(t, newKey(t))...), []string{"error: the private key is not that of the certificate"}},
		"a key alone":               {encodeKey(t, key), []string{"warning: there is a private key and no certificate"}},
		"a request and its key":     {append(encodeRequest(t, key), encodeKey(t, key)...), nil},
		"a request and another key": {append(encodeRequest(t, key), encodeKey(t, newKey(t))...), []string{"error: the private key is not that of the request"}},
		"two requests":              {append(encodeRequest(t, key), encodeRequest(t, key)...), []string{"warning: 2 requests were found"}},
		"an encrypted key":          {[]byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"), []string{"PEM block 1: the private key is encrypted"}},
		"a broken key":              {[]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), []string{"PEM block 1: the private key does not parse"}},
		"a broken certificate":      {append(encode(root.cert), []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")...), []string{"PEM block 2: "}},
		"something else":            {[]byte("-----BEGIN X-----\nAAAA\n-----END X-----\n"), []string{`PEM block 1: type "X"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := PEM("x", tc.text, nil, now)
			if err != nil {
				t.Fatal(err)
			}
			wantFindings(t, r, tc.want...)
		})
	}
}

func TestPEMRefuses(t *testing.T) {
	t.Parallel()
	if _, err := PEM("x", []byte("hello"), nil, now); err == nil || !strings.Contains(err.Error(), "x: it holds no PEM block") {
		t.Errorf("no PEM: got %v", err)
	}
	if _, err := PEM("x", make([]byte, MaxBytes+1), nil, now); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("too much: got %v", err)
	}
	for name, text := range map[string][]byte{
		"nothing": {}, "a request": encodeRequest(t, newKey(t)), "a broken certificate": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE"}),
	} {
		if _, err := ParseAnchors("here", text); err == nil || !strings.Contains(err.Error(), "the trust bundle in here cannot be read") {
			t.Errorf("a trust bundle of %s: got %v", name, err)
		}
	}
}
