// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ca is the backend that signs with a CA certificate and key kept in a Secret of Certwright's own namespace: one
// that an administrator put there, or one that this package made and renews. It also signs with a key that is kept outside
// Kubernetes, by way of package device.
//
// It promises that a certificate is built from the parsed request and compared with it afterwards, and that it never outlives any
// certificate above it. Package source knows where a CA in Secrets comes from, and how it is replaced.
package ca

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca/authority"
	"github.com/certwright/certwright/signer/ca/device"
	"github.com/certwright/certwright/signer/ca/keyuri"
	"github.com/certwright/certwright/signer/ca/rotation"
	"github.com/certwright/certwright/signer/ca/source"
)

// defaultPropagation holds where the API server's default did not.
const defaultPropagation = time.Hour

// OpenKey opens the private key of the public key that a URI names, such as one in an HSM or a cloud's KMS: see keyuri. The pin may
// be empty. The key is closed if it is an io.Closer. It need not be checked that the private key is the right one.
type OpenKey func(ctx context.Context, uri keyuri.URI, pin string, public crypto.PublicKey) (crypto.Signer, error)

// Options are what New needs. Only IsCA, OpenKey, Clock and Rand may be left out.
type Options struct {
	// Client reads Secrets of Namespace from a cache, and creates and updates those of this package's own.
	Client client.Client
	// Reader reads the same Secrets, and Signers, past the cache. It is used only to settle what the cache may not know yet.
	Reader client.Reader
	// Namespace that the Secrets are in: Certwright's own.
	Namespace string
	// Signer is the name of the Signer, SignerName its spec.signerName, Backend the name of the backend in it.
	Signer, SignerName, Backend string
	// CA is the backend's configuration.
	CA v1alpha1.CA
	// IsCA is the Signer's limit of that name: without it no CA certificate is signed, and a managed CA is made with path
	// lengths that would forbid it.
	IsCA bool
	// OpenKey opens keys that are kept outside Kubernetes. Without it, ca.key is refused.
	OpenKey OpenKey
	// Clock tells the time. Default: the real one.
	Clock clock.PassiveClock
	// Rand is where serial numbers come from. Default: crypto/rand.
	Rand io.Reader
}

// Backend signs with one CA. It is safe for concurrent use.
type Backend struct {
	options Options
	// urls are written into every certificate.
	urls authority.URLs
	// source is where the CA is, outside its key if that is kept outside Kubernetes.
	source  source.Source
	outside *device.Key
	// hindered is why Rotate can do nothing, as far as it could not when it was last called.
	hindered atomic.Pointer[error]
}

var (
	_ signer.Backend       = (*Backend)(nil)
	_ signer.Checker       = (*Backend)(nil)
	_ signer.TrustAnchorer = (*Backend)(nil)
	_ signer.Expirer       = (*Backend)(nil)
	_ signer.Rotator       = (*Backend)(nil)
	_ signer.PodSigner     = (*Backend)(nil)
	_ io.Closer            = (*Backend)(nil)
)

// New returns a backend for one entry of a Signer's backends. It does no I/O; the error is about the configuration.
func New(o Options) (*Backend, error) {
	if o.Namespace == "" || o.Signer == "" || o.SignerName == "" || o.Backend == "" || o.Client == nil || o.Reader == nil {
		return nil, fmt.Errorf("building CA backend %q of Signer %q: a namespace, the names of the Signer, its signerName and the backend, a client and an uncached reader are needed",
			o.Backend, o.Signer)
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.CA.TrustPropagation.Duration <= 0 {
		o.CA.TrustPropagation.Duration = defaultPropagation
	}
	b := &Backend{options: o}
	if err := b.configure(); err != nil {
		return nil, fmt.Errorf("building CA backend %q of Signer %q: ca.%w", o.Backend, o.Signer, err)
	}
	return b, nil
}

// configure takes in the configuration. The error begins with the field below ca.
func (b *Backend) configure() (err error) {
	c := b.options.CA
	if b.urls, err = authority.ParseURLs(c); err != nil {
		return err
	}
	switch {
	case sources(c) != 1:
		return errors.New("managed, ca.secretRef and ca.key: exactly one of them must be set")
	case c.SecretRef != nil:
		if c.SecretRef.Name == "" {
			return errors.New("secretRef.name is empty")
		}
		b.source = source.NewImported(b.kept())
	case c.Key != nil:
		if err := b.configureKey(*c.Key); err != nil {
			return fmt.Errorf("key%w", err)
		}
	default:
		if b.source, err = source.NewManaged(b.kept()); err != nil {
			return fmt.Errorf("managed.%w", err)
		}
	}
	return nil
}

// kept is what a CA in Secrets needs.
func (b *Backend) kept() source.Options {
	o := b.options
	return source.Options{
		Client: o.Client, Reader: o.Reader, Namespace: o.Namespace, Signer: o.Signer, SignerName: o.SignerName, Backend: o.Backend,
		Config: o.CA, IsCA: o.IsCA, Clock: o.Clock, Rand: o.Rand,
	}
}

func sources(c v1alpha1.CA) (n int) {
	for _, set := range []bool{c.Managed != nil, c.SecretRef != nil, c.Key != nil} {
		if set {
			n++
		}
	}
	return n
}

// Sign implements signer.Backend. The chain holds the leaf and the CA certificates above it, without the root.
func (b *Backend) Sign(ctx context.Context, req csr.Request) ([]*x509.Certificate, error) {
	if req.IsCA && !b.options.IsCA {
		return nil, &signer.PermanentError{Err: errors.New("isCA is true: this Signer's limits allow no CA certificates")}
	}
	l, err := b.load(ctx, req.Duration)
	if err != nil {
		return nil, err
	}
	now := b.options.Clock.Now()
	if err := b.fit(l, now); err != nil {
		return nil, err
	}
	leaf, err := l.Authority.Issue(req.WithDuration(l.Lifetime), now, b.options.Rand, b.signWith(ctx, l.Authority), b.urls)
	if err != nil {
		return nil, err
	}
	return l.Authority.Chain(leaf), nil
}

// SignsPods implements signer.PodSigner: certificates are built from the fields of the request.
func (b *Backend) SignsPods() bool { return true }

func (b *Backend) load(ctx context.Context, lifetime time.Duration) (source.CA, error) {
	if err := ctx.Err(); err != nil {
		return source.CA{}, err
	}
	l, err := b.source.Load(ctx, lifetime)
	if source.ReasonOf(err) == source.ReasonCANotMade {
		err = b.because(err)
	}
	return l, err
}

// fit returns a *signer.CheckError if the CA cannot sign by the clock here, or does not sign yet.
func (b *Backend) fit(l source.CA, now time.Time) error {
	return b.because(cmp.Or(l.Authority.Check(now), l.Hold))
}

// because adds to a *signer.CheckError what keeps Rotate from doing something about it.
func (b *Backend) because(err error) error {
	if why := b.hindered.Load(); err != nil && why != nil {
		return authority.Unusable(source.ReasonOf(err), "%w; %w", err, *why)
	}
	return err
}

// Check implements signer.Checker. An error of reason ServingLastGoodCA or RootNotPropagated asks for a person, but Sign works while that
// lasts.
func (b *Backend) Check(ctx context.Context) error {
	l, err := b.load(ctx, 0)
	if err != nil {
		return err
	}
	if err := b.fit(l, b.options.Clock.Now()); err != nil {
		return err
	}
	if b.outside != nil {
		return b.outside.Check(ctx)
	}
	return l.Warn
}

// Rotate implements signer.Rotator. A managed CA is made, and its certificates are renewed, by nothing else.
func (b *Backend) Rotate(ctx context.Context, ask signer.Rotation) (signer.Rotated, error) {
	if err := ctx.Err(); err != nil {
		return signer.Rotated{}, err
	}
	now := b.options.Clock.Now()
	other, away := ask.Time(ctx)
	ask.Time = func(context.Context) (time.Time, error) { return other, away }
	r, err := b.source.Rotate(ctx, ask)
	if err == nil { // a clock that is behind finds nothing due, and one that is years ahead that all is over
		_, err = rotation.Facts{Now: now, Time: func() (time.Time, error) { return other, away }}.Agreed()
	}
	b.hindered.Store(nil)
	if err != nil {
		b.hindered.Store(&err)
	}
	return r, err
}

// Close implements io.Closer. It gives back a key that is kept outside.
func (b *Backend) Close() error {
	if b.outside == nil {
		return nil
	}
	return b.outside.Close()
}

// TrustAnchors implements signer.TrustAnchorer: the roots that this CA's certificates lead to. The one that signs now leads to the first.
func (b *Backend) TrustAnchors(ctx context.Context) ([]*x509.Certificate, error) {
	l, err := b.load(ctx, 0)
	return slices.Clone(l.Anchors), err
}

// NotAfter implements signer.Expirer: when the first certificate of the chain expires, the root included.
func (b *Backend) NotAfter(ctx context.Context) (time.Time, error) {
	l, err := b.load(ctx, 0)
	if err != nil {
		return time.Time{}, err
	}
	return l.Authority.NotAfter, nil
}
