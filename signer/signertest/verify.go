// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signertest

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
)

// Verifiers are those who verify certificates in the field: each says why a chain does not lead to the subject's anchors at the time of its
// clock. GnuTLS takes the time that it is.
func Verifiers() map[string]func(context.Context, Subject, []*x509.Certificate) error {
	return map[string]func(context.Context, Subject, []*x509.Certificate) error{"Go": verifyGo, "OpenSSL": verifyOpenSSL, "GnuTLS": verifyGnuTLS}
}

func verifyGo(_ context.Context, s Subject, chain []*x509.Certificate) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range s.Anchors {
		roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: s.Clock.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err
}

func verifyOpenSSL(ctx context.Context, s Subject, chain []*x509.Certificate) error {
	return withFiles(chain, s.Anchors, func(leaf, chain, anchors string) error {
		// The leaf is in the chain file too, where it does no harm.
		return run(ctx, "openssl", "verify", "-x509_strict", "-no-CApath", "-no-CAstore",
			"-attime", strconv.FormatInt(s.Clock.Now().Unix(), 10), "-CAfile", anchors, "-untrusted", chain, leaf)
	})
}

func verifyGnuTLS(ctx context.Context, s Subject, chain []*x509.Certificate) error {
	return withFiles(chain, s.Anchors, func(_, chain, anchors string) error {
		return run(ctx, "certtool", "--verify", "--load-ca-certificate", anchors, "--infile", chain)
	})
}

func withFiles(chain, anchors []*x509.Certificate, use func(leaf, chain, anchors string) error) error {
	dir, err := os.MkdirTemp("", "signertest")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var paths []string
	for i, certs := range [][]*x509.Certificate{chain[:1], chain, anchors} {
		paths = append(paths, filepath.Join(dir, strconv.Itoa(i)+".pem"))
		if err := os.WriteFile(paths[i], signer.EncodePEM(certs...), 0o600); err != nil {
			return err
		}
	}
	return use(paths[0], paths[1], paths[2])
}

func run(ctx context.Context, name string, args ...string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		return fmt.Errorf("%w: install it with apt-get install openssl gnutls-bin", err)
	}
	if out, err := exec.CommandContext(ctx, path, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

// lints are those of RFCs: those of the CA/Browser Forum and of root programmes bind public CAs only.
var lintSources = lint.SourceList{lint.RFC3279, lint.RFC5280, lint.RFC5480, lint.RFC5891, lint.RFC8813, lint.Community}

// lintLeaf runs zlint, which must find no error in the certificate but what the request itself asked for.
func (s Subject) lintLeaf(t *testing.T, leaf *x509.Certificate, req csr.Request) {
	t.Helper()
	// The host of a SPIFFE ID is a trust domain, which need not be a fully qualified name.
	exclude := append([]string{"e_ext_san_uri_host_not_fqdn_or_ip"}, s.Cannot.Lints...)
	if asksForEmptyValue(req) {
		// The lint takes an empty value for one with characters that are not allowed.
		exclude = append(exclude, "e_subject_printable_string_badalpha")
	}
	registry, err := lint.GlobalRegistry().Filter(lint.FilterOptions{IncludeSources: lintSources, ExcludeNames: exclude})
	if err != nil {
		t.Fatalf("choosing lints: %v", err)
	}
	parsed, err := zx509.ParseCertificate(leaf.Raw)
	if err != nil {
		t.Fatalf("zcrypto cannot parse the leaf: %v", err)
	}
	for name, result := range zlint.LintCertificateEx(parsed, registry).Results {
		if result.Status >= lint.Error {
			t.Errorf("zlint: %s: %s %s", name, result.Status, result.Details)
		}
	}
}

// asksForEmptyValue reports whether the request's subject is O="", as in the requests of Istio's sidecars.
func asksForEmptyValue(req csr.Request) bool {
	return slices.Contains(req.Subject.Organization, "")
}
