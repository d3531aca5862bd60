// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acme

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/certwright/certwright/excerpt"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/acme/server"
)

const (
	// maxFailures is how many orders may come to nothing, for something that may pass, before a request is refused for good. In
	// between there is a pause of firstPause, four times as long each time.
	maxFailures = 3
	firstPause  = 30 * time.Second

	// Bounds of the pause after an order that the server lost or broke. These never end in a refusal.
	firstLossPause = time.Second
	maxLossPause   = 10 * time.Minute

	// maxReason bounds a reason that is stored.
	maxReason = 2 << 10
)

// dead are the statuses of authorizations that no longer become valid (RFC 8555, section 7.1.6).
var dead = map[string]bool{"invalid": true, "deactivated": true, "expired": true, "revoked": true}

// maxExamined is how many authorizations of an order that failed are read to find out why.
const maxExamined = 50

// invalid settles an order that the server gave up. An authorization that failed tells more than the order.
func (w *work) invalid(ctx context.Context, current server.Order) error {
	for _, url := range current.Authorizations[:min(len(current.Authorizations), maxExamined)] {
		authorization, err := w.server.Authorization(ctx, w.account, url)
		if err != nil {
			return w.heed(ctx, err)
		}
		if dead[authorization.Status] {
			return w.unproven(ctx, authorization)
		}
	}
	if current.Error == nil {
		return w.settle(ctx, server.FaultPassing, "the order failed, and the server does not say why")
	}
	return w.settle(ctx, server.FaultOf(current.Error), "the order failed: "+server.Words(current.Error))
}

// unproven settles an order with an authorization that failed.
func (w *work) unproven(ctx context.Context, a server.Authorization) error {
	for _, c := range a.Challenges {
		if c.Error != nil {
			return w.settle(ctx, server.FaultOf(c.Error), fmt.Sprintf("%s was not proven by %.20s: %s", name(a), c.Type, server.Words(c.Error)))
		}
	}
	return w.settle(ctx, server.FaultPassing, fmt.Sprintf("%s was not proven: its authorization is %.20s", name(a), a.Status))
}

// name is what an authorization is for.
func name(a server.Authorization) string { return excerpt.Line(a.IdentifierValue(), 255) }

// settle ends an order that came to nothing.
func (w *work) settle(ctx context.Context, fault server.Fault, why string) error {
	switch fault {
	case server.FaultRequest:
		return w.refuse(ctx, why)
	case server.FaultPassing:
		return w.failed(ctx, why)
	}
	return w.lost(ctx, why)
}

// refuse refuses the request for good.
func (w *work) refuse(ctx context.Context, why string) error {
	w.tidy(ctx)
	w.order.Reset()
	w.order.Verdict = excerpt.Of(why, maxReason)
	if err := w.save(ctx); err != nil {
		return err
	}
	return &signer.PermanentError{Err: errors.New(w.order.Verdict)}
}

// failed counts an order that failed for something that may pass, such as DNS that is slow, and has the request wait for the
// next one, or refuses it if there were enough.
func (w *work) failed(ctx context.Context, why string) error {
	o := w.order
	o.Failures++
	if o.Failures >= maxFailures {
		return w.refuse(ctx, fmt.Sprintf("%s (the last of %d orders)", why, o.Failures))
	}
	pause := firstPause << (2 * (o.Failures - 1))
	w.again(ctx, pause, why)
	if err := w.save(ctx); err != nil {
		return err
	}
	return &signer.PendingError{After: pause, Reason: fmt.Sprintf("order %d of %d failed and another one is made: %s", o.Failures, maxFailures, o.Reason)}
}

// lost has an order made anew that the server lost or broke. That is the server's trouble, however often it happens.
func (w *work) lost(ctx context.Context, why string) error {
	o := w.order
	pause := min(firstLossPause<<min(o.Losses, 10), maxLossPause)
	o.Losses++
	w.again(ctx, pause, "the server lost the order: "+why)
	if err := w.save(ctx); err != nil {
		return err
	}
	return w.notYet(pause)
}

// again forgets the order at the server, but not what may be in place for it.
func (w *work) again(ctx context.Context, pause time.Duration, why string) {
	w.tidy(ctx)
	w.order.Reset()
	w.order.NotBefore, w.order.Reason = w.options.Clock.Now().Add(pause), excerpt.Of(why, maxReason)
}

// save stores the order if there is anything of it to be found again.
func (w *work) save(ctx context.Context) error {
	if !w.order.Stored() {
		return nil
	}
	return w.order.Save(ctx)
}

// bounded cuts a list of a server to what an order of that many names can have.
func bounded(urls []string, names int) []string {
	return urls[:min(len(urls), names*2+4)]
}
