// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/certwright/certwright/csr"
)

const (
	// soon is when a request is tried again that met a backend which is busy, or none that is fit to begin. It doubles each time, up to
	// busyAgain, or for one that is not fit to begin, to unfitAgain.
	soon       = 500 * time.Millisecond
	busyAgain  = 8 * time.Second
	unfitAgain = time.Minute
)

// advising is how long a backend may take to say when a certificate should be renewed.
const advising = 2 * time.Second

// Issuance is what is written into the status of a request.
type Issuance struct {
	// Chain is verified, leaf first.
	Chain []*x509.Certificate
	// RenewAt is when the backend would have it renewed; zero for no advice.
	RenewAt time.Time
}

// PodSigner is a Backend that can sign what kubelets ask for (csr.Request.ForPod): from the fields of the request alone. One that is no
// PodSigner is never asked to.
type PodSigner interface {
	SignsPods() bool
}

// laterError says when a request is tried again, in place of the usual backoff.
type laterError struct {
	after time.Duration
	// quiet is true if nobody needs to be told.
	quiet bool
	error
}

func (e *laterError) Unwrap() error { return e.error }

// ask asks the backends in order, or the one that has begun with the request. The next one is asked when one is in trouble, not when the
// first one refuses. What was signed before and not written is taken again, if it still fits.
func (c *Core) ask(ctx context.Context, req csr.Request, signer *Signer) (Issuance, error) {
	known := c.Registry.memory.of(req.UID)
	if slices.Contains(signer.members, known.by) && !known.stale(req, c.Clock.Now()) {
		if chain, err := known.by.verify(known.certificates(), req); err == nil {
			return Issuance{chain, known.renewAt}, nil
		}
	}
	defer c.Registry.memory.keep(req.UID, known)
	var troubles []trouble
	for _, m := range c.turns(ctx, req, signer, known) {
		issued, err := c.askOne(ctx, req, signer, m, known)
		if err == nil {
			return issued, nil
		}
		var permanent *PermanentError
		var pending *PendingError
		switch {
		case errors.As(err, &pending):
			return Issuance{}, err
		case errors.As(err, &permanent) && m == signer.members[0]:
			return Issuance{}, &Refusal{Reason: ReasonBackendRefuse, Message: fmt.Sprintf("Backend %q refuses: %v.", m.name, permanent)}
		case errors.As(err, &permanent): // one before it was in trouble, and may sign what this one cannot
			known.failed(m, err, c.Clock.Now())
		}
		troubles = append(troubles, trouble{m.name, err})
	}
	return Issuance{}, c.later(troubles, known)
}

// trouble is why a backend did not sign.
type trouble struct {
	name string
	err  error
}

// turns returns the backends in the order in which they are asked: the one alone that the request is pending with, unless that has been
// in trouble for too long.
func (c *Core) turns(ctx context.Context, req csr.Request, signer *Signer, known *record) []*member {
	maps.DeleteFunc(known.again, func(m *member, _ attempt) bool { return !slices.Contains(signer.members, m) })
	if known.with == nil || !slices.Contains(signer.members, known.with) {
		known.with, known.troubled = c.holder(ctx, req, signer, known), time.Time{}
	}
	with := known.with
	if with == nil {
		return signer.members
	}
	if known.troubled.IsZero() || c.Clock.Since(known.troubled) < held {
		return []*member{with}
	}
	return signer.members
}

// holder returns the backend that says that it has begun with a request of which nothing is known, as after a restart.
func (c *Core) holder(ctx context.Context, req csr.Request, signer *Signer, known *record) *member {
	if len(signer.members) < 2 || len(known.again) > 0 {
		return nil
	}
	for _, m := range signer.members {
		h, ok := m.backend.(Holder)
		if !ok {
			continue
		}
		left, err := m.use()
		if err != nil {
			continue
		}
		holds, err := await(ctx, m.timeout, left, func(ctx context.Context) (bool, error) { return h.Holds(ctx, req) })
		if err != nil {
			logf.FromContext(ctx).Error(err, "asking whether a backend has begun with the request", "backend", m.name)
		}
		if holds {
			return m
		}
	}
	return nil
}

// askOne asks one backend, if it is its time, and notes what came of it.
func (c *Core) askOne(ctx context.Context, req csr.Request, signer *Signer, m *member, known *record) (Issuance, error) {
	now := c.Clock.Now()
	if p, ok := m.backend.(PodSigner); req.ForPod && (!ok || !p.SignsPods()) {
		return Issuance{}, &RequestError{Err: errors.New("it cannot sign certificates of pods that kubelets ask for, as there is no PKCS #10 request to forward")}
	}
	if a, ok := known.again[m]; ok && now.Before(a.next) {
		return Issuance{}, &RequestError{Err: fmt.Errorf("not asked again before %s: %v", a.next.UTC().Format(time.RFC3339), a.err)} //nolint:errorlint // not wrapped: what it said then is no verdict now
	}
	chain, err := m.sign(ctx, req)
	c.Metrics.called(signer.signerName, m.name, err, c.Clock.Since(now))
	var pending *PendingError
	var own *RequestError
	switch {
	case err == nil:
		issued := Issuance{chain, m.advice(ctx, chain[0])}
		known.signed(m, issued, now)
		return issued, nil
	case errors.As(err, &pending):
		known.with, known.troubled = m, time.Time{}
	case errors.As(err, &own):
		known.failed(m, err, now)
	case known.with == m && known.troubled.IsZero():
		known.troubled = now
	}
	if errors.Is(err, errUnanchored) {
		c.Registry.look(signer.name)
	}
	return Issuance{}, err
}

// later turns the troubles of all backends that were asked into the one of the request, and says when it is tried again if the usual
// backoff would be too rare, or too often.
func (c *Core) later(troubles []trouble, known *record) error {
	all := make([]error, 0, len(troubles))
	busy, quiet, own := false, true, true
	for _, t := range troubles {
		all = append(all, fmt.Errorf("backend %s: %w", t.name, t.err))
		var full busyError
		var mine *RequestError
		isBusy := errors.As(t.err, &full)
		busy = busy || isBusy
		quiet = quiet && (isBusy || errors.Is(t.err, errUnpublished) || errors.Is(t.err, errGone))
		own = own && errors.As(t.err, &mine)
	}
	err := errors.Join(all...)
	if known.with != nil {
		err = fmt.Errorf("%w: %w", errHeld, err)
	}
	switch {
	case busy, quiet:
		limit := unfitAgain
		if busy {
			limit = busyAgain
		}
		after := min(soon<<min(known.waits, 10), limit)
		known.waits++
		return &laterError{after: wait.Jitter(after, 1), quiet: quiet, error: err}
	case own:
		return &laterError{after: known.next(c.Clock.Now()), error: err}
	}
	return err
}

// advice asks the backend when the leaf should be renewed. Without good advice there is none.
func (m *member) advice(ctx context.Context, leaf *x509.Certificate) time.Time {
	adviser, ok := m.backend.(RenewalAdviser)
	if !ok {
		return time.Time{}
	}
	ctx, cancel := context.WithTimeout(ctx, advising)
	defer cancel()
	at, err := aside(ctx, m, func(ctx context.Context) (time.Time, error) { return adviser.RenewAt(ctx, leaf) })
	switch {
	case err != nil:
		logf.FromContext(ctx).Info("the backend does not say when to renew", "backend", m.name, "reason", err.Error())
	case at.IsZero(), !at.After(leaf.NotBefore), !at.Before(leaf.NotAfter):
	default:
		return at
	}
	return time.Time{}
}
