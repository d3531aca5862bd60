// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acme

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
)

const (
	// skew is how far the server's clock and ours may lie apart. It is signer's.
	skew = 5 * time.Minute
	// experienceAge is how long it is remembered what a server's certificates are like. Then some more are bought to find out.
	experienceAge = 24 * time.Hour
	// lessons is how many certificates must not have fitted until that is believed to be the server's way. One mistake of a server
	// must not have all requests refused.
	lessons = 3
	// maxLifetimes bounds for how many granted lifetimes something is remembered.
	maxLifetimes = 1000
)

// experience is what is known of the certificates that a server gives, whatever it is asked for, from those that did not fit.
// Without it a request that can never be satisfied would buy a certificate each time it is made. It is safe for concurrent use.
type experience struct {
	clock clock.PassiveClock

	mu       sync.Mutex
	lifetime map[time.Duration]lesson[time.Duration] // that was given in place of a shorter one, by what was granted
	extra    map[string]lesson[usages]               // that were given without being asked for, by the algorithm of the key
}

// lesson is something that was seen a number of times, most recently at that time.
type lesson[T any] struct {
	what  T
	count int
	last  time.Time
}

func (l lesson[T]) believed(now time.Time) bool {
	return l.count >= lessons && now.Sub(l.last) < experienceAge
}

// usages are those of a certificate.
type usages struct {
	key      x509.KeyUsage
	extended []x509.ExtKeyUsage
}

func (u usages) none() bool { return u.key == 0 && len(u.extended) == 0 }

// without returns the usages that are not among others.
func (u usages) without(others usages) usages {
	u.key &^= others.key
	u.extended = slices.DeleteFunc(slices.Clone(u.extended), func(e x509.ExtKeyUsage) bool { return slices.Contains(others.extended, e) })
	return u
}

func usagesOf(req csr.Request) (usages, error) {
	key, extended, err := csr.X509Usages(req.Usages)
	return usages{key, extended}, err
}

// judge returns why a certificate must not be handed out: it lives longer or is good for more than what was granted. If it is
// seen for the first time, what it says of the server is remembered.
//
// What is not the certificate of this request at all is not judged here: verify.Chain refuses it, and it says nothing of others.
func (e *experience) judge(req csr.Request, leaf *x509.Certificate, first bool) error {
	if key, ok := req.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !key.Equal(leaf.PublicKey) || leaf.IsCA {
		return nil
	}
	asked, err := usagesOf(req)
	if err != nil {
		return err
	}
	given, now := usages{leaf.KeyUsage, leaf.ExtKeyUsage}, e.clock.Now()
	lifetime := leaf.NotAfter.Sub(leaf.NotBefore).Round(time.Minute)
	tooLong, tooMuch := req.Duration > 0 && leaf.NotAfter.After(now.Add(req.Duration+skew)), given.without(asked)
	if first {
		e.learnLifetime(req.Duration, lifetime, tooLong, now)
		e.learnUsages(req.Key.Algorithm, given, tooMuch, now)
	}
	var errs []error
	if tooLong {
		errs = append(errs, lifetimeError(req, lifetime))
	}
	if !tooMuch.none() {
		errs = append(errs, usagesError(req, tooMuch))
	}
	return errors.Join(errs...)
}

// learnLifetime counts a lifetime that was too long for what was granted, or forgets what is refuted. It says nothing of requests
// that are granted another one: the server may refuse only what is too short, and whoever asks for that must not harm the others.
func (e *experience) learnLifetime(granted, given time.Duration, tooLong bool, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	known := e.lifetime[granted]
	delete(e.lifetime, granted)
	if !tooLong {
		return
	}
	if e.lifetime == nil {
		e.lifetime = map[time.Duration]lesson[time.Duration]{}
	}
	for other := range e.lifetime {
		if len(e.lifetime) < maxLifetimes {
			break
		}
		delete(e.lifetime, other)
	}
	e.lifetime[granted] = lesson[time.Duration]{given, known.count + 1, now}
}

// learnUsages counts usages that were too many for a key of that algorithm, and forgets what is refuted.
func (e *experience) learnUsages(algorithm string, given, tooMuch usages, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	known := e.extra[algorithm]
	switch {
	case !tooMuch.none():
		if e.extra == nil {
			e.extra = map[string]lesson[usages]{}
		}
		e.extra[algorithm] = lesson[usages]{tooMuch, known.count + 1, now}
	case !known.what.without(given).none():
		delete(e.extra, algorithm)
	}
}

// refuse refuses a request that the server's certificates would not fit, as far as is known, before one is ordered.
func (e *experience) refuse(req csr.Request) error {
	asked, err := usagesOf(req)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.clock.Now()
	if known := e.lifetime[req.Duration]; known.believed(now) {
		return &signer.PermanentError{Err: lifetimeError(req, known.what)}
	}
	if known := e.extra[req.Key.Algorithm]; known.believed(now) {
		if tooMuch := known.what.without(asked); !tooMuch.none() {
			return &signer.PermanentError{Err: usagesError(req, tooMuch)}
		}
	}
	return nil
}

func lifetimeError(req csr.Request, lifetime time.Duration) error {
	return fmt.Errorf("duration: %s was granted, and the server's certificates live %s then: the Signer's limits.maxDuration, "+
		"the policy's maxDuration and the request's expirationSeconds must each be at least that, or unset", req.Duration, lifetime)
}

func usagesError(req csr.Request, tooMuch usages) error {
	return fmt.Errorf("usages: %q were requested, and the server's certificates for %s keys are always good for %q, too: request that as well",
		req.Usages, req.Key.Algorithm, csr.UsageNames(tooMuch.key, tooMuch.extended))
}

// warning tells a person that requests are refused for the server's lifetimes.
func (e *experience) warning() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for granted, known := range e.lifetime {
		if known.believed(e.clock.Now()) {
			return &signer.CheckError{Reason: ReasonLifetimeTooLong, Signs: true, Err: fmt.Errorf(
				"the server's certificates live %s, and requests were granted %s, so they are refused: limits.maxDuration must be at least that, and who asks must not ask for less", known.what, granted)}
		}
	}
	return nil
}
