// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Sample-signer is an external signer for Certwright: a program that serves the gRPC contract certwright.signer.v1. Its CA lives
// in memory and is gone with the process, so it is there to be read, copied and tried, not to be relied on.
//
//	sample-signer --listen unix:///run/certwright/sample.sock
//	sample-signer --listen 0.0.0.0:8443 --tls-cert tls.crt --tls-key tls.key --client-ca ca.crt
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/certwright/certwright/signer/external/signerv1"
)

func main() {
	var listen, certFile, keyFile, clientCA string
	flag.StringVar(&listen, "listen", "unix:///run/certwright/sample.sock", "unix://PATH, or HOST:PORT with the three flags for TLS")
	flag.StringVar(&certFile, "tls-cert", "", "file with this program's certificate and its chain")
	flag.StringVar(&keyFile, "tls-key", "", "file with the certificate's key")
	flag.StringVar(&clientCA, "client-ca", "", "file with the CA that issued Certwright's client certificate, and nobody else's")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, listen, certFile, keyFile, clientCA); err != nil {
		fmt.Fprintf(os.Stderr, "sample-signer: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, listen, certFile, keyFile, clientCA string) error {
	// Certwright sends pings on a connection that is in use but silent.
	options := []grpc.ServerOption{grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second})}
	network, address := "unix", strings.TrimPrefix(listen, "unix://")
	if address == listen {
		network = "tcp"
		config, err := mutualTLS(certFile, keyFile, clientCA)
		if err != nil {
			return err
		}
		options = append(options, grpc.Creds(credentials.NewTLS(config)))
	} else if err := os.Remove(address); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // the socket of a process that was killed would be in the way
	}
	authority, err := newAuthority()
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, network, address)
	if err != nil {
		return err
	}
	if network == "unix" {
		// Whoever can write to the socket can have any certificate: here that is this process's user and group.
		if err := os.Chmod(address, 0o660); err != nil { //nolint:gosec // Certwright may be of the same group only
			return err
		}
	}
	server := grpc.NewServer(options...)
	signerv1.RegisterSignerServer(server, authority)
	context.AfterFunc(ctx, server.GracefulStop)
	fmt.Println("serving on", listen)
	return server.Serve(listener)
}

// mutualTLS lets in only those whose certificate the client CA issued: whoever can call Sign can have any certificate.
func mutualTLS(certFile, keyFile, clientCA string) (*tls.Config, error) {
	own, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("reading --tls-cert and --tls-key, which serving on HOST:PORT needs: %w", err)
	}
	text, err := os.ReadFile(clientCA)
	if err != nil {
		return nil, fmt.Errorf("reading --client-ca: %w", err)
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("reading --client-ca: %s holds no certificates", clientCA)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}, nil
}
