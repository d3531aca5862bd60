// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package venafi is the backend that asks Venafi Trust Protection Platform (TPP) or Venafi as a Service (Cloud), which are also
// called CyberArk Certificate Manager, Self-Hosted and SaaS, over their REST APIs.
//
// It promises that no certificate is bought twice: what was asked for is found again by a key made from the request, in TPP as
// the name of the certificate object, with Cloud in a Secret of its own. A request that somebody must approve there is pending
// until then.
package venafi

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/remote"
	"github.com/certwright/certwright/signer/secretname"
	"github.com/certwright/certwright/signer/venafi/memory"
)

// Options are what New needs. Only Clock may be left out.
type Options struct {
	// Client reads Secrets of Namespace from a cache, and writes the one that is this backend's own.
	Client client.Client
	// Reader reads the same Secrets past the cache.
	Reader client.Reader
	// Namespace that the Secrets are in: Certwright's own.
	Namespace string
	// Signer is the name of the Signer, Backend the name of the backend in it.
	Signer, Backend string
	// Venafi is the backend's configuration.
	Venafi v1alpha1.Venafi
	// Clock tells the time. Default: the real one.
	Clock clock.PassiveClock
}

// product is one of the two products.
type product interface {
	// sign finds what was ordered before, or orders it.
	sign(ctx context.Context, o order) ([]*x509.Certificate, error)
	check(ctx context.Context) error
}

// Backend has one zone of one server sign. It is safe for concurrent use.
type Backend struct {
	product product
	clients []*http.Client
	usages  []certificatesv1.KeyUsage
	clock   clock.PassiveClock
}

var (
	_ signer.Backend = (*Backend)(nil)
	_ signer.Checker = (*Backend)(nil)
)

// New returns a backend for one entry of a Signer's backends. It does no I/O; the error is about the configuration and names
// the field.
func New(o Options) (*Backend, error) {
	b := &Backend{usages: o.Venafi.Usages, clock: o.Clock}
	if b.clock == nil {
		b.clock = clock.RealClock{}
	}
	if _, _, err := csr.X509Usages(b.usages); err != nil {
		return nil, fmt.Errorf("venafi.usages: %w", err)
	}
	secrets := remote.Secrets{Reader: o.Client, Namespace: o.Namespace}
	own := &memory.Secret{Client: o.Client, Reader: o.Reader, Key: client.ObjectKey{Namespace: o.Namespace, Name: secretname.Venafi.Of(o.Signer, o.Backend)}}
	var err error
	switch tpp, cloud := o.Venafi.TPP, o.Venafi.Cloud; {
	case (tpp == nil) == (cloud == nil):
		err = errors.New("venafi: exactly one of venafi.tpp and venafi.cloud must be set")
	case tpp != nil:
		err = b.useTPP(*tpp, secrets, own)
	default:
		err = b.useCloud(*cloud, secrets, own)
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Sign implements signer.Backend. The chain holds the leaf and the CA certificates above it that the server tells, without the
// root.
func (b *Backend) Sign(ctx context.Context, req csr.Request) ([]*x509.Certificate, error) {
	if err := b.refuse(req); err != nil {
		return nil, err
	}
	return b.product.sign(ctx, newOrder(req, b.clock.Now()))
}

// Check implements signer.Checker: it logs in and reads the zone. Nothing is ordered.
func (b *Backend) Check(ctx context.Context) error { return b.product.check(ctx) }

// Close implements io.Closer.
func (b *Backend) Close() error {
	for _, c := range b.clients {
		c.CloseIdleConnections()
	}
	return nil
}

// client makes an HTTP client that Close closes.
func (b *Backend) client(server v1alpha1.Server, o remote.Options) (*http.Client, error) {
	c, err := remote.HTTPClient(server, o)
	if err != nil {
		return nil, err
	}
	b.clients = append(b.clients, c)
	return c, nil
}
