// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ca is the backend that signs with a CA certificate and key kept in a Secret of Certwright's own namespace: one
// that an administrator put there, or one that this package made and renews. It also signs with a key that is kept outside
// Kubernetes, by way of package device.
//
// It promises that a certificate is built from the parsed request and compared with it afterwards, that it never outlives
// any certificate above it, and that a Secret which breaks does not take a good CA out of service: the last good one signs
// while it is valid, and Check says so. The same holds for the Secret of a managed CA that is deleted, which is not made anew
// unless a person says so. Deleting a Secret that an administrator brought does take its CA out of service.
package ca

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca/authority"
	"github.com/certwright/certwright/signer/ca/device"
	"github.com/certwright/certwright/signer/ca/keyuri"
)

// The reasons of the *signer.CheckErrors of this package, beside those of authority, device and remote.
const (
	reasonSecretNotFound          = "SecretNotFound"
	reasonCASecretLost            = "CASecretLost"
	reasonSecretIncomplete        = "SecretIncomplete"
	reasonSecretOfAnother         = "SecretOfAnotherSigner"
	reasonKeyInvalid              = "KeyInvalid"
	reasonServingLastGoodCA       = "ServingLastGoodCA"
	reasonIntermediateNotRenewing = "IntermediateNotRenewing"
)

// OpenKey opens the private key of the public key that a URI names, such as one in an HSM or a cloud's KMS: see keyuri. The pin may
// be empty. The key is closed if it is an io.Closer. It need not be checked that the private key is the right one.
type OpenKey func(ctx context.Context, uri keyuri.URI, pin string, public crypto.PublicKey) (crypto.Signer, error)

// Options are what New needs. Only IsCA, OpenKey, Clock and Rand may be left out.
type Options struct {
	// Client reads Secrets of Namespace from a cache and, for a managed CA, creates and updates one.
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
	// secret is the name of the Secret that holds the CA, unless its key is outside: then fixed and outside are set.
	secret  string
	fixed   *authority.Authority
	outside *device.Key

	mu      sync.Mutex
	version string               // UID and resourceVersion of the Secret that the rest was read from
	latest  *authority.Authority // what that Secret holds, or nil
	broken  error                // why latest is nil
	good    *authority.Authority // the last one that was fit to sign with

	renewAfter time.Time // no attempt to renew before then
	renewErr   error     // why the last attempt did not work
}

var (
	_ signer.Backend       = (*Backend)(nil)
	_ signer.Checker       = (*Backend)(nil)
	_ signer.TrustAnchorer = (*Backend)(nil)
	_ signer.Expirer       = (*Backend)(nil)
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
		if b.secret = c.SecretRef.Name; b.secret == "" {
			return errors.New("secretRef.name is empty")
		}
	case c.Key != nil:
		if err := b.configureKey(*c.Key); err != nil {
			return fmt.Errorf("key%w", err)
		}
	default:
		if b.options.CA.Managed, err = withDefaults(*c.Managed, b.options.SignerName); err != nil {
			return fmt.Errorf("managed.%w", err)
		}
		b.secret = SecretName(b.options.Signer, b.options.Backend)
	}
	return nil
}

func sources(c v1alpha1.CA) (n int) {
	for _, set := range []bool{c.Managed != nil, c.SecretRef != nil, c.Key != nil} {
		if set {
			n++
		}
	}
	return n
}

// SecretName is the name of the Secret that holds the managed CA of a backend, from the name of its Signer and its own. A backend's name has no dots, so no two
// backends share a Secret; a name that would be too long for Kubernetes becomes a hash.
func SecretName(signer, backend string) string {
	name := "certwright-ca-" + signer + "." + backend
	if len(name) > 253 {
		sum := sha256.Sum256([]byte(name))
		return "certwright-ca-" + hex.EncodeToString(sum[:])
	}
	return name
}

// Sign implements signer.Backend. The chain holds the leaf and the CA certificates above it, without the root.
func (b *Backend) Sign(ctx context.Context, req csr.Request) ([]*x509.Certificate, error) {
	if req.IsCA && !b.options.IsCA {
		return nil, &signer.PermanentError{Err: errors.New("isCA is true: this Signer's limits allow no CA certificates")}
	}
	a, _, err := b.load(ctx)
	if err != nil {
		return nil, err
	}
	now := b.options.Clock.Now()
	if err := a.Check(now); err != nil {
		return nil, err
	}
	leaf, err := a.Issue(req, now, b.options.Rand, b.signWith(ctx, a), b.urls)
	if err != nil {
		return nil, err
	}
	return append([]*x509.Certificate{leaf}, a.Issuers...), nil
}

// Check implements signer.Checker. An error of reason ServingLastGoodCA or IntermediateNotRenewing asks for a person, but
// Sign works while that lasts.
func (b *Backend) Check(ctx context.Context) error {
	a, warn, err := b.load(ctx)
	if err != nil {
		return err
	}
	if err := a.Check(b.options.Clock.Now()); err != nil {
		return err
	}
	if b.outside != nil {
		return b.outside.Check(ctx)
	}
	return warn
}

// Close implements io.Closer. It gives back a key that is kept outside.
func (b *Backend) Close() error {
	if b.outside == nil {
		return nil
	}
	return b.outside.Close()
}

// TrustAnchors implements signer.TrustAnchorer: the roots that this CA's certificates lead to.
func (b *Backend) TrustAnchors(ctx context.Context) ([]*x509.Certificate, error) {
	a, _, err := b.load(ctx)
	if err != nil {
		return nil, err
	}
	return append([]*x509.Certificate(nil), a.Anchors...), nil
}

// NotAfter implements signer.Expirer: when the first certificate of the chain expires, the root included.
func (b *Backend) NotAfter(ctx context.Context) (time.Time, error) {
	a, _, err := b.load(ctx)
	if err != nil {
		return time.Time{}, err
	}
	return a.NotAfter, nil
}
