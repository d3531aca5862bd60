// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command softhsm-ca makes a token of SoftHSM with a CA key in it, and prints the CA certificate. It is for trying certwright-kms
// where there is no HSM. Run again, it uses what is there.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/certwright/certwright/cmd/certwright-kms/provision"
)

func main() {
	var o provision.Options
	flag.StringVar(&o.Module, "module", "/usr/lib/softhsm/libsofthsm2.so", "PKCS #11 module")
	tokens := flag.String("tokens", "", "folder that SoftHSM keeps its tokens in; softhsm2.conf is written there too (required)")
	flag.StringVar(&o.Token, "token-label", "certwright", "label of the token")
	flag.StringVar(&o.Object, "key-label", "ca", "label of the key")
	pin := flag.String("pin-file", "", "file that holds the token's PIN (required)")
	flag.StringVar(&o.Algorithm, "algorithm", "ECDSA-P256", "kind of key: "+strings.Join(provision.Algorithms, ", "))
	flag.StringVar(&o.CommonName, "common-name", "SoftHSM CA", "common name of the CA certificate")
	flag.DurationVar(&o.Lifetime, "lifetime", 365*24*time.Hour, "lifetime of the CA certificate")
	flag.Parse()
	if err := run(o, *tokens, *pin); err != nil {
		fmt.Fprintln(os.Stderr, "softhsm-ca:", err)
		os.Exit(1)
	}
}

func run(o provision.Options, tokens, pinFile string) error {
	if tokens == "" || pinFile == "" {
		return fmt.Errorf("--tokens and --pin-file are needed; see --help")
	}
	pin, err := os.ReadFile(pinFile)
	if err != nil {
		return fmt.Errorf("reading the PIN: %w", err)
	}
	o.PIN = string(bytes.TrimSpace(pin))
	if err := os.MkdirAll(tokens, 0o700); err != nil {
		return fmt.Errorf("making the folder of the tokens: %w", err)
	}
	config := filepath.Join(tokens, "softhsm2.conf")
	if err := os.WriteFile(config, []byte("directories.tokendir = "+tokens+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
		return fmt.Errorf("writing SoftHSM's configuration: %w", err)
	}
	if err := os.Setenv("SOFTHSM2_CONF", config); err != nil {
		return err
	}
	certificate, err := provision.CA(o)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(certificate)
	return err
}
