// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/breaker"
	"github.com/certwright/certwright/signer/member"
	"github.com/certwright/certwright/signer/registry"
	"github.com/certwright/certwright/signer/verify"
)

const (
	// soon is when a request is tried again that met a backend which is busy, or none that is fit to begin. It doubles each time, up to
	// busyAgain, or for one that is not fit to begin, to unfitAgain.
	soon       = 500 * time.Millisecond
	busyAgain  = 8 * time.Second
	unfitAgain = time.Minute
)

// Issued is what is written into the status of a request.
type Issued struct {
	// Chain is verified, leaf first.
	Chain []*x509.Certificate
	// RenewAt is when the backend would have it renewed; zero for no advice.
	RenewAt time.Time
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
func (c *Core) ask(ctx context.Context, req csr.Request, s *registry.Signer) (Issued, error) {
	known := c.memory.of(req.UID)
	if slices.Contains(s.Members, known.by) && !known.stale(req, c.Clock.Now()) {
		if chain, err := known.by.Verify(known.certificates(), req); err == nil {
			return Issued{chain, known.renewAt}, nil
		}
	}
	defer c.memory.keep(req.UID, known)
	var troubles []trouble
	for _, m := range c.turns(ctx, req, s, known) {
		issued, err := c.askOne(ctx, req, s, m, known)
		if err == nil {
			return issued, nil
		}
		var permanent *signer.PermanentError
		var pending *signer.PendingError
		switch {
		case errors.As(err, &pending):
			return Issued{}, err
		case errors.As(err, &permanent) && m == s.Members[0]:
			return Issued{}, &Refusal{Reason: ReasonBackendRefuse, Message: fmt.Sprintf("Backend %q refuses: %v.", m.Name(), permanent)}
		case errors.As(err, &permanent): // one before it was in trouble, and may sign what this one cannot
			known.failed(m, err, c.Clock.Now())
		}
		troubles = append(troubles, trouble{m.Name(), err})
	}
	return Issued{}, c.later(troubles, known)
}

// trouble is why a backend did not sign.
type trouble struct {
	name string
	err  error
}

// turns returns the backends in the order in which they are asked: the one alone that the request is pending with, unless that has been
// in trouble for too long.
func (c *Core) turns(ctx context.Context, req csr.Request, s *registry.Signer, known *record) []*member.Member {
	maps.DeleteFunc(known.again, func(m *member.Member, _ attempt) bool { return !slices.Contains(s.Members, m) })
	if known.with == nil || !slices.Contains(s.Members, known.with) {
		known.with, known.troubled = holder(ctx, req, s, known), time.Time{}
	}
	with := known.with
	if with == nil {
		return s.Members
	}
	if known.troubled.IsZero() || c.Clock.Since(known.troubled) < held {
		return []*member.Member{with}
	}
	return s.Members
}

// holder returns the backend that says that it has begun with a request of which nothing is known, as after a restart.
func holder(ctx context.Context, req csr.Request, s *registry.Signer, known *record) *member.Member {
	if len(s.Members) < 2 || len(known.again) > 0 {
		return nil
	}
	for _, m := range s.Members {
		if m.Holds(ctx, req) {
			return m
		}
	}
	return nil
}

// askOne asks one backend, if it is its time, and notes what came of it.
func (c *Core) askOne(ctx context.Context, req csr.Request, s *registry.Signer, m *member.Member, known *record) (Issued, error) {
	now := c.Clock.Now()
	if req.ForPod && !m.SignsPods() {
		return Issued{}, &signer.RequestError{Err: errors.New("it cannot sign certificates of pods that kubelets ask for, as there is no PKCS #10 request to forward")}
	}
	if a, ok := known.again[m]; ok && now.Before(a.next) {
		return Issued{}, &signer.RequestError{Err: fmt.Errorf("not asked again before %s: %v", a.next.UTC().Format(time.RFC3339), a.err)} //nolint:errorlint // not wrapped: what it said then is no verdict now
	}
	chain, err := m.Sign(ctx, req)
	c.Metrics.Called(s.SignerName, m.Name(), outcome(err), c.Clock.Since(now))
	var pending *signer.PendingError
	var own *signer.RequestError
	switch {
	case err == nil:
		issued := Issued{chain, m.RenewAt(ctx, chain[0])}
		known.signed(m, issued, now)
		return issued, nil
	case errors.As(err, &pending):
		known.with, known.troubled = m, time.Time{}
	case errors.As(err, &own):
		known.failed(m, err, now)
	case known.with == m && known.troubled.IsZero():
		known.troubled = now
	}
	if errors.Is(err, verify.ErrUnanchored) {
		c.Registry.Look(s.Name)
	}
	return Issued{}, err
}

// later turns the troubles of all backends that were asked into the one of the request, and says when it is tried again if the usual
// backoff would be too rare, or too often.
func (c *Core) later(troubles []trouble, known *record) error {
	all := make([]error, 0, len(troubles))
	busy, quiet, own := false, true, true
	for _, t := range troubles {
		all = append(all, fmt.Errorf("backend %s: %w", t.name, t.err))
		var full member.BusyError
		var mine *signer.RequestError
		isBusy := errors.As(t.err, &full)
		busy = busy || isBusy
		quiet = quiet && (isBusy || errors.Is(t.err, member.ErrUnpublished) || errors.Is(t.err, member.ErrGone))
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

// outcome names what came of a call of a backend, for the metrics.
func outcome(err error) string {
	var permanent *signer.PermanentError
	var pending *signer.PendingError
	var own *signer.RequestError
	var busy member.BusyError
	var down *breaker.DownError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &permanent):
		return "permanent"
	case errors.As(err, &pending):
		return "pending"
	case errors.As(err, &own):
		return "request"
	case errors.As(err, &busy):
		return "busy"
	case errors.As(err, &down):
		return "down"
	}
	return "error"
}
