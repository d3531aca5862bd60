// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acme

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/certwright/certwright/signer/acme/server"
)

// longWait is what wait is long enough to ask other backends.
const longWait = 2 * time.Minute

// open makes a new order when it is its turn.
func (w *work) open(ctx context.Context) (server.Order, time.Duration, error) {
	if err := w.given.refuse(w.req); err != nil {
		return server.Order{}, 0, err
	}
	if err := w.await(); err != nil {
		return server.Order{}, 0, err
	}
	made, after, err := w.make(ctx)
	if err != nil {
		return server.Order{}, 0, w.notOpened(ctx, err)
	}
	w.moved = true
	w.queue.ordered()
	o := w.order
	o.Reset()
	o.Account, o.URL, o.NotBefore = w.account.Location, made.Location, time.Time{}
	return made, after, o.Save(ctx)
}

// await returns nil when it is this request's turn to order.
func (w *work) await() error {
	o, now := w.order, w.options.Clock.Now()
	if wait := o.NotBefore.Sub(now); wait > 0 {
		return w.notYet(wait)
	}
	if o.Turn.IsZero() || w.queue.slowed() > 0 {
		o.Turn = w.queue.turn()
	}
	if wait := o.Turn.Sub(now); wait > 0 {
		return w.waitFor(wait, "waiting for its turn among the orders of this account")
	}
	o.Turn = time.Time{}
	return nil
}

// notYet is why no order may be made for a time. What was lost is left to other backends, however short that is.
func (w *work) notYet(wait time.Duration) error {
	if w.order.Losses > 0 {
		return own("no order is made for another %s: %s", wait.Round(time.Second), w.order.Reason)
	}
	return pending(wait, w.order.Reason)
}

// make orders. What only some servers take is left out if the server does not take it.
func (w *work) make(ctx context.Context) (server.Order, time.Duration, error) {
	directory, err := w.server.Directory(ctx)
	if err != nil {
		return server.Order{}, 0, err
	}
	wanted := server.Order{Identifiers: w.ids, Profile: w.options.ACME.Profile}
	if wanted.Profile != "" && !server.HasProfile(directory, wanted.Profile) {
		return server.Order{}, 0, unknownProfile(directory, wanted.Profile)
	}
	former := whose(w.req, w.ids)
	if directory.RenewalInfo != "" {
		wanted.Replaces = w.former.of(former)
	}
	if w.req.Duration > 0 {
		end := w.options.Clock.Now().Add(w.req.Duration).UTC().Truncate(time.Second)
		wanted.NotAfter = &end
	}
	made, after, err := w.server.NewOrder(ctx, w.account, wanted)
	if wanted.Replaces != "" && refused(err) {
		w.former.set(former, "") // that what is replaced cannot be is no reason to order none
		wanted.Replaces = ""
		made, after, err = w.server.NewOrder(ctx, w.account, wanted)
	}
	if wanted.NotAfter != nil && refused(err) {
		wanted.NotAfter = nil
		made, after, err = w.server.NewOrder(ctx, w.account, wanted)
	}
	return made, after, err
}

// refused reports whether the server refused what was asked for, and was not in trouble. Nothing is remembered of it: it may be for
// this very order.
func refused(err error) bool {
	e := (*server.Error)(nil)
	return errors.As(err, &e) && e.Problem != "" && e.Fault >= server.FaultGone
}

// notOpened heeds why there is no order.
func (w *work) notOpened(ctx context.Context, err error) error {
	e := (*server.Error)(nil)
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case e.Fault == server.FaultRequest:
		return w.refuse(ctx, "dnsNames or ipAddresses refused: "+e.Error())
	case e.Problem == server.ProblemUnauthorized:
		return w.trouble(err)
	case e.Fault == server.FaultPassing:
		return w.failed(ctx, e.Error())
	case e.Fault == server.FaultLimit && e.Problem != "":
		wait := e.RetryAfter
		if wait <= 0 {
			wait = maxSlowdown
		}
		w.queue.refused(e.RetryAfter)
		w.order.NotBefore, w.order.Reason = w.options.Clock.Now().Add(wait), fmt.Sprintf("a rate limit of the server: %s", e)
		return w.notYet(wait)
	}
	return w.trouble(err)
}
