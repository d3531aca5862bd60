// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"k8s.io/utils/clock"

	"github.com/certwright/certwright/agent/backoff"
	"github.com/certwright/certwright/excerpt"
)

const (
	// A call that fails is repeated after callBackoff, then twice as long, up to maxCallBackoff.
	callBackoff    = 250 * time.Millisecond
	maxCallBackoff = 30 * time.Second
	// repeatAfter is the pause from which on the same trouble is logged again.
	repeatAfter = 10 * time.Second
	// A pending request is read after firstPoll, then 1.5 times as long up to
	// quickPoll; after patience, up to slowPoll: a person may take days.
	firstPoll = 50 * time.Millisecond
	quickPoll = 2 * time.Second
	slowPoll  = 15 * time.Second
	patience  = time.Minute
	// announceAfter is how long a request may pend before the log says what to do.
	announceAfter = 10 * time.Second
)

// errGone says that a request vanished, or another took its place.
var errGone = errors.New("the request is gone")

// API is how requests are made and read; Client is the one that speaks to a cluster.
type API interface {
	Create(ctx context.Context, request *Request) (*Request, error)
	Get(ctx context.Context, name string) (*Request, error)
}

// requester obtains one pair at a time.
type requester struct {
	api     API
	journal journal
	config  Config
	names   names
	clock   clock.Clock
	jitter  func() float64 // in [0, 1)
	log     *slog.Logger
	// status takes what people should know while it waits, and tells whether that is new.
	status func(text string) bool
	// failed counts calls that failed.
	failed func()
}

// order is what one pair is obtained for.
type order struct {
	open  *ticket   // a request to go on with, or nil
	renew time.Time // what the RenewFile says
}

// obtain makes a key and a request and waits for as long as it takes. A request
// that the API server's cleaner removed is made anew, with a new key. Errors are
// *RequestError, or the context's. The ticket of a pair stays until forget.
func (r *requester) obtain(ctx context.Context, o order) (*Pair, error) {
	wait := backoff.New(time.Second, time.Minute, r.jitter)
	for open := o.open; ; open = nil {
		pair, err := r.attempt(ctx, open, o.renew)
		var verdict *RequestError
		if gone := errors.Is(err, errGone); gone || errors.As(err, &verdict) {
			r.forget()
			if !gone {
				return nil, err
			}
		} else {
			return pair, err
		}
		if err := r.sleep(ctx, wait.Next()); err != nil {
			return nil, err
		}
	}
}

// attempt makes one request, or goes on with an open one, and returns its pair.
func (r *requester) attempt(ctx context.Context, open *ticket, renew time.Time) (*Pair, error) {
	if open == nil {
		var err error
		if open, err = r.open(ctx, renew); err != nil {
			return nil, err
		}
	}
	request := r.request(open)
	log := r.log.With("csr", request.Metadata.Name, "signer", request.Spec.SignerName)
	if open.UID == "" {
		created, err := r.create(ctx, log, request)
		if err != nil {
			return nil, err
		}
		open.UID, request.Metadata.UID = created.Metadata.UID, created.Metadata.UID
		if err := r.keep(open); err != nil { // the request can be found by its name as well
			log.Warn(err.Error())
		}
		log.Info("requested a certificate", "names", r.names.strings(), "duration", time.Duration(r.config.Duration))
	} else {
		log.Info("going on with the request of an earlier run", "names", r.names.strings())
	}
	r.status(waitingFor(request.Metadata.Name, false))
	issued, err := r.await(ctx, log, request)
	if err != nil {
		return nil, err
	}
	pair, err := r.pair(open, issued)
	if err != nil {
		return nil, &RequestError{Name: request.Metadata.Name, Verdict: "Unusable", Reason: "BadCertificate", Message: excerpt.Line(err.Error(), maxMessageBytes)}
	}
	log.Info("the certificate was issued", "expires", timestamp(pair.Leaf().NotAfter))
	return pair, nil
}

// open makes a ticket and writes it down, before anybody learns of the request.
func (r *requester) open(ctx context.Context, renew time.Time) (*ticket, error) {
	wait := backoff.New(callBackoff, maxCallBackoff, r.jitter)
	t, err := r.newTicket(renew)
	if err != nil {
		return nil, err
	}
	for {
		err := r.keep(t)
		if err == nil {
			return t, nil
		}
		if err := r.retry(ctx, r.log, "keeping the request for a restart", err, wait); err != nil {
			return nil, err
		}
	}
}

// pair joins the key of a ticket and the certificate that was issued for it.
func (r *requester) pair(t *ticket, issued *Request) (*Pair, error) {
	chain, err := parseIssued(issued.Status.Certificate)
	if err != nil {
		return nil, err
	}
	pair := &Pair{Chain: chain, Key: t.key, request: t.Name, advised: issued.renewAt(), renew: t.Renew}
	return pair, pair.check(r.names, r.clock.Now())
}

// create posts the request until it is there. A call whose answer was lost is
// repeated under the same name, so that it cannot make two.
func (r *requester) create(ctx context.Context, log *slog.Logger, request *Request) (*Request, error) {
	wait := backoff.New(callBackoff, maxCallBackoff, r.jitter)
	for {
		object, err := r.api.Create(ctx, request)
		if hasCode(err, http.StatusConflict) {
			object, err = r.api.Get(ctx, request.Metadata.Name)
		}
		switch status := permanent(err); {
		case err == nil && object.ours(request):
			return object, nil
		case err == nil:
			log.Warn("another object holds the name of the request, choosing a new one", "reason", "Planted")
			return nil, errGone
		case status != nil:
			return nil, &RequestError{Name: request.Metadata.Name, Verdict: "Invalid", Reason: status.Reason, Message: status.Message}
		}
		if err := r.retry(ctx, log, "creating the request", err, wait); err != nil {
			return nil, err
		}
	}
}

// await reads the request until it has a certificate or a verdict.
func (r *requester) await(ctx context.Context, log *slog.Logger, request *Request) (*Request, error) {
	name, start, poll := request.Metadata.Name, r.clock.Now(), firstPoll
	wait := backoff.New(callBackoff, maxCallBackoff, r.jitter)
	said := ""
	for {
		pause := poll + time.Duration(r.jitter()*float64(poll)/5)
		if err := r.sleep(ctx, pause); err != nil {
			return nil, err
		}
		object, err := r.api.Get(ctx, name)
		if hasCode(err, http.StatusNotFound) || err == nil && !object.ours(request) {
			log.Warn("the request was deleted before it was answered, making a new one", "reason", "Gone")
			return nil, errGone
		}
		if err != nil {
			if err := r.retry(ctx, log, "reading the request", err, wait); err != nil {
				return nil, err
			}
			said = ""
			continue
		}
		wait.Reset()
		if err := object.verdict(); err != nil {
			return nil, err
		}
		approved := object.condition("Approved") != nil
		if approved && len(object.Status.Certificate) > 0 {
			return object, nil
		}
		waited, longest := r.clock.Since(start), quickPoll
		if waited > patience {
			longest = slowPoll
		}
		poll = min(poll*3/2, longest)
		if state := waitingFor(name, approved); waited >= announceAfter && state != said {
			said = state
			log.Info(state)
			r.status(state)
		}
	}
}

// waitingFor says what a pending request waits for, and what a person can do.
func waitingFor(name string, approved bool) string {
	if approved {
		return "request " + name + " is approved and waits for its signer; see: kubectl describe csr " + name
	}
	return "request " + name + " waits for approval; to see it: kubectl describe csr " + name +
		"; to approve it: kubectl certificate approve " + name
}

// retry reports trouble with a call and waits before the next one.
func (r *requester) retry(ctx context.Context, log *slog.Logger, doing string, err error, wait *backoff.Backoff) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.failed()
	pause := wait.Next()
	var status *StatusError
	if errors.As(err, &status) {
		pause = max(pause, status.RetryAfter)
	}
	hint := ""
	if hasCode(err, http.StatusForbidden) {
		hint = "; the pod's ServiceAccount needs create and get on certificatesigningrequests, and the admission policies must allow the request"
	}
	text := doing + ": " + excerpt.Line(err.Error(), maxMessageBytes) + hint
	if r.status(text) || pause >= repeatAfter {
		log.Warn(text, "retryIn", pause.Round(time.Millisecond))
	}
	return r.sleep(ctx, pause)
}

func (r *requester) sleep(ctx context.Context, d time.Duration) error {
	timer := r.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C():
		return nil
	}
}
