// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/certwright/certwright/agent/credential"
)

// trustFiles follow the files of a Config and remember the last good contents.
type trustFiles struct {
	files   []trustFile
	adopted *credential.Bundle // what an earlier run left, in place of files that were not good yet; nil: nothing
	all     *credential.Bundle // of the files; nil until there is something for each of them
	fresh   bool               // whether there is something good that is not in all yet
}

func followFiles(names []string) trustFiles {
	t := trustFiles{files: make([]trustFile, len(names))}
	for i, name := range names {
		t.files[i].name = name
	}
	return t
}

// adopt takes up what an earlier run wrote, until the files can be read.
func (f *trustFiles) adopt(written *credential.Bundle) {
	f.adopted, f.all = written, written
	if len(f.files) == 1 {
		f.files[0].good = written
	}
}

// own is the last good bundle of the signer itself, or nil.
func (f *trustFiles) own() *credential.Bundle { return f.files[0].good }

// vouch verifies that the pair leads to the signer's own bundle, and to the one that is written beside it.
func (f *trustFiles) vouch(pair *credential.Pair, t time.Time) error {
	if err := pair.LeadsTo(f.own(), t); err != nil {
		return err
	}
	if err := pair.LeadsTo(f.all, t); err != nil {
		return fmt.Errorf("the bundles of all signers together lack the new one of its signer: %w", err)
	}
	return nil
}

// read takes up the files' contents at t. The error says which are missing or no
// good: what was good of them stays.
func (f *trustFiles) read(t time.Time) error {
	var problems []error
	for i := range f.files {
		fresh, err := f.files[i].read(t)
		f.fresh = f.fresh || fresh
		problems = append(problems, err)
	}
	if f.fresh {
		err := f.merge()
		f.fresh = err != nil // to be said again
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// merge joins the bundles. Those of an earlier run stand for a file that was not good yet: which of them were its own is not known.
func (f *trustFiles) merge() error {
	all := new(credential.Bundle)
	seen := make(map[string]bool)
	size := 0
	for i := range f.files {
		bundle := f.files[i].good
		if bundle == nil {
			bundle = f.adopted
		}
		if bundle == nil {
			return nil
		}
		for _, cert := range bundle.Certs {
			if !seen[string(cert.Raw)] {
				seen[string(cert.Raw)] = true
				size += len(cert.Raw)
				all.Certs = append(all.Certs, cert)
			}
		}
	}
	if size > credential.MaxBundleBytes {
		return fmt.Errorf("the trust bundles together hold %d bytes, at most %d are allowed", size, credential.MaxBundleBytes)
	}
	f.all = all
	return nil
}

// trustFile follows a file with a trust bundle and remembers the last good one.
type trustFile struct {
	name string
	good *credential.Bundle
	raw  []byte // what good was parsed from, when it came from the file
}

// read takes up the file's contents at t and reports whether they are new and good.
func (f *trustFile) read(t time.Time) (fresh bool, err error) {
	raw, err := readAtMost(f.name, credential.MaxBundleBytes)
	if err != nil {
		return false, err
	}
	if f.raw != nil && bytes.Equal(raw, f.raw) {
		return false, nil
	}
	bundle, err := credential.ParseBundle(raw, t)
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
