// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/acme/challenge"
	"github.com/certwright/certwright/signer/acme/dns01"
	"github.com/certwright/certwright/signer/acme/http01"
	"github.com/certwright/certwright/signer/acme/order"
	"github.com/certwright/certwright/signer/remote"
	"github.com/certwright/certwright/webhook/gate"
)

// newSolver makes what answers the challenges of ACME servers. It is a challenge.NewSolver.
func (m backends) newSolver(config v1alpha1.ACMESolver) (challenge.Solver, error) {
	switch {
	case config.HTTP01 != nil:
		return http01.New(http01.Options{Client: m.client, Namespace: m.namespace}, *config.HTTP01)
	case config.DNS01 != nil:
		return dns01.New(dns01.Options{Secrets: remote.Secrets{Reader: m.client, Namespace: m.namespace}}, *config.DNS01)
	}
	return nil, errors.New("http01, dns01: exactly one must be set")
}

// addSolver adds to the manager what ACME backends need beside them: the server that answers HTTP-01 challenges in every
// replica, and in the leader what cleans up after orders.
func (m backends) addSolver(ctx context.Context, mgr ctrl.Manager, address string) error {
	if err := order.Index(ctx, mgr.GetFieldIndexer()); err != nil {
		return fmt.Errorf("indexing challenges: %w", err)
	}
	err := mgr.Add(&order.Cleaner{Book: m.orders, Requests: mgr.GetClient(), NewSolver: m.newSolver, Clock: clock.RealClock{}})
	if err != nil {
		return err
	}
	if address == "0" {
		return nil
	}
	return mgr.Add(solverServer{address: address, answers: order.Tokens{Reader: mgr.GetClient(), Namespace: m.namespace}})
}

// solverServer serves the answers to HTTP-01 challenges.
type solverServer struct {
	address string
	answers http01.Answers
}

// NeedLeaderElection lets every replica serve.
func (solverServer) NeedLeaderElection() bool { return false }

// Start serves until ctx ends. Whoever can reach a route can connect, so connections are bounded.
func (s solverServer) Start(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.address)
	if err != nil {
		return fmt.Errorf("--acme-solver-address %s: %w", s.address, err)
	}
	server := http01.NewServer(http01.Handler(s.answers))
	served := make(chan error, 1)
	guarded := gate.New(clock.RealClock{}).Guard(server, listener)
	go func() { served <- server.Serve(guarded) }()
	select {
	case err := <-served:
		return fmt.Errorf("serving answers to ACME challenges at %s: %w", s.address, err)
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return server.Shutdown(ctx)
}
