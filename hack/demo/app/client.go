// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// tally is what a client saw so far. It prints one as a line of JSON every second.
type tally struct {
	Made         int    `json:"made"`
	Failed       int    `json:"failed"`
	LastFailure  string `json:"lastFailure,omitempty"`
	Certificates int    `json:"certificates"`       // how many different ones the client used
	Servers      int    `json:"serverCertificates"` // how many different ones it met
	Client       seen   `json:"client"`             // the client, as the server saw it
	Server       seen   `json:"server"`             // the server, as the client saw it
}

// call makes a new connection at every interval, so that every one is a handshake of its own.
func call(ctx context.Context, url string, interval time.Duration, id identity) error {
	var t tally
	clients, servers := map[string]bool{}, map[string]bool{}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	report := time.NewTicker(time.Second)
	defer report.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-report.C:
			if err := json.NewEncoder(os.Stdout).Encode(t); err != nil {
				return err
			}
		case <-ticker.C:
			client, server, err := once(ctx, url, id)
			if err != nil {
				if t.LastFailure = err.Error(); t.Made > 0 {
					t.Failed++ // before the first connection the server may simply not be there yet
				}
				continue
			}
			clients[client.Serial], servers[server.Serial] = true, true
			t.Made++
			t.Client, t.Server, t.Certificates, t.Servers = client, server, len(clients), len(servers)
		}
	}
}

// once makes one connection and returns who each side saw.
func once(ctx context.Context, url string, id identity) (client, server seen, err error) {
	roots, err := id.roots()
	if err != nil {
		return seen{}, seen{}, err
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{
			MinVersion:           tls.VersionTLS13,
			RootCAs:              roots,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return id.pair() },
		},
	}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return seen{}, seen{}, err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return seen{}, seen{}, err
	}
	defer response.Body.Close()
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<16)).Decode(&client); err != nil {
		return seen{}, seen{}, fmt.Errorf("reading the answer: %w", err)
	}
	return client, see(response.TLS.PeerCertificates[0]), nil
}
