// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Names in the directory. Those that start with two dots are out of the way of
// programs that list it, as in the volumes that the kubelet projects.
const (
	certFile        = "tls.crt"
	keyFile         = "tls.key"
	bundleFile      = "ca.crt"
	fingerprintFile = "fingerprint"

	dataLink    = "..data"
	newDataLink = "..data_tmp"
	newLink     = "..link_tmp"
	statusFile  = "..status"
	newStatus   = "..status_tmp"
	generation  = "..20060102T150405." // layout; a random suffix follows

	dirMode  = 0o750
	fileMode = 0o640
)

var visibleFiles = []string{certFile, keyFile, bundleFile}

// Contents are what the directory holds.
type Contents struct {
	Pair   *Pair
	Bundle *Bundle
	// Fingerprint is that of the Config which the pair answers.
	Fingerprint string
}

// Store is a directory that shows the files of one generation at a time. It works
// as the kubelet's projected volumes do: files live in a directory per
// generation, the link ..data points to the one that counts and is replaced by
// rename, and tls.crt, tls.key and ca.crt are links through ..data.
//
// A program that reads several files should resolve ..data once and read below
// it, or read again when key and certificate do not match.
type Store struct {
	dir string
	mu  sync.Mutex // guards the status file
}

// NewStore returns a Store in the directory, which must exist when it is used.
func NewStore(dir string) *Store { return &Store{dir: dir} }

// Load reads the current contents, all of one generation. The error wraps
// fs.ErrNotExist when there is none yet.
func (s *Store) Load() (*Contents, error) {
	for {
		target, err := os.Readlink(s.path(dataLink))
		if err != nil {
			return nil, fmt.Errorf("looking for a key pair: %w", err)
		}
		contents, err := s.load(target)
		if errors.Is(err, fs.ErrNotExist) {
			if now, again := os.Readlink(s.path(dataLink)); again == nil && now != target {
				continue // replaced while reading
			}
		}
		return contents, err
	}
}

func (s *Store) load(generation string) (*Contents, error) {
	var err error
	data := make(map[string][]byte)
	for _, name := range append(visibleFiles, fingerprintFile) {
		if data[name], err = os.ReadFile(s.path(generation, name)); err != nil {
			return nil, fmt.Errorf("reading key pair: %w", err)
		}
	}
	contents := &Contents{Fingerprint: string(data[fingerprintFile]), Pair: new(Pair), Bundle: new(Bundle)}
	if contents.Pair.Chain, err = parseIssued(data[certFile]); err != nil {
		return nil, fmt.Errorf("reading %s: %w", certFile, err)
	}
	if contents.Pair.Key, err = parseKey(data[keyFile]); err != nil {
		return nil, fmt.Errorf("reading %s: %w", keyFile, err)
	}
	if contents.Bundle.certs, err = parseCertificates(data[bundleFile], maxBundleBytes); err != nil {
		return nil, fmt.Errorf("reading %s: %w", bundleFile, err)
	}
	return contents, nil
}

// Write makes c the contents of the directory. When it returns an error, the
// directory still shows what it showed before, or already shows c.
func (s *Store) Write(c *Contents, now time.Time) error {
	steps, err := s.steps(c, now)
	if err != nil {
		return err
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("writing key pair: %w", err)
		}
	}
	return nil
}

// steps are the single operations of Write. Readers see a change only by the
// rename of ..data; the process may die between any two steps.
func (s *Store) steps(c *Contents, now time.Time) ([]func() error, error) {
	key, err := x509.MarshalPKCS8PrivateKey(c.Pair.Key)
	if err != nil {
		return nil, fmt.Errorf("encoding private key: %w", err)
	}
	files := map[string][]byte{
		certFile:        encodeCertificates(c.Pair.Chain),
		keyFile:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		bundleFile:      encodeCertificates(c.Bundle.certs),
		fingerprintFile: []byte(c.Fingerprint),
	}
	var dir string
	steps := []func() error{
		s.clean,
		func() (err error) { dir, err = os.MkdirTemp(s.dir, now.UTC().Format(generation)); return err },
		func() error { return own(dir, dirMode) },
	}
	for name, data := range files {
		steps = append(steps, func() error { return writeFile(filepath.Join(dir, name), data) })
	}
	// The visible links come first: on the first write they lead nowhere until
	// ..data appears, and then all of them lead somewhere at once.
	for _, name := range visibleFiles {
		steps = append(steps, func() error { return s.link(filepath.Join(dataLink, name), newLink, name) })
	}
	return append(steps,
		func() error { return s.link(filepath.Base(dir), newDataLink, dataLink) },
		s.clean,
	), nil
}

// link makes name a symbolic link to target, atomically, by way of a temporary name.
func (s *Store) link(target, temporary, name string) error {
	if existing, err := os.Readlink(s.path(name)); err == nil && existing == target {
		return nil
	}
	if err := os.Symlink(target, s.path(temporary)); err != nil {
		return err
	}
	return os.Rename(s.path(temporary), s.path(name))
}

// clean removes what a write that was cut short left behind, and generations that
// ..data does not point to.
func (s *Store) clean() error {
	current, err := os.Readlink(s.path(dataLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		stale := name == newDataLink || name == newLink ||
			entry.IsDir() && strings.HasPrefix(name, "..2") && name != current
		if !stale {
			continue
		}
		if err := os.RemoveAll(s.path(name)); err != nil {
			return err
		}
	}
	return nil
}

// SetStatus leaves a sentence for Health, which shows it to people by way of the
// startup probe; an empty one removes it.
func (s *Store) SetStatus(text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if text == "" {
		if err := os.Remove(s.path(statusFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing status: %w", err)
		}
		return nil
	}
	if err := writeFile(s.path(newStatus), []byte(text)); err != nil {
		return fmt.Errorf("writing status: %w", err)
	}
	return os.Rename(s.path(newStatus), s.path(statusFile))
}

// Status returns the sentence that SetStatus left, or "".
func (s *Store) Status() string {
	text, err := os.ReadFile(s.path(statusFile))
	if err != nil {
		return ""
	}
	return string(text)
}

func (s *Store) path(elements ...string) string {
	return filepath.Join(append([]string{s.dir}, elements...)...)
}

func writeFile(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Close(), own(name, fileMode))
}

// own gives the file to the process's primary group, which a set-group-ID
// directory would not, and its mode, whatever the umask.
func own(name string, mode fs.FileMode) error {
	if err := os.Lchown(name, -1, os.Getegid()); err != nil {
		return err
	}
	return os.Chmod(name, mode)
}

func parseKey(data []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("no PEM block PRIVATE KEY found")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parsing private key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T cannot sign", key)
	}
	return signer, nil
}
