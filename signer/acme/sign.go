// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acme

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/fair"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/acme/order"
	"github.com/certwright/certwright/signer/acme/server"
)

// Bounds of how long a request waits until it is looked at again where the server does not say.
const (
	firstLook = time.Second
	lastLook  = 30 * time.Second
)

// maxSteps bounds how often an order may change its status within one call.
const maxSteps = 6

// work is what one call of Sign has in its hands.
type work struct {
	*Backend
	req     csr.Request
	ids     []server.Identifier
	account server.Account
	order   *order.Order
	read    bool // whether the server answered for this order, so that a lack of time is no trouble of others
	moved   bool // whether the order went on, so that a lack of time is no trouble at all
}

// Sign implements signer.Backend.
func (b *Backend) Sign(ctx context.Context, req csr.Request) ([]*x509.Certificate, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ids, err := identifiers(req)
	if err != nil {
		return nil, err
	}
	if err := b.solvers.cover(ids); err != nil {
		return nil, err
	}
	if err := b.queue.mayAsk(); err != nil {
		return nil, err
	}
	account, err := b.account.Get(ctx)
	if err != nil {
		return nil, b.queue.heed(err)
	}
	key, err := b.key(account, req)
	if err != nil {
		return nil, err
	}
	o, err := b.options.Orders.Open(ctx, key, req.Name, fair.Requester(req.Requester.Username))
	if errors.Is(err, order.ErrFull) {
		return nil, &signer.RequestError{Err: err}
	}
	if err != nil {
		return nil, err
	}
	defer o.Release()
	w := &work{Backend: b, req: req, ids: ids, account: account, order: o}
	chain, err := w.run(ctx)
	if w.moved {
		b.queue.answered()
	}
	switch late := errors.Is(err, context.DeadlineExceeded); {
	case late && w.moved:
		return nil, w.wait(firstLook, "the server takes its time")
	case late && w.read:
		return nil, own("the server does not answer in time: %w", err)
	}
	return chain, err
}

// Holds implements signer.Holder: whether there is an order for the request.
func (b *Backend) Holds(ctx context.Context, req csr.Request) (bool, error) {
	private, _, err := b.account.Key(ctx)
	if err != nil {
		return false, err
	}
	key, err := b.key(server.Account{PrivateKey: private}, req)
	if err != nil {
		return false, err
	}
	return b.options.Orders.Has(ctx, key)
}

// key tells the order of a request by an account from all others.
func (b *Backend) key(account server.Account, req csr.Request) (order.Key, error) {
	thumbprint, err := account.Thumbprint()
	if err != nil {
		return order.Key{}, fmt.Errorf("identifying the account: %w", err)
	}
	return order.Key{Signer: b.options.Signer, Backend: b.options.Backend, Account: thumbprint, UID: req.UID, DER: req.DER, Duration: req.Duration}, nil
}

// own is trouble of this request alone. Whatever a server says of one order is no more than that, or whoever may ask for odd names
// or lifetimes could put the backend out of service. That the server is in trouble is seen by other calls, and by Check.
func own(format string, args ...any) error {
	return &signer.RequestError{Err: fmt.Errorf(format, args...)}
}

// run makes the steps that can be made now.
func (w *work) run(ctx context.Context) ([]*x509.Certificate, error) {
	o, now := w.order, w.options.Clock.Now()
	if o.Verdict != "" {
		return nil, &signer.PermanentError{Err: errors.New(o.Verdict)}
	}
	if wait := o.Next.Sub(now); wait > 0 {
		return nil, pending(wait, o.Waiting)
	}
	if o.URL != "" && o.Account != w.account.Location {
		return nil, w.lost(ctx, "the order belongs to an account that is no longer used")
	}
	current, after, err := w.current(ctx)
	for step := 0; err == nil && step < maxSteps; step++ {
		switch current.Status {
		case "pending":
			if err = w.prove(ctx, current, after); err == nil {
				current, after, err = w.server.Order(ctx, w.account, o.URL)
				err = w.heed(ctx, err)
			}
		case "ready":
			current, after, err = w.finalize(ctx, current)
		case "processing":
			return nil, w.wait(after, "the server is issuing the certificate")
		case "valid":
			return w.collect(ctx, current)
		case "invalid":
			return nil, w.invalid(ctx, current)
		default:
			return nil, own("reading the order: its status %.20q is none that ACME knows", current.Status)
		}
	}
	if err != nil {
		return nil, err
	}
	return nil, w.wait(after, "the order goes on")
}

// current returns the order as the server has it, which it makes if there is none.
func (w *work) current(ctx context.Context) (server.Order, time.Duration, error) {
	if w.order.URL == "" {
		return w.open(ctx)
	}
	current, after, err := w.server.Order(ctx, w.account, w.order.URL)
	return current, after, w.heed(ctx, err)
}

// heed heeds what went wrong when an order was read.
func (w *work) heed(ctx context.Context, err error) error {
	if err == nil {
		w.queue.answered()
		w.read = true
		return nil
	}
	if e := (*server.Error)(nil); errors.As(err, &e) && (e.Fault == server.FaultGone || e.Fault >= server.FaultPassing) {
		return w.lost(ctx, e.Error())
	}
	return w.trouble(err)
}

// trouble heeds what went wrong at the server: nothing that says anything about the request.
func (w *work) trouble(err error) error {
	if e := (*server.Error)(nil); errors.As(err, &e) && (e.Fault == server.FaultAccount || e.Problem == server.ProblemUnauthorized) {
		w.Backend.account.Forget() // it is looked up again, and registered again should it be gone
	} else if e != nil && e.Fault == server.FaultBroken && w.order.URL != "" {
		return own("%w", err)
	}
	return w.queue.heed(err)
}

// finalize sends the request. What the server refuses then is the request itself.
func (w *work) finalize(ctx context.Context, current server.Order) (server.Order, time.Duration, error) {
	finalized, after, err := w.server.Finalize(ctx, w.account, current, w.req.DER)
	if err == nil {
		w.moved = true
		if finalized.Status == current.Status { // somebody was faster, such as this process before it was restarted
			return finalized, after, w.wait(after, "the server is about to issue the certificate")
		}
		return finalized, after, nil
	}
	if e := (*server.Error)(nil); errors.As(err, &e) {
		switch e.Fault {
		case server.FaultRequest:
			return current, 0, w.refuse(ctx, fmt.Sprintf("key or request refused (key: %s of %d bits): %s", w.req.Key.Algorithm, w.req.Key.Size, e))
		case server.FaultPassing:
			return current, 0, w.failed(ctx, e.Error())
		case server.FaultGone:
			return current, 0, w.lost(ctx, e.Error())
		}
	}
	return current, 0, w.trouble(err)
}

// wait has the request wait as long as the server says, or a growing time if it does not.
func (w *work) wait(after time.Duration, reason string) error {
	if after <= 0 {
		after = min(firstLook<<min(w.order.Looks, 10), lastLook)
	}
	return w.waitFor(after, reason)
}

func (w *work) waitFor(d time.Duration, reason string) error {
	w.order.Looks++
	w.order.Next, w.order.Waiting = w.options.Clock.Now().Add(d), reason
	return pending(d, reason)
}

// pending is that nothing can be done for a time. What takes long is left to other backends.
func pending(wait time.Duration, reason string) error {
	if wait > longWait {
		return own("nothing can be done for another %s: %s", wait.Round(time.Second), reason)
	}
	return &signer.PendingError{After: wait, Reason: reason}
}

// tidy takes away what is in place for challenges, as far as that is possible now. The cleaner sees to the rest.
func (w *work) tidy(ctx context.Context) {
	if len(w.order.Answers) == 0 {
		return
	}
	if err := w.order.CleanUp(ctx, w.options.NewSolver); err != nil {
		logf.FromContext(ctx).Info("what was put in place for ACME challenges will be taken away later", "csr", w.req.Name, "error", err.Error())
	}
}
