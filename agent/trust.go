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
	"time"
)

const (
	// maxBundleBytes is the most that is read of one file, and of all together: a
	// ClusterTrustBundle can hold 1 MiB, and one file may show several of them.
	maxBundleBytes = 4 << 20
	// maxBundleFiles caps how many files are followed.
	maxBundleFiles = 16
)

// Bundle is a set of trust anchors, in the order of the file and without
// duplicates.
type Bundle struct {
	certs []*x509.Certificate
}

// trustFiles follow the files of a Config and remember the last good contents.
type trustFiles struct {
	files []trustFile
	all   *Bundle // of the files, or what an earlier run left until each of them was good
}

func followFiles(names []string) trustFiles {
	t := trustFiles{files: make([]trustFile, len(names))}
	for i, name := range names {
		t.files[i].name = name
	}
	return t
}

// adopt takes up what an earlier run wrote, until the files can be read.
func (f *trustFiles) adopt(written *Bundle) {
	f.all = written
	if len(f.files) == 1 {
		f.files[0].good = written
	}
}

// own is the last good bundle of the signer itself, or nil.
func (f *trustFiles) own() *Bundle { return f.files[0].good }

// read takes up the files' contents at t. The error says which are missing or no
// good: what was good of them stays.
func (f *trustFiles) read(t time.Time) error {
	changed := false
	var problems []error
	for i := range f.files {
		fresh, err := f.files[i].read(t)
		changed = changed || fresh
		problems = append(problems, err)
	}
	if changed {
		problems = append(problems, f.merge())
	}
	return errors.Join(problems...)
}

// merge joins the bundles once all of them were good.
func (f *trustFiles) merge() error {
	all := new(Bundle)
	seen := make(map[string]bool)
	size := 0
	for i := range f.files {
		if f.files[i].good == nil {
			return nil
		}
		for _, cert := range f.files[i].good.certs {
			if !seen[string(cert.Raw)] {
				seen[string(cert.Raw)] = true
				size += len(cert.Raw)
				all.certs = append(all.certs, cert)
			}
		}
	}
	if size > maxBundleBytes {
		return fmt.Errorf("the trust bundles together hold %d bytes, at most %d are allowed", size, maxBundleBytes)
	}
	f.all = all
	return nil
}

// trustFile follows a file with a trust bundle and remembers the last good one.
type trustFile struct {
	name string
	good *Bundle
	raw  []byte // what good was parsed from, when it came from the file
}

// read takes up the file's contents at t and reports whether they are new and good.
func (f *trustFile) read(t time.Time) (fresh bool, err error) {
	raw, err := readAtMost(f.name, maxBundleBytes)
	if err != nil {
		return false, err
	}
	if f.raw != nil && bytes.Equal(raw, f.raw) {
		return false, nil
	}
	bundle, err := parseBundle(raw, t)
	if err != nil {
		return false, fmt.Errorf("%s: %w", f.name, err)
	}
	f.good, f.raw = bundle, raw
	return true, nil
}

// readAtMost reads a file, and of a longer one the first byte too many as well.
func readAtMost(name string, most int64) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, most+1))
}

// parseBundle reads a trust bundle that is good at t: every PEM block is a
// certificate, and at least one is a CA that has not expired.
func parseBundle(data []byte, t time.Time) (*Bundle, error) {
	certs, err := parseCertificates(data, maxBundleBytes)
	if err != nil {
		return nil, err
	}
	bundle := new(Bundle)
	seen := make(map[string]bool)
	for _, cert := range certs {
		if !seen[string(cert.Raw)] {
			seen[string(cert.Raw)] = true
			bundle.certs = append(bundle.certs, cert)
		}
	}
	if !bundle.usable(t) {
		return nil, errors.New("none of its certificates is a CA that has not expired")
	}
	return bundle, nil
}

// usable reports whether the bundle holds a CA that has not expired at t.
func (b *Bundle) usable(t time.Time) bool {
	for _, cert := range b.certs {
		if cert.IsCA && t.Before(cert.NotAfter) {
			return true
		}
	}
	return false
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
	if b == nil || other == nil || len(b.certs) != len(other.certs) {
		return b == other
	}
	has := make(map[string]bool)
	for _, cert := range other.certs {
		has[string(cert.Raw)] = true
	}
	for _, cert := range b.certs {
		if !has[string(cert.Raw)] {
			return false
		}
	}
	return true
}
