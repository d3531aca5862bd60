// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package servingcert

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Keys of the Secret. The certificate that is served has the usual three; the one
// that will be served has the same with a prefix.
const (
	certKey     = "tls.crt"
	keyKey      = "tls.key"
	caKey       = "ca.crt"
	nextPrefix  = "next."
	previousKey = "previous.ca.crt"
)

const (
	// lifetime of a certificate and of its CA. The next one is made after two
	// thirds of it.
	lifetime = 90 * 24 * time.Hour
	// overlap is how long the next CA is in the caBundle before its certificate is
	// served, so that every API server has seen it.
	overlap = time.Hour
	// backdate allows for clocks that differ.
	backdate = time.Hour
)

// generation is a serving certificate with the CA that signed it and nothing else.
type generation struct {
	ca   *x509.Certificate
	pair tls.Certificate // Leaf is set
}

// made is when the generation was made.
func (g *generation) made() time.Time { return g.pair.Leaf.NotBefore.Add(backdate) }

// renewAt is when the next generation should be made.
func (g *generation) renewAt() time.Time {
	return g.made().Add(g.pair.Leaf.NotAfter.Sub(g.made()) * 2 / 3)
}

// state is what the Secret holds: the generation that is served, the one that
// will be, and the CAs of those that were. What is broken or expired is nil.
type state struct {
	current, next *generation
	previous      []*x509.Certificate
}

// advance returns the state as it should be now, and whether it differs. A next
// generation is promoted once trusted says that the API server knows it.
func (s state) advance(dnsName string, now time.Time, trusted func(*generation) bool) (state, bool, error) {
	changed := false
	switch {
	case s.current == nil && s.next != nil: // nothing left to overlap with
		s.current, s.next, changed = s.next, nil, true
	case s.current == nil:
		made, err := generate(dnsName, now)
		if err != nil {
			return state{}, false, err
		}
		s.current, changed = made, true
	case s.next == nil && !now.Before(s.current.renewAt()):
		made, err := generate(dnsName, now)
		if err != nil {
			return state{}, false, err
		}
		s.next, changed = made, true
	case s.next != nil && !now.Before(s.next.made().Add(overlap)) && trusted(s.next):
		s.previous = append(slices.Clone(s.previous), s.current.ca)
		s.current, s.next, changed = s.next, nil, true
	}
	return s, changed, nil
}

// bundle is what the API server should trust, as PEM, oldest first: a promotion
// thus leaves it as it is.
func (s state) bundle() []byte {
	authorities := append(slices.Clone(s.previous), s.current.ca)
	if s.next != nil {
		authorities = append(authorities, s.next.ca)
	}
	slices.SortStableFunc(authorities, func(a, b *x509.Certificate) int { return a.NotBefore.Compare(b.NotBefore) })
	return encodeCertificates(authorities...)
}

// encode writes the state over what data holds of another.
func (s state) encode(data map[string][]byte) {
	write := func(prefix string, g *generation) {
		data[prefix+certKey] = encodeCertificates(g.pair.Leaf)
		data[prefix+keyKey] = encodeKey(g.pair.PrivateKey)
		data[prefix+caKey] = encodeCertificates(g.ca)
	}
	write("", s.current)
	for _, key := range []string{nextPrefix + certKey, nextPrefix + keyKey, nextPrefix + caKey, previousKey} {
		delete(data, key)
	}
	if s.next != nil {
		write(nextPrefix, s.next)
	}
	if len(s.previous) > 0 {
		data[previousKey] = encodeCertificates(s.previous...)
	}
}

// decode reads the state, leaving out what is broken or expired.
func decode(data map[string][]byte, dnsName string, now time.Time) state {
	var s state
	if current, err := decodeGeneration(data, "", dnsName, now); err == nil {
		s.current = current
	}
	if next, err := decodeGeneration(data, nextPrefix, dnsName, now); err == nil {
		s.next = next
	}
	for rest := data[previousKey]; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return s
		}
		if ca, err := x509.ParseCertificate(block.Bytes); err == nil && ca.IsCA && now.Before(ca.NotAfter) {
			s.previous = append(s.previous, ca)
		}
	}
}

// decodeGeneration reads one generation and makes sure that serving it would work.
func decodeGeneration(data map[string][]byte, prefix, dnsName string, now time.Time) (*generation, error) {
	pair, err := tls.X509KeyPair(data[prefix+certKey], data[prefix+keyKey])
	if err != nil {
		return nil, fmt.Errorf("reading serving certificate: %w", err)
	}
	block, _ := pem.Decode(data[prefix+caKey])
	if block == nil {
		return nil, errors.New("reading CA of the serving certificate: no PEM block")
	}
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading CA of the serving certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: dnsName, Roots: roots, CurrentTime: now}); err != nil {
		return nil, fmt.Errorf("verifying serving certificate: %w", err)
	}
	return &generation{ca: ca, pair: pair}, nil
}
