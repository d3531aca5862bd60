// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/crypto/x509roots/fallback/bundle"
	"k8s.io/utils/clock"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/trust/source"
)

// Distributor brings bundles to the pods.
type Distributor interface {
	// Publish makes the bundle that of a Signer's signerName, and returns where it is.
	Publish(ctx context.Context, signer *v1alpha1.Signer, bundle Bundle) (where string, err error)
	// Current returns the bundle of a signerName that pods have now, in PEM; empty if there is none.
	Current(ctx context.Context, signerName string) (string, error)
	// Behind returns where the bundle of a signerName is not yet what was published last: namespaces, or the names of bundles.
	Behind(ctx context.Context, signerName string) ([]string, error)
	// Withdraw removes the bundle of a signerName that no Signer has any more.
	Withdraw(ctx context.Context, signerName string) error
}

// warner is a Distributor that knows what is wrong with what it distributed.
type warner interface {
	// Warnings are for the one who keeps the Signer of the signerName.
	Warnings(ctx context.Context, signerName string) []string
}

// Both distributes bundles in two ways. Where they are is what the first one says.
type Both [2]Distributor

// Publish publishes in both ways, also if there is trouble with one: in an emergency, the other one counts.
func (b Both) Publish(ctx context.Context, signer *v1alpha1.Signer, bundle Bundle) (where string, err error) {
	where, err = b[0].Publish(ctx, signer, bundle)
	_, second := b[1].Publish(ctx, signer, bundle)
	return where, errors.Join(err, second)
}

// Current returns what pods have in the first way.
func (b Both) Current(ctx context.Context, signerName string) (string, error) {
	return b[0].Current(ctx, signerName)
}

// Warnings are those of both ways.
func (b Both) Warnings(ctx context.Context, signerName string) []string {
	return slices.Concat(warningsOf(ctx, b[0], signerName), warningsOf(ctx, b[1], signerName))
}

// Behind returns where it is behind in either way.
func (b Both) Behind(ctx context.Context, signerName string) ([]string, error) {
	first, err := b[0].Behind(ctx, signerName)
	if err != nil {
		return nil, err
	}
	second, err := b[1].Behind(ctx, signerName)
	return slices.Concat(first, second), err
}

func warningsOf(ctx context.Context, d Distributor, signerName string) []string {
	if w, ok := d.(warner); ok {
		return w.Warnings(ctx, signerName)
	}
	return nil
}

// Withdraw withdraws in both ways.
func (b Both) Withdraw(ctx context.Context, signerName string) error {
	return errors.Join(b[0].Withdraw(ctx, signerName), b[1].Withdraw(ctx, signerName))
}

// Publisher makes the bundle of a Signer from the trust anchors of its backends and from what its spec.trustBundle adds, and has
// it distributed.
type Publisher struct {
	distributor Distributor
	sources     *source.Book
	clock       clock.PassiveClock
}

// NewPublisher returns a publisher of what the Distributor distributes.
func NewPublisher(d Distributor, sources *source.Book, clk clock.PassiveClock) *Publisher {
	return &Publisher{distributor: d, sources: sources, clock: clk}
}

// Publish makes these anchors, and those that the Signer adds, the bundle of its signerName, but for those that Assemble leaves
// out. The warnings are for the one who keeps the Signer. What is published stays if nothing is fit to take its place. The Signer's status
// is that of before.
func (p *Publisher) Publish(ctx context.Context, signer *v1alpha1.Signer, anchors []*x509.Certificate) (where string, warnings []string, err error) {
	added := p.sources.Read(ctx, signer, anchors, func(ctx context.Context) ([]*x509.Certificate, error) { return p.unexplained(ctx, signer) })
	if added.Lost != nil {
		return "", added.Warnings, fmt.Errorf("leaving the trust bundle of %s as it is: %w", signer.Spec.SignerName, added.Lost)
	}
	anchors = slices.Concat(anchors, added.Anchors)
	if signer.Spec.TrustBundle.PublicRoots {
		roots, err := publicRoots()
		if err != nil {
			return "", added.Warnings, err
		}
		for _, c := range roots {
			if !p.clock.Now().After(c.NotAfter) { // nobody can do anything about it
				anchors = append(anchors, c)
			}
		}
	}
	assembled, err := Assemble(anchors, p.clock.Now())
	if err != nil {
		return "", added.Warnings, fmt.Errorf("assembling the trust bundle of %s: %w", signer.Spec.SignerName, err)
	}
	where, err = p.distributor.Publish(ctx, signer, assembled)
	return where, slices.Concat(added.Warnings, assembled.Warnings, warningsOf(ctx, p.distributor, signer.Spec.SignerName)), err
}

// unexplained returns what is published for a Signer, but for public roots and the roots of its backends: those come and go with these. One
// that was dropped as it is compromised so never comes back.
func (p *Publisher) unexplained(ctx context.Context, object *v1alpha1.Signer) ([]*x509.Certificate, error) {
	current, err := p.Current(ctx, object.Spec.SignerName)
	if err != nil {
		return nil, err
	}
	public, err := publicRoots()
	if err != nil {
		return nil, err
	}
	var backends []string // fingerprints of their roots
	for _, b := range object.Status.Backends {
		backends = append(backends, b.Root)
		if b.Rotation != nil {
			backends = append(backends, b.Rotation.OldRoot, b.Rotation.NewRoot)
		}
	}
	return slices.DeleteFunc(current, func(c *x509.Certificate) bool {
		return slices.Contains(backends, signer.Fingerprint(c)) || slices.ContainsFunc(public, c.Equal)
	}), nil
}

// Current returns the certificates of a signerName's bundle that pods have now; none if there is none.
func (p *Publisher) Current(ctx context.Context, signerName string) ([]*x509.Certificate, error) {
	text, err := p.distributor.Current(ctx, signerName)
	if err != nil || text == "" {
		return nil, err
	}
	current, err := signer.ParsePEM([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("reading the published trust bundle of %s: %w", signerName, err)
	}
	return current, nil
}

// Behind returns where the bundle of a signerName is not yet what was published last, such as "namespace shop"; nothing if it is everywhere.
func (p *Publisher) Behind(ctx context.Context, signerName string) (where []string, err error) {
	return p.distributor.Behind(ctx, signerName)
}

// Withdraw removes the bundle of a signerName that no Signer has any more.
func (p *Publisher) Withdraw(ctx context.Context, signerName string) error {
	if err := p.distributor.Withdraw(ctx, signerName); err != nil {
		return err
	}
	p.sources.Forget(signerName)
	return nil
}

// publicRoots returns the roots of public CAs. Those are left out that are trusted for a part of what they signed only, as a
// bundle cannot say so.
var publicRoots = sync.OnceValues(func() (roots []*x509.Certificate, err error) {
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		c, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			return nil, fmt.Errorf("parsing a public root: %w", err)
		}
		roots = append(roots, c)
	}
	return roots, nil
})
