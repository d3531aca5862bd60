// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// identity reads what it is anew for every handshake, so that a renewed certificate is used at once.
type identity struct{ dir string }

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
	bundle, err := os.ReadFile(filepath.Join(i.dir, "ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(bundle) {
		return nil, fmt.Errorf("no certificate in %s", filepath.Join(i.dir, "ca.crt"))
	}
	return pool, nil
}

// seen is what one side of a connection sees of a certificate.
type seen struct {
	SPIFFEID string   `json:"spiffeID,omitempty"`
	DNSNames []string `json:"dnsNames,omitempty"`
	Serial   string   `json:"serial"`
	Issuer   string   `json:"issuer"`
	Lifetime string   `json:"lifetime"`
	NotAfter string   `json:"notAfter"`
}

func see(c *x509.Certificate) seen {
	s := seen{
		DNSNames: c.DNSNames,
		Serial:   c.SerialNumber.Text(16),
		Issuer:   c.Issuer.CommonName,
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
