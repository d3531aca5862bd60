// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package external

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/certwright/certwright/signer/remote"
	"github.com/certwright/certwright/version"
)

// sockets is where sidecars of the signer have their sockets. No other folder is taken: a socket elsewhere could be anybody's.
const sockets = "/run/certwright"

var socketAddress = regexp.MustCompile(`^unix://` + sockets + `/([-a-z0-9]+\.sock)$`)

// Bounds of what is taken from a program, in bytes. A chain has 64 KiB at the most.
const (
	maxMessage = 1 << 20
	maxHeaders = 64 << 10
)

// connect returns a connection that is made when it is first used. The error names the field of v1alpha1.External.
func connect(o Options) (*grpc.ClientConn, error) {
	target, transport, err := endpoint(o)
	if err != nil {
		return nil, err
	}
	options := append(transport,
		// A lost connection is tried again at once and then every second: by default it would take up to two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		// Without pings, a peer that is gone without a word would be noticed after a quarter of an hour. More pings than these
		// would offend servers with gRPC's own limits.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithMaxHeaderListSize(maxHeaders),
		// What is tried again, and when, is for the signer to say, and not for whoever writes DNS records.
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
		grpc.WithUserAgent("certwright/"+version.String()),
	)
	connection, err := grpc.NewClient("passthrough:///"+target, options...)
	if err != nil {
		return nil, fmt.Errorf("address: %q: %w", o.External.Address, err)
	}
	return connection, nil
}

// endpoint returns what to dial and how.
func endpoint(o Options) (string, []grpc.DialOption, error) {
	e := o.External
	if socket := socketAddress.FindStringSubmatch(e.Address); socket != nil {
		if e.ClientCertificateRef != nil || e.CABundle != "" || e.ServerName != "" {
			return "", nil, errors.New("address: a Unix socket has no TLS: clientCertificateRef, caBundle and serverName must not be set with it")
		}
		path := filepath.Join(o.Sockets, socket[1])
		dial := func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
		return path, []grpc.DialOption{
			grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dial), grpc.WithAuthority("localhost"),
		}, nil
	}
	host, port, err := net.SplitHostPort(e.Address)
	if n, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil || n == 0 || host == "" {
		return "", nil, fmt.Errorf("address: %q must be HOST:PORT or unix://%s/NAME.sock", e.Address, sockets)
	}
	config, err := tlsConfig(o)
	if err != nil {
		return "", nil, err
	}
	return e.Address, []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(config))}, nil
}

// tlsConfig is for mutual TLS. The client certificate is read anew for each connection.
func tlsConfig(o Options) (*tls.Config, error) {
	e := o.External
	if e.ClientCertificateRef == nil || e.ClientCertificateRef.Name == "" {
		return nil, fmt.Errorf("clientCertificateRef.name: must be set for %s: a program that signs for whoever can reach it is no CA", e.Address)
	}
	if err := remote.CheckSecret(*e.ClientCertificateRef, "clientCertificateRef"); err != nil {
		return nil, err
	}
	return remote.TLSConfig(e.CABundle, e.ServerName, remote.Options{Certificate: func(ctx context.Context) (*tls.Certificate, error) {
		return o.Secrets.Certificate(ctx, *e.ClientCertificateRef)
	}})
}
