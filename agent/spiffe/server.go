// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package spiffe

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/certwright/certwright/agent/spiffe/rpc"
)

// complaintInterval is how often at most a client's complaint is logged.
const complaintInterval = 10 * time.Second

// Server serves what Update was given last.
type Server struct {
	socket     string
	log        *slog.Logger
	complaints rate.Sometimes

	mu      sync.Mutex
	current *material
}

// New returns a Server for a Unix socket at the path. It does nothing until Run.
func New(socket string, log *slog.Logger) *Server {
	return &Server{
		socket: socket, log: log, complaints: rate.Sometimes{Interval: complaintInterval},
		current: &material{replaced: make(chan struct{})},
	}
}

// Update replaces what is served: the certificate and its intermediates, leaf
// first; the key of the leaf; and the anchors of the certificate's own signer,
// which SPIFFE takes for those of the leaf's trust domain. On an error what was
// served before stays. It waits for no client.
func (s *Server) Update(chain []*x509.Certificate, key crypto.Signer, bundle []*x509.Certificate) error {
	next, err := newMaterial(chain, key, bundle)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if next.same(s.current) {
		return nil
	}
	close(s.current.replaced)
	s.current = next
	return nil
}

// Run serves clients until ctx ends, which is no error. It fails when the socket
// cannot be made.
func (s *Server) Run(ctx context.Context) error {
	listener, err := listen(ctx, s.socket)
	if err != nil {
		return err
	}
	s.log.Info("serving the SPIFFE Workload API and Envoy's secret discovery", "socket", s.socket)
	return rpc.New(map[string]rpc.Handler{
		"/SpiffeWorkloadAPI/FetchX509SVID":                              s.fetchX509SVID,
		"/SpiffeWorkloadAPI/FetchX509Bundles":                           s.fetchX509Bundles,
		"/SpiffeWorkloadAPI/FetchJWTSVID":                               noJWT,
		"/SpiffeWorkloadAPI/FetchJWTBundles":                            noJWT,
		"/SpiffeWorkloadAPI/ValidateJWTSVID":                            noJWT,
		"/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets": s.streamSecrets,
		"/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets":  s.deltaSecrets,
		"/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets":  s.fetchSecrets,
	}, s.log).Run(ctx, listener)
}

func (s *Server) material() *material {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// follow calls send with what is served, as soon as there is something and then
// whenever it changed, until send returns an error or the call ends.
func (s *Server) follow(ctx context.Context, send func(*material) error) error {
	for {
		now := s.material()
		if now.complete() {
			if err := send(now); err != nil {
				return err
			}
		}
		select {
		case <-now.replaced:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var errEmpty = errors.New("there must be a certificate and a trust bundle")
