// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"crypto/x509"
	"errors"
	"time"
)

// MaxBundleBytes is the most that is read of a trust bundle, and of several
// together: a ClusterTrustBundle can hold 1 MiB, and one file may show several.
const MaxBundleBytes = 4 << 20

// Bundle is a set of trust anchors, in the order of the file and without
// duplicates.
type Bundle struct {
	Certs []*x509.Certificate
}

// ParseBundle reads a trust bundle that is good at t: every PEM block is a
// certificate, and at least one is a CA that has not expired.
func ParseBundle(data []byte, t time.Time) (*Bundle, error) {
	certs, err := ParseCertificates(data, MaxBundleBytes)
	if err != nil {
		return nil, err
	}
	bundle := new(Bundle)
	seen := make(map[string]bool)
	for _, cert := range certs {
		if !seen[string(cert.Raw)] {
			seen[string(cert.Raw)] = true
			bundle.Certs = append(bundle.Certs, cert)
		}
	}
	if !bundle.Usable(t) {
		return nil, errors.New("none of its certificates is a CA that has not expired")
	}
	return bundle, nil
}

// Usable reports whether the bundle holds a CA that has not expired at t.
func (b *Bundle) Usable(t time.Time) bool {
	for _, cert := range b.Certs {
		if cert.IsCA && t.Before(cert.NotAfter) {
			return true
		}
	}
	return false
}

func (b *Bundle) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, cert := range b.Certs {
		pool.AddCert(cert)
	}
	return pool
}

// Equal ignores the order, which the kubelet may change at any time.
func (b *Bundle) Equal(other *Bundle) bool {
	if b == nil || other == nil || len(b.Certs) != len(other.Certs) {
		return b == other
	}
	has := make(map[string]bool)
	for _, cert := range other.Certs {
		has[string(cert.Raw)] = true
	}
	for _, cert := range b.Certs {
		if !has[string(cert.Raw)] {
			return false
		}
	}
	return true
}
