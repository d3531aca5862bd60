// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

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

// Names of the files in the directory.
const (
	CertFile     = "tls.crt"
	KeyFile      = "tls.key"
	BundleFile   = "ca.crt"            // the trust anchors
	PublicFile   = "ca-bundle.crt"     // the trust anchors and the public roots
	CombinedFile = "tls-combined.pem"  // the key, then the chain
	PasswordFile = "keystore-password" // of the keystores and truststores

	keystoreName   = "keystore"
	truststoreName = "truststore"

	// Files that no program beside the agent reads: they have no visible name.
	fingerprintFile = ".fingerprint"
	renewFile       = ".renew"
)

// passwordBytes is how many random bytes a password is made of.
const passwordBytes = 16

// Contents are what the directory holds.
type Contents struct {
	// Pair is nil where the directory holds trust anchors only.
	Pair   *credential.Pair
	Bundle *credential.Bundle
	// Fingerprint is that of the Config which the pair answers.
	Fingerprint string
	// Password is that of keystores and truststores.
	Password string

	names []string // of the files that were read, sorted
}

// files renders what the Config wants.
func (c *Contents) files(config agent.Config) (map[string][]byte, error) {
	files := map[string][]byte{
		BundleFile:      credential.EncodeCertificates(c.Bundle.Certs),
		fingerprintFile: []byte(c.Fingerprint),
	}
	if config.PublicRoots {
		files[PublicFile] = append(bytes.Clone(files[BundleFile]), publicRoots()...)
	}
	if c.Pair != nil {
		key, err := x509.MarshalPKCS8PrivateKey(c.Pair.Key)
		if err != nil {
			return nil, fmt.Errorf("encoding private key: %w", err)
		}
		files[CertFile] = credential.EncodeCertificates(c.Pair.Chain)
		files[KeyFile] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
		if !c.Pair.Renew.IsZero() {
			files[renewFile] = []byte(c.Pair.Renew.UTC().Format(time.RFC3339Nano))
		}
	}
	for _, format := range config.Formats {
		if format == agent.FormatPEM {
			files[CombinedFile] = slices.Concat(files[KeyFile], files[CertFile])
			continue
		}
		if err := c.addStores(files, keystore.Format(format)); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// addStores adds a keystore and a truststore. A truststore alone protects
// nothing, so its password is the one that everybody knows.
func (c *Contents) addStores(files map[string][]byte, format keystore.Format) error {
	password := keystore.DefaultPassword
	if c.Pair != nil {
		password = c.Password
		store, err := keystore.Keystore(format, c.Pair.Key, c.Pair.Chain, password)
		if err != nil {
			return fmt.Errorf("rendering %s: %w", keystoreName+format.Extension(), err)
		}
		files[keystoreName+format.Extension()], files[PasswordFile] = store, []byte(password)
	}
	store, err := keystore.Truststore(format, c.Bundle.Certs, password)
	if err != nil {
		return fmt.Errorf("rendering %s: %w", truststoreName+format.Extension(), err)
	}
	files[truststoreName+format.Extension()] = store
	return nil
}

// wantedFiles are the names that the Config wants, sorted, without those that may be missing.
func wantedFiles(config agent.Config) []string {
	wanted := map[string]bool{
		BundleFile: true, fingerprintFile: true,
		CertFile: !config.TrustOnly, KeyFile: !config.TrustOnly,
		PublicFile: config.PublicRoots,
	}
	for _, format := range config.Formats {
		if format == agent.FormatPEM {
			wanted[CombinedFile] = true
			continue
		}
		extension := keystore.Format(format).Extension()
		wanted[truststoreName+extension] = true
		wanted[keystoreName+extension], wanted[PasswordFile] = !config.TrustOnly, !config.TrustOnly
	}
	maps.DeleteFunc(wanted, func(_ string, wanted bool) bool { return !wanted })
	return slices.Sorted(maps.Keys(wanted))
}

// privateFiles are those that hold a key or lead to one, where the agent runs as the
// user of the containers that read them, as it does to signal them: servers such as
// PostgreSQL refuse a key of their own user that a group may read. Elsewhere they are
// read by way of a group.
func privateFiles(config agent.Config) []string {
	if config.Reload == nil || config.Reload.Process == "" {
		return nil
	}
	files := []string{KeyFile, CombinedFile, PasswordFile}
	for _, format := range []keystore.Format{keystore.PKCS12, keystore.JKS} {
		files = append(files, keystoreName+format.Extension())
	}
	return files
}

// complete reports whether exactly the files that the Config wants were read.
func (c *Contents) complete(config agent.Config) bool {
	names := slices.DeleteFunc(slices.Clone(c.names), func(name string) bool { return name == renewFile })
	return slices.Equal(names, wantedFiles(config))
}

// parseContents reads what files rendered.
func parseContents(files map[string][]byte) (*Contents, error) {
	c := &Contents{
		Fingerprint: string(files[fingerprintFile]), Bundle: new(credential.Bundle),
		names: slices.Sorted(maps.Keys(files)),
	}
	var err error
	if c.Bundle.Certs, err = credential.ParseCertificates(files[BundleFile], credential.MaxBundleBytes*2); err != nil {
		return nil, fmt.Errorf("reading %s: %w", BundleFile, err)
	}
	if password := string(files[PasswordFile]); validPassword(password) {
		c.Password = password
	}
	if files[CertFile] == nil && files[KeyFile] == nil {
		return c, nil
	}
	c.Pair = new(credential.Pair)
	if c.Pair.Chain, err = credential.ParseChain(files[CertFile]); err != nil {
		return nil, fmt.Errorf("reading %s: %w", CertFile, err)
	}
	if c.Pair.Key, err = credential.ParseKey(files[KeyFile]); err != nil {
		return nil, fmt.Errorf("reading %s: %w", KeyFile, err)
	}
	c.Pair.Renew, _ = parseTime(files[renewFile]) // one that cannot be read costs one renewal at the most
	return c, nil
}

// newPassword returns a password that nobody can guess.
func newPassword() string {
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
