// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// maxBundleBytes is the most that a ClusterTrustBundle can hold, 1 MiB, and some
// room for several of them in one file.
const maxBundleBytes = 4 << 20

// Bundle is a set of trust anchors, in the order of the file and without
// duplicates.
type Bundle struct {
	certs []*x509.Certificate
}

// trustFile follows a file with a trust bundle and remembers the last good one.
type trustFile struct {
	name string
	good *Bundle
	raw  []byte // what good was parsed from, when it came from the file
}

// read takes up the file's contents at t. When they are missing or no good, the
// error says why and good stays.
func (f *trustFile) read(t time.Time) error {
	file, err := os.Open(f.name)
	if err != nil {
		return err
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, maxBundleBytes+1))
	if err != nil {
		return err
	}
	if f.raw != nil && bytes.Equal(raw, f.raw) {
		return nil
	}
	bundle, err := parseBundle(raw, t)
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	f.good, f.raw = bundle, raw
	return nil
}

// parseBundle reads a trust bundle that is good at t: every PEM block is a
// certificate, and at least one is a CA that has not expired.
func parseBundle(data []byte, t time.Time) (*Bundle, error) {
	certs, err := parseCertificates(data, maxBundleBytes)
	if err != nil {
		return nil, err
	}
	bundle := new(Bundle)
	usable := false
	for _, cert := range certs {
		if !slices.ContainsFunc(bundle.certs, cert.Equal) {
			bundle.certs = append(bundle.certs, cert)
		}
		usable = usable || cert.IsCA && t.Before(cert.NotAfter)
	}
	if !usable {
		return nil, errors.New("none of its certificates is a CA that has not expired")
	}
	return bundle, nil
}

func (b *Bundle) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, cert := range b.certs {
		pool.AddCert(cert)
	}
	return pool
}

// equal ignores the order, which the kubelet may change at any time.
func (b *Bundle) equal(other *Bundle) bool {
	if b == nil || other == nil {
		return b == other
	}
	return len(b.certs) == len(other.certs) && !slices.ContainsFunc(b.certs, func(cert *x509.Certificate) bool {
		return !slices.ContainsFunc(other.certs, cert.Equal)
	})
}
