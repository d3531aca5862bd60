// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package acme is the backend that orders certificates from an ACME server (RFC 8555).
//
// An order takes time: its names are proven, the server validates and issues. No call waits for any of it. Each Sign makes the
// steps that can be made and returns a *signer.PendingError until there is a certificate. Where an order stands is kept by
// package order, so that it outlives this process, and the same request never buys a second certificate.
//
// What a server refuses for what the request is, is permanent. What may look different later is tried again, with a new order
// and growing pauses, a bounded number of times. What is the server's own trouble never counts.
package acme

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/time/rate"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/acme/account"
	"github.com/certwright/certwright/signer/acme/challenge"
	"github.com/certwright/certwright/signer/acme/order"
	"github.com/certwright/certwright/signer/acme/server"
	"github.com/certwright/certwright/signer/secretname"
)

// Options are what New needs. Only Clock may be left out.
type Options struct {
	// Client reads Secrets of Namespace from a cache, and creates and updates that of the account.
	Client client.Client
	// Reader reads the same Secrets past the cache. It is used only to settle what the cache may not know yet.
	Reader client.Reader
	// Namespace that the Secrets are in: Certwright's own.
	Namespace string
	// Signer is the name of the Signer, Backend the name of the backend in it.
	Signer, Backend string
	// ACME is the backend's configuration.
	ACME v1alpha1.ACME
	// Orders keeps the orders of all ACME backends.
	Orders *order.Book
	// NewSolver makes what answers challenges.
	NewSolver challenge.NewSolver
	// Clock tells the time. Default: the real one.
	Clock clock.PassiveClock
}

// Backend orders certificates with one account. It is safe for concurrent use.
type Backend struct {
	options Options
	server  *server.Server
	solvers solvers
	account *account.Keeper
	queue   queue
	former  predecessors
	given   experience
}

var (
	_ signer.Backend        = (*Backend)(nil)
	_ signer.Checker        = (*Backend)(nil)
	_ signer.Holder         = (*Backend)(nil)
	_ signer.RenewalAdviser = (*Backend)(nil)
	_ io.Closer             = (*Backend)(nil)
)

// New returns a backend for one entry of a Signer's backends. It does no I/O; the error is about the configuration.
func New(o Options) (*Backend, error) {
	if o.Namespace == "" || o.Signer == "" || o.Backend == "" || o.Client == nil || o.Reader == nil || o.Orders == nil || o.NewSolver == nil {
		return nil, errors.New("a namespace, the names of the Signer and the backend, a client, an uncached reader, a book of orders and solvers are needed")
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	made, err := newSolvers(o.ACME.Solvers, o.NewSolver)
	if err != nil {
		return nil, err
	}
	s, err := server.New(o.ACME.Server, o.Clock)
	if err != nil {
		return nil, err
	}
	keeper, err := account.New(account.Options{
		Client: o.Client, Reader: o.Reader, Namespace: o.Namespace, Secret: secretname.ACMEAccount.Of(o.Signer, o.Backend), Config: o.ACME, Server: s,
	})
	if err != nil {
		return nil, err
	}
	return &Backend{
		options: o,
		server:  s,
		account: keeper,
		solvers: made,
		queue:   queue{clock: o.Clock, pace: rate.NewLimiter(ordersPerSecond, ordersAtOnce)},
		former:  predecessors{},
		given:   experience{clock: o.Clock},
	}, nil
}

// Close implements io.Closer.
func (b *Backend) Close() error {
	b.server.Close()
	var errs []error
	for _, s := range b.solvers {
		if c, ok := s.Solver.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// Check implements signer.Checker: whether the server answers, and the account is fit to order with.
func (b *Backend) Check(ctx context.Context) error {
	directory, err := b.server.Refresh(ctx)
	if err != nil {
		return &signer.CheckError{Reason: ReasonServerUnreachable, Err: err}
	}
	if profile := b.options.ACME.Profile; profile != "" && !server.HasProfile(directory, profile) {
		return unknownProfile(directory, profile)
	}
	if err := b.account.Verify(ctx); err != nil {
		return err
	}
	for _, s := range b.solvers {
		if c, ok := s.Solver.(signer.Checker); ok {
			if err := c.Check(ctx); err != nil {
				return err
			}
		}
	}
	return b.given.warning()
}

// Reasons of the *signer.CheckError that Check returns, beside those of packages account and remote.
const (
	ReasonServerUnreachable = "ServerUnreachable" // the directory cannot be read
	ReasonProfileUnknown    = "ProfileUnknown"    // the server has no such profile
	ReasonLifetimeTooLong   = "LifetimeTooLong"   // the server gives longer lifetimes than are granted
)

func unknownProfile(d server.Directory, profile string) error {
	return &signer.CheckError{Reason: ReasonProfileUnknown, Err: fmt.Errorf("acme.profile: %q is not among those of the server: %q", profile, server.Profiles(d))}
}
