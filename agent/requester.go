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
	api    API
	config Config
	names  names
	clock  clock.Clock
	jitter func() float64 // in [0, 1)
	log    *slog.Logger
	// status takes what people should know while it waits, and tells whether that is new.
	status func(text string) bool
}

// obtain makes a key and a request and waits for as long as it takes. A request
// that the API server's cleaner removed is made anew, with a new key. Errors are
// *RequestError, or the context's.
func (r *requester) obtain(ctx context.Context) (*Pair, error) {
	wait := newBackoff(time.Second, time.Minute, r.jitter)
	for {
		pair, err := r.attempt(ctx)
		if !errors.Is(err, errGone) {
			return pair, err
		}
		if err := r.sleep(ctx, wait.next()); err != nil {
			return nil, err
		}
	}
}

func (r *requester) attempt(ctx context.Context) (*Pair, error) {
	key, err := generateKey(r.config.KeyAlgorithm)
	if err != nil {
		return nil, err
	}
	csr, err := requestPEM(key, r.names)
	if err != nil {
		return nil, err
	}
	request := &Request{
		APIVersion: "certificates.k8s.io/v1",
		Kind:       requestKind,
		Metadata:   RequestMetadata{Name: randomName()},
		Spec: RequestSpec{
			Request:           csr,
			SignerName:        r.config.SignerName,
			ExpirationSeconds: int32(time.Duration(r.config.Duration) / time.Second),
			Usages:            r.config.Usages,
		},
	}
	log := r.log.With("csr", request.Metadata.Name, "signer", request.Spec.SignerName)
	created, err := r.create(ctx, log, request)
	if err != nil {
		return nil, err
	}
	request.Metadata.UID = created.Metadata.UID
	log.Info("requested a certificate", "names", r.names.strings(), "duration", time.Duration(r.config.Duration))
	r.status(waitingFor(request.Metadata.Name, false))
	issued, err := r.await(ctx, log, request)
	if err != nil {
		return nil, err
	}
	unusable := func(err error) error {
		return &RequestError{Name: request.Metadata.Name, Verdict: "Unusable", Reason: "BadCertificate", Message: excerpt.Line(err.Error(), maxMessageBytes)}
	}
	chain, err := parseIssued(issued.Status.Certificate)
	if err != nil {
		return nil, unusable(err)
	}
	pair := &Pair{Chain: chain, Key: key, request: request.Metadata.Name, advised: issued.renewAt()}
	if err := pair.check(r.names, r.clock.Now()); err != nil {
		return nil, unusable(err)
	}
	log.Info("the certificate was issued", "expires", pair.Leaf().NotAfter.UTC().Format(time.RFC3339))
	return pair, nil
}

// create posts the request until it is there. A call whose answer was lost is
// repeated under the same name, so that it cannot make two.
func (r *requester) create(ctx context.Context, log *slog.Logger, request *Request) (*Request, error) {
	wait := newBackoff(callBackoff, maxCallBackoff, r.jitter)
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
	wait := newBackoff(callBackoff, maxCallBackoff, r.jitter)
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
		wait.reset()
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
func (r *requester) retry(ctx context.Context, log *slog.Logger, doing string, err error, wait *backoff) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	pause := wait.next()
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
