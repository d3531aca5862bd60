// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the test binary be the plugin, so that scripts run real processes.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"kubectl-certwright": main})
}

// TestScripts runs the command lines of testdata/script, and holds what they print against what is written there.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exitcode": exitCodeCommand,
			"pair":     pairCommand,
		},
	})
}

// exitCodeCommand runs a program that must end with an exit code: exitcode CODE PROGRAM ARG...
func exitCodeCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode CODE PROGRAM ARG...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("running %s: %v", args[1], err)
	}
	if want, _ := strconv.Atoi(args[0]); got != want {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// pairCommand writes tls.crt, tls.key and ca.crt for web.shop.svc, of which a part of the lifetime of 24 hours is over:
// pair DIRECTORY AGE
func pairCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: pair DIRECTORY AGE")
	}
	age, err := time.ParseDuration(args[1])
	ts.Check(err)
	start := time.Now().Add(-age)
	rootKey, key := newKey(ts), newKey(ts)
	root := sign(ts, rootKey, rootKey, &x509.Certificate{
		Subject: pkix.Name{CommonName: "test root"}, NotBefore: start.Add(-time.Hour), NotAfter: start.Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil)
	leaf := sign(ts, key, rootKey, &x509.Certificate{
		DNSNames: []string{"web.shop.svc"}, NotBefore: start, NotAfter: start.Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, root)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	write := func(name, kind string, der []byte) {
		ts.Check(os.WriteFile(dir+"/"+name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	write("tls.crt", "CERTIFICATE", leaf.Raw)
	write("ca.crt", "CERTIFICATE", root.Raw)
	write("tls.key", "PRIVATE KEY", der)
}

func newKey(ts *testscript.TestScript) crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	return key
}

// sign makes a certificate; without parent it signs itself.
func sign(ts *testscript.TestScript, key, signer crypto.Signer, template, parent *x509.Certificate) *x509.Certificate {
	if parent == nil {
		parent = template
	}
	template.SerialNumber = big.NewInt(1)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	ts.Check(err)
	cert, err := x509.ParseCertificate(der)
	ts.Check(err)
	return cert
}
