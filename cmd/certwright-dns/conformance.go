// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/certwright/certwright/signer/acme/dns01/dnswebhook/conformance"
	"github.com/certwright/certwright/signer/acme/dns01/resolver"
	"github.com/certwright/certwright/signer/acme/dns01/txt"
)

// conformanceFlags are the flags of the command conformance.
type conformanceFlags struct {
	url, zone, tokenFile, caFile string
	config                       map[string]string
	nameservers                  []string
	authorityPort                uint16
	patience                     time.Duration
}

func newConformance() *cobra.Command {
	var f conformanceFlags
	cmd := &cobra.Command{
		Use:   "conformance",
		Short: "Try whether a DNS webhook does what Certwright needs, with a zone for tests",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			target, err := f.target()
			if err != nil {
				return err
			}
			failed := 0
			for _, c := range conformance.Cases() {
				if err := c.Run(cmd.Context(), target); err != nil {
					failed++
					fmt.Fprintf(cmd.OutOrStdout(), "FAIL  %s\n      %s\n", c.Name, strings.ReplaceAll(err.Error(), "\n", "\n      "))
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "ok    %s\n", c.Name)
			}
			if failed > 0 {
				return fmt.Errorf("%d of %d cases failed", failed, len(conformance.Cases()))
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.url, "url", "", "the webhook: https://HOST/PATH or unix:///PATH")
	flags.StringVar(&f.zone, "zone", "", "a zone for tests that the webhook may write to")
	flags.StringVar(&f.tokenFile, "token-file", "", "the file with the webhook's bearer token")
	flags.StringVar(&f.caFile, "ca-file", "", "the file with the CA certificates that the webhook's own leads to")
	flags.StringToStringVar(&f.config, "config", nil, "the configuration that is sent with each request, as KEY=VALUE")
	flags.StringSliceVar(&f.nameservers, "nameservers", nil, "nameservers that are asked for the zone; if empty, those of this machine")
	flags.Uint16Var(&f.authorityPort, "authority-port", 53, "the port of the zone's authoritative servers")
	flags.DurationVar(&f.patience, "patience", 5*time.Minute, "how long the zone's servers may take to show a change")
	return cmd
}

func (f conformanceFlags) target() (conformance.Target, error) {
	zone, err := txt.Name(f.zone)
	if err != nil {
		return conformance.Target{}, fmt.Errorf("--zone: %w", err)
	}
	look, err := resolver.New(f.nameservers, f.authorityPort)
	if err != nil {
		return conformance.Target{}, fmt.Errorf("--nameservers%w", err)
	}
	t := conformance.Target{
		URL: f.url, Config: f.config, Zone: zone, Patience: f.patience,
		Serves: func(ctx context.Context, r txt.Record) bool { return look.Served(ctx, r.Zone, r.Name, r.Value) == nil },
	}
	if f.tokenFile != "" {
		token, err := os.ReadFile(f.tokenFile)
		if err != nil {
			return conformance.Target{}, fmt.Errorf("--token-file: %w", err)
		}
		t.Token = strings.TrimSpace(string(token))
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	if f.caFile != "" {
		pem, err := os.ReadFile(f.caFile)
		if err != nil {
			return conformance.Target{}, fmt.Errorf("--ca-file: %w", err)
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return conformance.Target{}, fmt.Errorf("--ca-file: %s holds no certificates in PEM", f.caFile)
		}
	}
	if socket, ok := strings.CutPrefix(f.url, "unix://"); ok {
		t.URL = "http://socket"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}
	} else if !strings.HasPrefix(f.url, "https://") {
		return conformance.Target{}, errors.New("--url: it must begin with https:// or unix://")
	}
	t.Client = &http.Client{Transport: transport, Timeout: time.Minute}
	return t, nil
}
