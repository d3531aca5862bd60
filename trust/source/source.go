// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package source reads the trust anchors that a Signer wants published besides those of its backends.
//
// It promises that a source that cannot be read goes on to give what it gave last, so that a mistake there takes nothing from
// those who verify.
package source

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
)

// Set is what the sources of a Signer gave.
type Set struct {
	// Anchors are all certificates of all sources, whatever they are.
	Anchors []*x509.Certificate
	// Warnings name the sources that could not be read, and the certificates that were there already.
	Warnings []string
	// Lost is why anchors may be missing that an earlier process published: a source could not be read yet since the start, nor could what
	// it may have given.
	Lost error
}

// Book reads sources and remembers what they gave. It is safe for concurrent use.
type Book struct {
	reader    client.Reader
	namespace string

	mu   sync.Mutex
	gave map[string]map[string][]*x509.Certificate // by signerName, and by source
}

// NewBook returns a Book that reads Secrets and ConfigMaps of Certwright's namespace, best from a cache.
func NewBook(r client.Reader, namespace string) *Book {
	return &Book{reader: r, namespace: namespace, gave: map[string]map[string][]*x509.Certificate{}}
}

// Read reads all additional sources of a Signer, whose backends have trust anchors of their own. A source that cannot be read, and could not
// be since the start, is taken to have given what is published, of which published returns as much as it may have.
func (b *Book) Read(ctx context.Context, object *v1alpha1.Signer, own []*x509.Certificate, published func(context.Context) ([]*x509.Certificate, error)) Set {
	b.mu.Lock()
	before, known := b.gave[object.Spec.SignerName]
	b.mu.Unlock()
	known = known || object.Status.TrustBundle == "" // then nobody published anything before
	var set Set
	now, seen := map[string][]*x509.Certificate{}, map[string]string{}
	for _, c := range own {
		seen[string(c.Raw)] = "a trust anchor of a backend"
	}
	for i := range object.Spec.TrustBundle.Additional {
		s := &object.Spec.TrustBundle.Additional[i]
		name := nameOf(s, i)
		certs, broken := b.read(ctx, s)
		if broken != nil {
			if certs = before[name]; !known {
				var err error
				if certs, err = published(ctx); err != nil {
					set.Lost = fmt.Errorf("%s cannot be read (%w), and what it gave before this process began is not known: %w", name, broken, err)
				}
			}
			set.Warnings = append(set.Warnings, fmt.Sprintf("%s cannot be read: %v (of before, %d certificates stay)", name, broken, len(certs)))
		}
		if certs != nil {
			now[name] = certs
		}
		for _, c := range certs {
			switch is := seen[string(c.Raw)]; {
			case is == "":
				seen[string(c.Raw)] = "there more than once"
				set.Anchors = append(set.Anchors, c)
			case broken == nil:
				set.Warnings = append(set.Warnings, fmt.Sprintf("%s: %s (serial number %d) is %s", name, c.Subject, c.SerialNumber, is))
			}
		}
	}
	if set.Lost == nil {
		b.mu.Lock()
		b.gave[object.Spec.SignerName] = now
		b.mu.Unlock()
	}
	return set
}

// Forget drops what is known of the sources of a signerName.
func (b *Book) Forget(signerName string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.gave, signerName)
}

// nameOf tells the sources of a Signer apart, also when others come before them.
func nameOf(s *v1alpha1.TrustSource, i int) string {
	switch {
	case s.SecretRef != nil:
		return fmt.Sprintf("entry %s of Secret %s", s.SecretRef.Key, s.SecretRef.Name)
	case s.ConfigMapRef != nil:
		return fmt.Sprintf("entry %s of ConfigMap %s", s.ConfigMapRef.Key, s.ConfigMapRef.Name)
	default:
		return fmt.Sprintf("additional[%d].pem", i)
	}
}

// read returns the certificates of one source: at least one.
func (b *Book) read(ctx context.Context, s *v1alpha1.TrustSource) ([]*x509.Certificate, error) {
	text, there := []byte(s.PEM), true
	switch {
	case s.SecretRef != nil:
		var secret corev1.Secret
		if err := b.reader.Get(ctx, client.ObjectKey{Namespace: b.namespace, Name: s.SecretRef.Name}, &secret); err != nil {
			return nil, err
		}
		text, there = secret.Data[s.SecretRef.Key]
	case s.ConfigMapRef != nil:
		var m corev1.ConfigMap
		if err := b.reader.Get(ctx, client.ObjectKey{Namespace: b.namespace, Name: s.ConfigMapRef.Name}, &m); err != nil {
			return nil, err
		}
		var entry string
		entry, there = m.Data[s.ConfigMapRef.Key]
		text = []byte(entry)
	}
	if !there {
		return nil, errors.New("there is no such entry")
	}
	return signer.ParsePEM(text)
}
