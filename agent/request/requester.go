// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package request

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"k8s.io/utils/clock"

	"github.com/certwright/certwright/agent/apiserver"
	"github.com/certwright/certwright/agent/backoff"
	"github.com/certwright/certwright/agent/credential"
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
	firstPoll = 10 * time.Millisecond
	quickPoll = 2 * time.Second
	slowPoll  = 15 * time.Second
	patience  = time.Minute
	// announceAfter is how long a request may pend before the log says what to do.
	announceAfter = 10 * time.Second
)

// errGone says that a request vanished, or another took its place.
var errGone = errors.New("the request is gone")

// API is how requests are made and read; apiserver.Client is the one that speaks to a cluster.
type API interface {
	Create(ctx context.Context, request *apiserver.Request) (*apiserver.Request, error)
	Get(ctx context.Context, name string) (*apiserver.Request, error)
}

// Options are what a Requester needs.
type Options struct {
	API     API
	Journal Journal

	// What is asked for, as in the agent's Config.
	SignerName, KeyAlgorithm string
	Duration                 time.Duration
	Usages                   []string
	Names                    credential.Names
	// Fingerprint tells what is asked for from anything else.
	Fingerprint string

	Clock clock.Clock
	// Jitter returns numbers in [0, 1) that spread retries.
	Jitter func() float64
	Log    *slog.Logger
	// Status takes what people should know while it waits, and tells whether that is new.
	Status func(text string) bool
	// Failed counts calls that failed.
	Failed func()
}

// Requester obtains one pair at a time.
type Requester struct{ Options }

// New returns a Requester.
func New(o Options) *Requester { return &Requester{o} }

// WithLog returns a Requester that writes to another log.
func (r *Requester) WithLog(log *slog.Logger) *Requester {
	other := *r
	other.Log = log
	return &other
}

// Order is what one pair is obtained for.
type Order struct {
	Open  *Ticket   // a request to go on with, or nil
	Renew time.Time // goes into the pair
}

// Obtain makes a key and a request and waits for as long as it takes. A request
// that the API server's cleaner removed is made anew, with a new key. Errors are
// *apiserver.RequestError, or the context's. The ticket of a pair stays until Forget.
func (r *Requester) Obtain(ctx context.Context, o Order) (*credential.Pair, error) {
	wait := backoff.New(time.Second, time.Minute, r.Jitter)
	for open := o.Open; ; open = nil {
		pair, err := r.attempt(ctx, open, o.Renew)
		var verdict *apiserver.RequestError
		if gone := errors.Is(err, errGone); gone || errors.As(err, &verdict) {
			r.Forget()
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
func (r *Requester) attempt(ctx context.Context, open *Ticket, renew time.Time) (*credential.Pair, error) {
	if open == nil {
		var err error
		if open, err = r.open(ctx, renew); err != nil {
			return nil, err
		}
	}
	request := r.request(open)
	log := r.Log.With("csr", request.Metadata.Name, "signer", request.Spec.SignerName)
	asked := r.Clock.Now()
	if open.UID == "" {
		created, err := r.create(ctx, log, request)
		if err != nil {
			return nil, err
		}
		open.UID, request.Metadata.UID = created.Metadata.UID, created.Metadata.UID
		if err := r.keep(open); err != nil { // the request can be found by its name as well
			log.Warn(err.Error())
		}
		log.Info("requested a certificate", "names", r.Names.Strings(), "duration", r.Duration)
	} else {
		log.Info("going on with the request of an earlier run", "names", r.Names.Strings())
	}
	r.Status(waitingFor(request.Metadata.Name, false))
	issued, err := r.await(ctx, log, request)
	if err != nil {
		return nil, err
	}
	waited := r.Clock.Since(asked)
	pair, err := r.pair(open, issued)
	if err != nil {
		return nil, &apiserver.RequestError{Name: request.Metadata.Name, Verdict: "Unusable", Reason: "BadCertificate", Message: excerpt.Line(err.Error(), apiserver.MaxMessageBytes)}
	}
	pair.Waited = waited
	log.Info("the certificate was issued", "expires", pair.Leaf().NotAfter.UTC().Format(time.RFC3339))
	return pair, nil
}

// open makes a ticket and writes it down, before anybody learns of the request.
func (r *Requester) open(ctx context.Context, renew time.Time) (*Ticket, error) {
	wait := backoff.New(callBackoff, maxCallBackoff, r.Jitter)
	t, err := r.newTicket(renew)
	if err != nil {
		return nil, err
	}
	for {
		err := r.keep(t)
		if err == nil {
			return t, nil
		}
		if err := r.retry(ctx, r.Log, "keeping the request for a restart", err, wait); err != nil {
			return nil, err
		}
	}
}

// pair joins the key of a ticket and the certificate that was issued for it.
func (r *Requester) pair(t *Ticket, issued *apiserver.Request) (*credential.Pair, error) {
	chain, err := credential.ParseChain(issued.Status.Certificate)
	if err != nil {
		return nil, err
	}
	pair := &credential.Pair{Chain: chain, Key: t.key, Request: t.Name, Advised: issued.RenewAt(), Renew: t.Renew}
	return pair, pair.Check(r.Names, r.Clock.Now())
}

// create posts the request until it is there. A call whose answer was lost is
// repeated under the same name, so that it cannot make two.
func (r *Requester) create(ctx context.Context, log *slog.Logger, request *apiserver.Request) (*apiserver.Request, error) {
	wait := backoff.New(callBackoff, maxCallBackoff, r.Jitter)
	for {
		object, err := r.API.Create(ctx, request)
		if apiserver.HasCode(err, http.StatusConflict) {
			object, err = r.API.Get(ctx, request.Metadata.Name)
		}
		switch status := apiserver.Permanent(err); {
		case err == nil && object.Ours(request):
			return object, nil
		case err == nil:
			log.Warn("another object holds the name of the request, choosing a new one", "reason", "Planted")
			return nil, errGone
		case status != nil:
			return nil, &apiserver.RequestError{Name: request.Metadata.Name, Verdict: "Invalid", Reason: status.Reason, Message: status.Message}
		}
		if err := r.retry(ctx, log, "creating the request", err, wait); err != nil {
			return nil, err
		}
	}
}

// await reads the request until it has a certificate or a verdict.
func (r *Requester) await(ctx context.Context, log *slog.Logger, request *apiserver.Request) (*apiserver.Request, error) {
	name, start, poll := request.Metadata.Name, r.Clock.Now(), firstPoll
	wait := backoff.New(callBackoff, maxCallBackoff, r.Jitter)
	said := ""
	for {
		pause := poll + time.Duration(r.Jitter()*float64(poll)/5)
		if err := r.sleep(ctx, pause); err != nil {
			return nil, err
		}
		object, err := r.API.Get(ctx, name)
		if apiserver.HasCode(err, http.StatusNotFound) || err == nil && !object.Ours(request) {
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
		if err := object.Verdict(); err != nil {
			return nil, err
		}
		approved := object.Condition("Approved") != nil
		if approved && len(object.Status.Certificate) > 0 {
			return object, nil
		}
		waited, longest := r.Clock.Since(start), quickPoll
		if waited > patience {
			longest = slowPoll
		}
		poll = min(poll*3/2, longest)
		if state := waitingFor(name, approved); waited >= announceAfter && state != said {
			said = state
			log.Info(state)
			r.Status(state)
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
func (r *Requester) retry(ctx context.Context, log *slog.Logger, doing string, err error, wait *backoff.Backoff) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.Failed()
	pause := wait.Next()
	var status *apiserver.StatusError
	if errors.As(err, &status) {
		pause = max(pause, status.RetryAfter)
	}
	hint := ""
	if apiserver.HasCode(err, http.StatusForbidden) {
		hint = "; the pod's ServiceAccount needs create and get on certificatesigningrequests, and the admission policies must allow the request"
	}
	text := doing + ": " + excerpt.Line(err.Error(), apiserver.MaxMessageBytes) + hint
	if r.Status(text) || pause >= repeatAfter {
		log.Warn(text, "retryIn", pause.Round(time.Millisecond))
	}
	return r.sleep(ctx, pause)
}

func (r *Requester) sleep(ctx context.Context, d time.Duration) error {
	timer := r.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C():
		return nil
	}
}
