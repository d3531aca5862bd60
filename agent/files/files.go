// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package files is what the agent's directory holds, as files: which there are, how
// they are rendered and how they are read again.
//
// What it promises: what was rendered is read again without change, and no password
// is taken up but one that was made here.
package files

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/agent/credential"
	"github.com/certwright/certwright/keystore"
)

// Names of the files. The key and the certificate are always there together.
const (
	Cert     = "tls.crt" // the chain, leaf first
	Key      = "tls.key"
	Bundle   = "ca.crt"            // the trust anchors
	Public   = "ca-bundle.crt"     // the trust anchors and the public roots
	Combined = "tls-combined.pem"  // the key, then the chain
	Password = "keystore-password" // of the keystores and truststores

	keystoreName   = "keystore"
	truststoreName = "truststore"

	// Files that no program beside the agent reads: they have no visible name.
	fingerprintFile = ".fingerprint"
	renewFile       = ".renew"
)

// passwordBytes is how many random bytes a password is made of.
const passwordBytes = 16

// Set is what the directory holds at one time.
type Set struct {
	// Pair is nil where the directory holds trust anchors only.
	Pair   *credential.Pair
	Bundle *credential.Bundle
	// Fingerprint is that of the Config which the pair answers.
	Fingerprint string
	// Password is that of keystores and truststores.
	Password string

	names []string // of the files that were read, sorted
}

// Render returns the files that the Config wants, by their names.
func (s *Set) Render(config agent.Config) (map[string][]byte, error) {
	files := map[string][]byte{
		Bundle:          credential.EncodeCertificates(s.Bundle.Certs),
		fingerprintFile: []byte(s.Fingerprint),
	}
	if config.PublicRoots {
		files[Public] = append(bytes.Clone(files[Bundle]), publicRoots()...)
	}
	if s.Pair != nil {
		key, err := x509.MarshalPKCS8PrivateKey(s.Pair.Key)
		if err != nil {
			return nil, fmt.Errorf("encoding private key: %w", err)
		}
		files[Cert] = credential.EncodeCertificates(s.Pair.Chain)
		files[Key] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
		if !s.Pair.Renew.IsZero() {
			files[renewFile] = []byte(s.Pair.Renew.UTC().Format(time.RFC3339Nano))
		}
	}
	for _, format := range config.Formats {
		if format == agent.FormatPEM {
			files[Combined] = slices.Concat(files[Key], files[Cert])
			continue
		}
		if err := s.addStores(files, keystore.Format(format)); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// addStores adds a keystore and a truststore. A truststore alone protects
// nothing, so its password is the one that everybody knows.
func (s *Set) addStores(files map[string][]byte, format keystore.Format) error {
	password := keystore.DefaultPassword
	if s.Pair != nil {
		password = s.Password
		store, err := keystore.Keystore(format, s.Pair.Key, s.Pair.Chain, password)
		if err != nil {
			return fmt.Errorf("rendering %s: %w", keystoreName+format.Extension(), err)
		}
		files[keystoreName+format.Extension()], files[Password] = store, []byte(password)
	}
	store, err := keystore.Truststore(format, s.Bundle.Certs, password)
	if err != nil {
		return fmt.Errorf("rendering %s: %w", truststoreName+format.Extension(), err)
	}
	files[truststoreName+format.Extension()] = store
	return nil
}

// wanted are the names that the Config wants, sorted, without those that may be missing.
func wanted(config agent.Config) []string {
	wanted := map[string]bool{
		Bundle: true, fingerprintFile: true,
		Cert: !config.TrustOnly, Key: !config.TrustOnly,
		Public: config.PublicRoots,
	}
	for _, format := range config.Formats {
		if format == agent.FormatPEM {
			wanted[Combined] = true
			continue
		}
		extension := keystore.Format(format).Extension()
		wanted[truststoreName+extension] = true
		wanted[keystoreName+extension], wanted[Password] = !config.TrustOnly, !config.TrustOnly
	}
	maps.DeleteFunc(wanted, func(_ string, wanted bool) bool { return !wanted })
	return slices.Sorted(maps.Keys(wanted))
}

// Private returns the names of those that hold a key or lead to one, where the agent runs as the
// user of the containers that read them, as it does to signal them: servers such as
// PostgreSQL refuse a key of their own user that a group may read. Elsewhere they are
// read by way of a group.
func Private(config agent.Config) []string {
	if config.Reload == nil || config.Reload.Process == "" {
		return nil
	}
	files := []string{Key, Combined, Password}
	for _, format := range []keystore.Format{keystore.PKCS12, keystore.JKS} {
		files = append(files, keystoreName+format.Extension())
	}
	return files
}

// Complete reports whether exactly the files that the Config wants were read.
func (s *Set) Complete(config agent.Config) bool {
	names := slices.DeleteFunc(slices.Clone(s.names), func(name string) bool { return name == renewFile })
	return slices.Equal(names, wanted(config))
}

// Parse reads what Render returned.
func Parse(files map[string][]byte) (*Set, error) {
	s := &Set{
		Fingerprint: string(files[fingerprintFile]), Bundle: new(credential.Bundle),
		names: slices.Sorted(maps.Keys(files)),
	}
	var err error
	if s.Bundle.Certs, err = credential.ParseCertificates(files[Bundle], credential.MaxBundleBytes*2); err != nil {
		return nil, fmt.Errorf("reading %s: %w", Bundle, err)
	}
	if password := string(files[Password]); validPassword(password) {
		s.Password = password
	}
	if files[Cert] == nil && files[Key] == nil {
		return s, nil
	}
	s.Pair = new(credential.Pair)
	if s.Pair.Chain, err = credential.ParseChain(files[Cert]); err != nil {
		return nil, fmt.Errorf("reading %s: %w", Cert, err)
	}
	if s.Pair.Key, err = credential.ParseKey(files[Key]); err != nil {
		return nil, fmt.Errorf("reading %s: %w", Key, err)
	}
	s.Pair.Renew, _ = time.Parse(time.RFC3339, string(files[renewFile])) // one that cannot be read costs one renewal at the most
	return s, nil
}

// NewPassword returns a password that nobody can guess.
func NewPassword() string {
	random := make([]byte, passwordBytes)
	rand.Read(random) // never fails since Go 1.24
	return hex.EncodeToString(random)
}

func validPassword(text string) bool {
	_, err := hex.DecodeString(text)
	return err == nil && len(text) == 2*passwordBytes
}

// publicRoots renders the roots that the public Web trusts. Those are left out
// that are trusted for a part of what they signed only, as PEM cannot say so.
// Nothing of it stays in memory.
func publicRoots() []byte {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a buffer takes all
		}
	}
	return out.Bytes()
}
