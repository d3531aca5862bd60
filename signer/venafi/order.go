// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package venafi

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/remote"
)

// order is a request in the terms of both products.
type order struct {
	// key is the same for the same request with the same lifetime, and for no other.
	key      string
	pkcs10   string // in PEM
	duration time.Duration
	notAfter time.Time
	req      csr.Request
}

func newOrder(req csr.Request, now time.Time) order {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%d\n", req.UID, req.Duration)
	h.Write(req.DER)
	return order{
		key:      hex.EncodeToString(h.Sum(nil)),
		pkcs10:   remote.Request(req),
		duration: req.Duration,
		notAfter: now.Add(req.Duration).UTC().Truncate(time.Second),
		req:      req,
	}
}

// refuse says what no zone can issue as it was asked for.
func (b *Backend) refuse(req csr.Request) error {
	if req.IsCA {
		return permanent("isCA is true: no CA certificates are ordered from a Venafi server")
	}
	if len(b.usages) == 0 {
		return nil
	}
	wantBits, wantExtended, err := csr.X509Usages(req.Usages)
	if err != nil {
		return &signer.PermanentError{Err: err}
	}
	bits, extended, err := csr.X509Usages(b.usages)
	if err != nil {
		return err
	}
	slices.Sort(wantExtended)
	slices.Sort(extended)
	if bits != wantBits || !slices.Equal(extended, wantExtended) {
		return permanent("usages are %q, and the zone gives %q to every certificate: ask for these", req.Usages, b.usages)
	}
	return nil
}

// chain parses what a server delivers: the leaf, and those above it in order. The root is left out.
func chain(text []byte) ([]*x509.Certificate, error) {
	certs, err := remote.Chain(text)
	if err != nil {
		return nil, fmt.Errorf("the server's answer: %w", err)
	}
	if last := certs[len(certs)-1]; len(certs) > 1 && bytes.Equal(last.RawSubject, last.RawIssuer) {
		certs = certs[:len(certs)-1]
	}
	return certs, nil
}

// segments splits a zone at its backslashes.
func segments(zone, field string) ([]string, error) {
	parts := strings.Split(zone, `\`)
	for _, p := range parts {
		if p == "" || p == "." || p == ".." || strings.TrimSpace(p) != p || strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return nil, fmt.Errorf(`%s: %q has a part that is empty or no name: it must be names with \ between them`, field, zone)
		}
	}
	return parts, nil
}
