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
	// Withdraw removes the bundle of a signerName that no Signer has any more.
	Withdraw(ctx context.Context, signerName string) error
}

// warner is a Distributor that knows where a bundle is not what was published.
type warner interface {
	// Warnings says where, and why, of a signerName's bundle.
	Warnings(signerName string) []string
}

// Both distributes bundles in two ways. Where they are is what the first one says.
type Both [2]Distributor

// Publish publishes in both ways.
func (b Both) Publish(ctx context.Context, signer *v1alpha1.Signer, bundle Bundle) (where string, err error) {
	if where, err = b[0].Publish(ctx, signer, bundle); err == nil {
		_, err = b[1].Publish(ctx, signer, bundle)
	}
	return where, err
}

// Current returns what pods have in the first way.
func (b Both) Current(ctx context.Context, signerName string) (string, error) {
	return b[0].Current(ctx, signerName)
}

// Warnings are those of both ways.
func (b Both) Warnings(signerName string) []string {
	return slices.Concat(warningsOf(b[0], signerName), warningsOf(b[1], signerName))
}

func warningsOf(d Distributor, signerName string) []string {
	if w, ok := d.(warner); ok {
		return w.Warnings(signerName)
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
// out. The warnings are for the one who keeps the Signer. What is published stays if nothing is fit to take its place.
func (p *Publisher) Publish(ctx context.Context, signer *v1alpha1.Signer, anchors []*x509.Certificate) (where string, warnings []string, err error) {
	added := p.sources.Read(ctx, signer)
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
	return where, slices.Concat(added.Warnings, assembled.Warnings, warningsOf(p.distributor, signer.Spec.SignerName)), err
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
