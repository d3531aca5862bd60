// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"time"
)

// serverTLS returns the server's side of TLS, and the certificate of the CA in PEM unless that is somebody else's. Clients
// may show a certificate, which is for the cert auth method to judge.
func serverTLS(o options) (*tls.Config, []byte, error) {
	served, caPEM, err := serverCertificate(o)
	if err != nil {
		return nil, nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{served},
		ClientAuth:   tls.RequestClientCert,
		NextProtos:   []string{"h2", "http/1.1"},
	}, caPEM, nil
}

// serverCertificate returns the certificate in the files, or one that is made anew at each start.
func serverCertificate(o options) (tls.Certificate, []byte, error) {
	if o.certFile != "" {
		served, err := tls.LoadX509KeyPair(o.certFile, o.keyFile)
		return served, nil, err
	}
	ca, caPEM, err := certificateAuthority(o)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("making the CA of the server's certificate: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := template("Vault for tests", 365*24*time.Hour)
	template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, host := range o.hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Leaf, key.Public(), ca.PrivateKey)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("making the server's certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, caPEM, nil
}

// certificateAuthority returns the CA in the folder, or makes one.
func certificateAuthority(o options) (tls.Certificate, []byte, error) {
	certFile, keyFile := o.file("ca.crt"), o.file("ca.key")
	if certFile != "" {
		ca, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err == nil {
			certPEM, err := os.ReadFile(certFile)
			return ca, certPEM, err
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return ca, nil, err
		}
	}
	certPEM, keyPEM, err := newCA()
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	if certFile != "" {
		if err := errors.Join(os.WriteFile(keyFile, keyPEM, 0o600), os.WriteFile(certFile, certPEM, 0o600)); err != nil {
			return tls.Certificate{}, nil, err
		}
	}
	ca, err := tls.X509KeyPair(certPEM, keyPEM)
	return ca, certPEM, err
}

func newCA() (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	ca := template("CA of the Vault for tests", 10*365*24*time.Hour)
	ca.KeyUsage, ca.BasicConstraintsValid, ca.IsCA = x509.KeyUsageCertSign, true, true
	cert, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil
}

func template(name string, life time.Duration) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(life)}
}
