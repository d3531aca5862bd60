// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package venafitest stands in for servers that cannot be had for tests: Venafi Trust Protection Platform (TPP) and Venafi as a
// Service (Cloud). It follows what their makers document, and what the open-source client VCert and its tests record of real
// servers: paths, fields, statuses, errors in status lines. It refuses what those refuse: fields that it does not know, tokens that
// are no longer good, zones that there are not, names that a policy does not allow.
//
// Behind both is a CA with a root and an intermediate, whose certificates all have the same usages.
package venafitest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certwright/certwright/signer"
	certificatesv1 "k8s.io/api/certificates/v1"
)

// CADown are the server's words of a CA that it cannot reach.
const CADown = "Cannot connect to the certificate authority (CA)."

// Usages are those of all certificates.
var Usages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth}

// CA is the one behind a server, and what a person or a broken machine makes of it.
type CA struct {
	Root *x509.Certificate

	intermediate *x509.Certificate
	key          crypto.Signer

	mu     sync.Mutex
	issued int

	domains                              []string // all that DNS names may be in, if there are any
	noURIs, noIPs, noEmails, noWildcards bool
	approval, rejecting                  bool
	failure                              string
	wait                                 int
}

func newCA(t testing.TB) *CA {
	t.Helper()
	rootKey, key := newKey(t), newKey(t)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Venafi test root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	middle := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Venafi test CA"}, NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	rootCert := sign(t, root, root, rootKey.Public(), rootKey)
	return &CA{Root: rootCert, intermediate: sign(t, middle, rootCert, key.Public(), rootKey), key: key}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Set changes what the server does from now on.
func (c *CA) Set(settings ...func(*CA)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range settings {
		s(c)
	}
}

// Settings of a CA.
var (
	Approval    = func(on bool) func(*CA) { return func(c *CA) { c.approval = on } }        // a person must approve
	Rejecting   = func(on bool) func(*CA) { return func(c *CA) { c.rejecting = on } }       // and does not
	Failing     = func(words string) func(*CA) { return func(c *CA) { c.failure = words } } // the CA fails the server, which says so
	Domains     = func(d ...string) func(*CA) { return func(c *CA) { c.domains = d } }
	NoURIs      = func(c *CA) { c.noURIs = true }
	NoIPs       = func(c *CA) { c.noIPs = true }
	NoEmails    = func(c *CA) { c.noEmails = true }
	NoWildcards = func(c *CA) { c.noWildcards = true }
	// Wait is how often a new request is asked for before there is a certificate.
	Wait = func(times int) func(*CA) { return func(c *CA) { c.wait = times } }
)

// Issued returns how many certificates the CA has signed.
func (c *CA) Issued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.issued
}

// violations says what of a request the policy does not allow, by the names that TPP has for attributes.
func (c *CA) violations(req *x509.CertificateRequest) map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[string]string{}
	for _, n := range req.DNSNames {
		if len(c.domains) > 0 && !slices.ContainsFunc(c.domains, func(d string) bool { return n == d || strings.HasSuffix(n, "."+d) }) {
			found["SubjAltNameDns"] = n + " is not in the list of allowed domains"
		}
		if c.noWildcards && strings.HasPrefix(n, "*.") {
			found["WildcardsAllowed"] = "wildcards are not allowed: " + n
		}
	}
	if c.noURIs && len(req.URIs) > 0 {
		found["SubjAltNameUri"] = "URI is not an allowed type of subject alternative name"
	}
	if c.noIPs && len(req.IPAddresses) > 0 {
		found["SubjAltNameIp"] = "IP is not an allowed type of subject alternative name"
	}
	if c.noEmails && len(req.EmailAddresses) > 0 {
		found["SubjAltNameEmail"] = "email is not an allowed type of subject alternative name"
	}
	if _, isEd25519 := req.PublicKey.(ed25519.PublicKey); isEd25519 {
		found["KeyAlgorithm"] = "key algorithm Ed25519 is not allowed"
	}
	return found
}

// issue signs a request. It returns the chain in PEM, the root last.
func (c *CA) issue(req *x509.CertificateRequest, notAfter time.Time) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure != "" {
		return "", errors.New(c.failure)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 150))
	if err != nil {
		return "", err
	}
	spki, err := x509.MarshalPKIXPublicKey(req.PublicKey)
	if err != nil {
		return "", err
	}
	id := sha256.Sum256(spki)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, RawSubject: req.RawSubject, NotBefore: time.Now().Add(-time.Minute), NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, SubjectKeyId: id[:20],
		DNSNames: req.DNSNames, IPAddresses: req.IPAddresses, URIs: req.URIs, EmailAddresses: req.EmailAddresses,
	}, c.intermediate, req.PublicKey, c.key)
	if err != nil {
		return "", err
	}
	c.issued++
	text := ""
	for _, cert := range [][]byte{der, c.intermediate.Raw, c.Root.Raw} {
		text += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	}
	return text, nil
}

// serve serves HTTPS until the test ends, and returns where, and its certificate in PEM.
func serve(t testing.TB, handler http.Handler, clients tls.ClientAuthType) (url, ca string) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: clients}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that went away
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL, string(signer.EncodePEM(server.Certificate()))
}

// pending is a request that the server works on.
type pending struct {
	req      *x509.CertificateRequest
	notAfter time.Time
	wait     int
	approve  bool // a person must
	reject   bool
	chain    string
	failure  string // the certificate object is in an error state
}

func (c *CA) begin(req *x509.CertificateRequest, notAfter time.Time) *pending {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &pending{req: req, notAfter: notAfter, wait: c.wait, approve: c.approval}
}

// step goes on with a request as far as it can.
func (c *CA) step(p *pending) (done bool) {
	c.mu.Lock()
	waiting := p.approve && c.approval
	p.reject = p.reject || p.approve && c.rejecting
	c.mu.Unlock()
	switch {
	case p.chain != "":
		return true
	case p.failure != "" || p.reject || waiting:
		return false
	case p.wait > 0:
		p.wait--
		return false
	}
	made, err := c.issue(p.req, p.notAfter)
	if err != nil {
		p.failure = "Post CSR failed with error: " + err.Error()
		return false
	}
	p.chain = made
	return true
}

// parse reads a PKCS #10 request in PEM.
func parse(text string) (*x509.CertificateRequest, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || len(rest) > 0 || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("PKCS10 cannot be parsed")
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	return req, req.CheckSignature()
}

// read decodes the JSON of a request, and refuses fields that are not known.
func read(r *http.Request, into any) error {
	if r.Header.Get("Content-Type") != "application/json" {
		return fmt.Errorf("the content type is %q", r.Header.Get("Content-Type"))
	}
	d := json.NewDecoder(io.LimitReader(r.Body, 1<<20))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// writeLine answers with words in the status line and no body, as TPP does in places.
func writeLine(w http.ResponseWriter, status int, words string) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		w.WriteHeader(status)
		return
	}
	defer conn.Close()
	fmt.Fprintf(buffered, "HTTP/1.1 %d %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status, words)
	_ = buffered.Flush()
}
