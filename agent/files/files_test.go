// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package files

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/agent/agenttest"
	"github.com/certwright/certwright/agent/credential"
	"github.com/certwright/certwright/agent/store"
)

// A password that somebody else put there is not used.
func TestTamperedPasswordIsReplaced(t *testing.T) {
	for _, planted := range []string{"", "x", "changeit", strings.Repeat("g", 32), strings.Repeat("a", 1<<20)} {
		files := map[string][]byte{Bundle: agenttest.NewAuthority(t, "ca").Bundle(), Password: []byte(planted)}
		if got := agenttest.Must(Parse(files))(t).Password; got != "" {
			t.Errorf("took up the password %.40q", got)
		}
	}
	if password := NewPassword(); !validPassword(password) || password == NewPassword() {
		t.Errorf("made the password %q", password)
	}
}

// All keys that can be asked for fit all formats.
func TestEveryKeyInEveryFormat(t *testing.T) {
	a := agenttest.NewAuthority(t, "ca")
	config := agent.Config{Formats: []string{agent.FormatPKCS12, agent.FormatJKS, agent.FormatPEM}, PublicRoots: true}
	for _, algorithm := range credential.KeyAlgorithms() {
		t.Run(algorithm, func(t *testing.T) {
			key := agenttest.Must(credential.GenerateKey(algorithm))(t)
			issued := agenttest.Must(a.Sign(agenttest.Must(credential.RequestPEM(key, credential.Names{DNS: []string{"a"}}))(t), time.Hour, nil))(t)
			contents := &Set{
				Pair:   &credential.Pair{Chain: agenttest.Must(credential.ParseChain(issued))(t), Key: key, Renew: time.Unix(1e9, 0)},
				Bundle: agenttest.Must(credential.ParseBundle(a.Bundle(), time.Now()))(t), Fingerprint: "f", Password: NewPassword(),
			}
			directory := store.New(t.TempDir())
			if err := directory.Write(agenttest.Must(contents.Render(config))(t), time.Now()); err != nil {
				t.Fatal(err)
			}
			got := agenttest.Must(Parse(agenttest.Must(directory.Load())(t)))(t)
			if !credential.SameKey(got.Pair.Key, key) || got.Password != contents.Password || !got.Pair.Renew.Equal(contents.Pair.Renew) || !got.Complete(config) {
				t.Errorf("read %+v", got)
			}
		})
	}
}

// What a signer or a publisher of anchors puts into certificates must keep no
// format from being written, or the valid pair would run out.
func TestHostileChainsInEveryFormat(t *testing.T) {
	subjects := map[string]pkix.Name{
		"empty":              {},
		"of control bytes":   {CommonName: "a\x00b\r\n/..\x1b[2J"},
		"of 10 kB":           {CommonName: strings.Repeat("x", 10<<10)},
		"like another alias": {CommonName: "1"},
		"right to left":      {CommonName: "\u202egro.elpmaxe"},
	}
	for name, subject := range subjects {
		t.Run(name, func(t *testing.T) {
			key := agenttest.Must(credential.GenerateKey("ECDSA-P256"))(t)
			certificate := func(serial int64) *x509.Certificate {
				template := &x509.Certificate{
					SerialNumber: big.NewInt(serial), Subject: subject, IsCA: true, BasicConstraintsValid: true,
					NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
				}
				return agenttest.Must(x509.ParseCertificate(agenttest.Must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))(t)))(t)
			}
			contents := &Set{Pair: &credential.Pair{Key: key}, Bundle: new(credential.Bundle), Password: NewPassword()}
			for i := range int64(16) { // 8 certificates, each twice, of one subject and one key
				contents.Pair.Chain = append(contents.Pair.Chain, certificate(1+i/2))
			}
			contents.Bundle.Certs = contents.Pair.Chain
			config := agent.Config{Formats: []string{agent.FormatPKCS12, agent.FormatJKS, agent.FormatPEM}}
			directory := store.New(t.TempDir())
			if err := directory.Write(agenttest.Must(contents.Render(config))(t), time.Now()); err != nil {
				t.Fatal(err)
			}
			got := agenttest.Must(Parse(agenttest.Must(directory.Load())(t)))(t)
			if !got.Pair.Leaf().Equal(contents.Pair.Leaf()) || len(got.Bundle.Certs) != 16 || !got.Complete(config) {
				t.Errorf("read %d anchors, files %q", len(got.Bundle.Certs), got.names)
			}
		})
	}
}
