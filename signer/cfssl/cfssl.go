// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cfssl is the backend that has a remote cfssl or multirootca server sign, by authenticated signing: requests carry
// an HMAC with a key that both sides know.
//
// Such a server decides by its profile what a certificate may be used for, and cfssl serve also how long it lives, whatever
// is asked of it. The package therefore reads the profile first and asks for nothing that would come back as something else:
// a request that does not fit the profile is refused for good before anything is signed. A multirootca server is asked for
// the granted lifetime.
package cfssl

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/remote"
)

// Options are what New needs. Only Clock may be left out.
type Options struct {
	// Reader reads Secrets of Namespace from a cache.
	Reader client.Reader
	// Namespace that the Secrets are in: Certwright's own.
	Namespace string
	// CFSSL is the backend's configuration.
	CFSSL v1alpha1.CFSSL
	// Clock tells the time. Default: the real one.
	Clock clock.PassiveClock
}

// Backend has one signer of one server sign. It is safe for concurrent use.
type Backend struct {
	config  v1alpha1.CFSSL
	secrets remote.Secrets
	clock   clock.PassiveClock
	http    *http.Client
	base    *url.URL
	above   []*x509.Certificate // of config.Chain

	mu   sync.Mutex
	last *authority // what the server told of itself last, or nil
}

var (
	_ signer.Backend       = (*Backend)(nil)
	_ signer.Checker       = (*Backend)(nil)
	_ signer.TrustAnchorer = (*Backend)(nil)
	_ signer.Expirer       = (*Backend)(nil)
)

// New returns a backend for one entry of a Signer's backends. It does no I/O; the error is about the configuration and names
// the field.
func New(o Options) (*Backend, error) {
	b := &Backend{config: o.CFSSL, secrets: remote.Secrets{Reader: o.Reader, Namespace: o.Namespace}, clock: o.Clock}
	if b.clock == nil {
		b.clock = clock.RealClock{}
	}
	options := remote.Options{Field: "cfssl"}
	if ref := o.CFSSL.ClientCertificateRef; ref != nil {
		if err := remote.CheckSecret(*ref, "cfssl.clientCertificateRef"); err != nil {
			return nil, err
		}
		options.Certificate = func(ctx context.Context) (*tls.Certificate, error) { return b.secrets.Certificate(ctx, *ref) }
	}
	if err := remote.CheckRef(o.CFSSL.AuthKeyRef, "cfssl.authKeyRef"); err != nil {
		return nil, err
	}
	var err error
	if b.base, err = remote.BaseURL(o.CFSSL.URL, "cfssl.url"); err != nil {
		return nil, err
	}
	if b.http, err = remote.HTTPClient(o.CFSSL.Server, options); err != nil {
		return nil, err
	}
	if b.above, err = remote.Certificates(o.CFSSL.Chain, "cfssl.chain"); err != nil {
		return nil, err
	}
	for i, c := range b.above {
		if !c.BasicConstraintsValid || !c.IsCA {
			return nil, fmt.Errorf("cfssl.chain: certificate %d (%s) is no CA certificate: only those stand above the server's own", i+1, c.Subject)
		}
	}
	return b, nil
}

// Sign implements signer.Backend. The chain holds the leaf, the server's CA certificate and those of chain above it, without
// the root.
func (b *Backend) Sign(ctx context.Context, req csr.Request) ([]*x509.Certificate, error) {
	if err := refuse(req); err != nil {
		return nil, err
	}
	a, err := b.permitting(ctx, req)
	if err != nil {
		return nil, err
	}
	leaf, err := b.authSign(ctx, newSignRequest(b.config, req, earliest(b.clock.Now().Add(req.Duration), a.notAfter)))
	if err != nil {
		return nil, err
	}
	if leaf.CheckSignatureFrom(a.issuer) != nil {
		// The server may have got another CA meanwhile.
		if a, err = b.ask(ctx); err != nil {
			return nil, err
		}
		if err := leaf.CheckSignatureFrom(a.issuer); err != nil {
			return nil, fmt.Errorf("the server signed with another CA than %q, which its info endpoint tells: %w", a.issuer.Subject, err)
		}
	}
	return append([]*x509.Certificate{leaf}, a.issuers...), nil
}

// permitting returns what the server told of itself, after checking that its profile can give what is asked for. A refusal
// never rests on old knowledge.
func (b *Backend) permitting(ctx context.Context, req csr.Request) (*authority, error) {
	b.mu.Lock()
	a := b.last
	b.mu.Unlock()
	if a != nil && a.permits(req, b.clock.Now()) == nil {
		return a, nil
	}
	a, err := b.ask(ctx)
	if err != nil {
		return nil, err
	}
	return a, a.permits(req, b.clock.Now())
}

// ask has the server tell what it signs with.
func (b *Backend) ask(ctx context.Context) (*authority, error) {
	told, err := b.info(ctx)
	if err != nil {
		return nil, err
	}
	a, err := newAuthority(told, b.above, b.config)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.last = a
	b.mu.Unlock()
	return a, nil
}

// Check implements signer.Checker: it asks for the server's CA and profile, and sees by a request without content whether
// the server takes the key. Nothing is signed.
func (b *Backend) Check(ctx context.Context) error {
	a, err := b.ask(ctx)
	if err != nil {
		return err
	}
	if err := a.check(b.clock.Now()); err != nil {
		return err
	}
	return b.probe(ctx)
}

// TrustAnchors implements signer.TrustAnchorer: the root that the server's CA certificate and chain lead to.
func (b *Backend) TrustAnchors(ctx context.Context) ([]*x509.Certificate, error) {
	a, err := b.ask(ctx)
	if err != nil {
		return nil, err
	}
	if a.root == nil {
		return nil, checkError(reasonRootUnknown, "the server signs with %q, whose issuer %q it does not tell: put the root into the backend's trustAnchors, and what lies between into cfssl.chain",
			a.issuer.Subject, a.issuers[len(a.issuers)-1].Issuer)
	}
	return []*x509.Certificate{a.root}, nil
}

// NotAfter implements signer.Expirer: when the first known CA certificate expires.
func (b *Backend) NotAfter(ctx context.Context) (time.Time, error) {
	a, err := b.ask(ctx)
	if err != nil {
		return time.Time{}, err
	}
	return a.notAfter, nil
}

// Close implements io.Closer.
func (b *Backend) Close() error {
	b.http.CloseIdleConnections()
	return nil
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
