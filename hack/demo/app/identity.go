// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// identity reads what it is anew for every handshake, so that a renewed certificate is used at once.
type identity struct {
	dir    string
	bundle string // the file to verify with; ca.crt of dir, if it is empty
}

func (i identity) pair() (*tls.Certificate, error) {
	// Reading through one resolved directory keeps certificate and key of one generation together.
	dir, err := filepath.EvalSymlinks(filepath.Join(i.dir, "..data"))
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if errors.Is(err, os.ErrNotExist) {
		return i.pair() // the generation was replaced between the two reads
	}
	return &pair, err
}

func (i identity) roots() (*x509.CertPool, error) {
	anchors, err := i.anchors()
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, der := range anchors {
		anchor, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		pool.AddCert(anchor)
	}
	return pool, nil
}

// anchors are the certificates to verify with, of which there is at least one.
func (i identity) anchors() (ders [][]byte, err error) {
	path := i.bundle
	if path == "" {
		path = filepath.Join(i.dir, "ca.crt")
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		text, err = os.ReadFile(path) // the generation was replaced while its links were followed
	}
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		ders = append(ders, block.Bytes)
	}
	if len(ders) == 0 {
		return nil, fmt.Errorf("no certificate in %s", path)
	}
	return ders, nil
}

// fingerprints are the SHA-256 of the anchors.
func (i identity) fingerprints() (sums []string, err error) {
	anchors, err := i.anchors()
	for _, der := range anchors {
		sum := sha256.Sum256(der)
		sums = append(sums, hex.EncodeToString(sum[:]))
	}
	return sums, err
}

// serving is how to serve who proves who it is.
func (i identity) serving() (*tls.Config, error) {
	pair, err := i.pair()
	if err != nil {
		return nil, err
	}
	roots, err := i.roots()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{*pair},
		ClientCAs:              roots,
		ClientAuth:             tls.RequireAndVerifyClientCert,
		SessionTicketsDisabled: true, // each connection is to be a handshake of its own
	}, nil
}

// seen is what one side of a connection sees of a certificate.
type seen struct {
	SPIFFEID string   `json:"spiffeID,omitempty"`
	DNSNames []string `json:"dnsNames,omitempty"`
	Serial   string   `json:"serial"`
	Issuer   string   `json:"issuer"`
	By       string   `json:"by"` // the key that signed it, by its identifier
	Lifetime string   `json:"lifetime"`
	NotAfter string   `json:"notAfter"`
}

func see(c *x509.Certificate) seen {
	s := seen{
		DNSNames: c.DNSNames,
		Serial:   c.SerialNumber.Text(16),
		Issuer:   c.Issuer.CommonName,
		By:       hex.EncodeToString(c.AuthorityKeyId),
		Lifetime: c.NotAfter.Sub(c.NotBefore).String(),
		NotAfter: c.NotAfter.UTC().Format(time.RFC3339),
	}
	if len(c.URIs) > 0 {
		s.SPIFFEID = c.URIs[0].String()
	}
	return s
}

// show prints the certificate in the directory and waits, for a pod that only wants one.
func show(ctx context.Context, id identity) error {
	pair, err := id.pair()
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(see(pair.Leaf)); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
