// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package external is the backend that asks a program of somebody's own, which serves the gRPC contract certwright.signer.v1
// (package signerv1) on a Unix socket in the signer's pod or over mutual TLS.
//
// It promises that only an answer of that program is a verdict: what ends in a gRPC status of any code, such as a proxy makes
// up, is trouble. It keeps one connection, made at the first call and again when it is lost.
package external

import (
	"context"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/utils/clock"
	"k8s.io/utils/lru"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/external/signerv1"
	"github.com/certwright/certwright/signer/remote"
)

// fresh is how long trust anchors are taken for what the program would say now.
const fresh = 10 * time.Second

// maxAdvice bounds for how many certificates it is remembered when they are best renewed.
const maxAdvice = 4096

// Options are what New needs. Only Clock and Sockets may be left out.
type Options struct {
	// Secrets are read for the client certificate.
	Secrets remote.Secrets
	// SignerName is the Signer's spec.signerName, Backend the name of the backend in it.
	SignerName, Backend string
	// External is the backend's configuration.
	External v1alpha1.External
	// Sockets is the folder that holds the sockets which an address has in /run/certwright. Default: that folder.
	Sockets string
	// Clock tells the time. Default: the real one.
	Clock clock.PassiveClock
}

// Backend asks one program. It is safe for concurrent use.
type Backend struct {
	options    Options
	connection *grpc.ClientConn
	client     signerv1.SignerClient
	advice     *lru.Cache // from the hash of a leaf to the time.Time when it is best renewed

	mu    sync.Mutex
	known anchors
}

// anchors are what the program said last that it leads to.
type anchors struct {
	certificates []*x509.Certificate
	notAfter     time.Time
	asked        time.Time // zero: they must be asked for again
}

var (
	_ signer.Backend        = (*Backend)(nil)
	_ signer.Checker        = (*Backend)(nil)
	_ signer.TrustAnchorer  = (*Backend)(nil)
	_ signer.Expirer        = (*Backend)(nil)
	_ signer.RenewalAdviser = (*Backend)(nil)
)

// New returns a backend for one entry of a Signer's backends. It does no I/O; the error is about the configuration.
func New(o Options) (*Backend, error) {
	if o.Sockets == "" {
		o.Sockets = sockets
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	connection, err := connect(o)
	if err != nil {
		return nil, fmt.Errorf("building external backend %q: external.%w", o.Backend, err)
	}
	return &Backend{options: o, connection: connection, client: signerv1.NewSignerClient(connection), advice: lru.New(maxAdvice)}, nil
}

// Close closes the connection. Calls that are under way end in trouble.
func (b *Backend) Close() error { return b.connection.Close() }

// Sign implements signer.Backend.
func (b *Backend) Sign(ctx context.Context, req csr.Request) ([]*x509.Certificate, error) {
	granted, err := request(req, b.options.External.Config)
	if err != nil {
		return nil, err
	}
	response, err := b.client.Sign(ctx, granted)
	switch status.Code(err) {
	case codes.OK:
	case codes.InvalidArgument, codes.OutOfRange, codes.AlreadyExists:
		return nil, &signer.RequestError{Err: b.trouble("sign", err)}
	default:
		return nil, b.trouble("sign", err)
	}
	chain, renewAt, err := result(response)
	if err != nil {
		return nil, err
	}
	if !renewAt.IsZero() {
		b.advice.Add(fingerprint(chain[0]), renewAt)
	}
	b.distrust(chain)
	return chain, nil
}

// Check implements signer.Checker.
func (b *Backend) Check(ctx context.Context) error {
	if ref := b.options.External.ClientCertificateRef; ref != nil {
		if _, err := b.options.Secrets.Certificate(ctx, *ref); err != nil {
			return err
		}
	}
	_, err := b.client.Check(ctx, &signerv1.CheckRequest{SignerName: b.options.SignerName, Config: b.options.External.Config})
	if err != nil {
		return b.trouble("check", err)
	}
	return nil
}

// TrustAnchors implements signer.TrustAnchorer. While the program cannot be asked, they are what it said last.
func (b *Backend) TrustAnchors(ctx context.Context) ([]*x509.Certificate, error) {
	known, err := b.anchors(ctx)
	return append([]*x509.Certificate(nil), known.certificates...), err
}

// NotAfter implements signer.Expirer: what the program says, or when the first trust anchor expires. It is zero for a program
// that knows neither.
func (b *Backend) NotAfter(ctx context.Context) (time.Time, error) {
	known, err := b.anchors(ctx)
	return known.notAfter, err
}

// RenewAt implements signer.RenewalAdviser with what the program said when it issued the leaf.
func (b *Backend) RenewAt(_ context.Context, leaf *x509.Certificate) (time.Time, error) {
	advice, _ := b.advice.Get(fingerprint(leaf))
	at, _ := advice.(time.Time)
	return at, nil
}

// anchors returns what the program says, or said moments ago.
func (b *Backend) anchors(ctx context.Context) (anchors, error) {
	b.mu.Lock()
	known := b.known
	b.mu.Unlock()
	now := b.options.Clock.Now()
	if !known.asked.IsZero() && now.Sub(known.asked) < fresh {
		return known, nil
	}
	response, err := b.client.TrustAnchors(ctx, &signerv1.TrustAnchorsRequest{SignerName: b.options.SignerName, Config: b.options.External.Config})
	if err != nil {
		err = b.trouble("tell its trust anchors", err)
	} else {
		known, err = parseAnchors(response)
	}
	if err != nil {
		if len(known.certificates) > 0 {
			return known, nil
		}
		return anchors{}, err
	}
	known.asked = now
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known = known
	return known, nil
}

// distrust has the trust anchors asked for again if they do not explain the chain, as after a change of the program's CA.
func (b *Backend) distrust(chain []*x509.Certificate) {
	b.mu.Lock()
	defer b.mu.Unlock()
	last := chain[len(chain)-1]
	for _, anchor := range b.known.certificates {
		if last.Equal(anchor) || last.CheckSignatureFrom(anchor) == nil {
			return
		}
	}
	b.known.asked = time.Time{}
}

// trouble says which call of which program did not work. Its words are not to be trusted with length or content.
func (b *Backend) trouble(what string, err error) error {
	s := status.Convert(err)
	return fmt.Errorf("asking the external signer at %s to %s: %s: %s", b.options.External.Address, what, s.Code(), remote.Bound(s.Message()))
}
