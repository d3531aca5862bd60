// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/excerpt"
	"github.com/certwright/certwright/policy/judge"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/metrics"
	"github.com/certwright/certwright/signer/registry"
)

// soonest and latest bound when a backend that needs time is asked again, whatever it says. Without the one a request would
// never be asked for again, or without end.
const (
	soonest = time.Second
	latest  = time.Hour
)

// moments is how long a request may wait without anybody being told, for what is about to pass or to be done.
const moments = time.Minute

// Core signs what was decided, whatever kind of request it came in: it applies the Signer's limits, asks the backends, verifies what they
// return, and remembers that until it is written. It is safe for concurrent use, for different requests.
type Core struct {
	Registry *registry.Registry
	Metrics  *metrics.Metrics
	Clock    clock.PassiveClock
	memory   *memory
}

// NewCore returns a core that remembers nothing yet.
func NewCore(r *registry.Registry, m *metrics.Metrics, clk clock.PassiveClock) *Core {
	return &Core{Registry: r, Metrics: m, Clock: clk, memory: newMemory(clk)}
}

// Refusal is a verdict of the signer: the request can never be signed as it is.
type Refusal struct {
	// Reason is fit for a condition.
	Reason string
	// Message tells a person.
	Message string
}

func (r *Refusal) Error() string { return r.Message }

// Text returns the message as it fits into a condition: the words of a backend may be many.
func (r *Refusal) Text() string { return excerpt.Condition(r.Message) }

// Sign returns what is to be written for a request that policy permits, for policyMax at the most; 0 is no bound. What was signed before
// and not written is returned again, if it still fits. The error is a *Refusal, or trouble for Later.
func (c *Core) Sign(ctx context.Context, req csr.Request, policyMax time.Duration, s *registry.Signer) (Issued, error) {
	req, exceeded := s.Limits.Apply(req, policyMax)
	if exceeded != "" {
		return Issued{}, &Refusal{Reason: ReasonLimitExceeded, Message: fmt.Sprintf("Signer %q does not sign this, whoever approves: %s.", s.Name, exceeded)}
	}
	if req.ForPod && req.Duration < csr.MinPodLifetime {
		// No refusal: this is a mistake of those who write Signers and policies, and a pod would lose the certificate that it has.
		return Issued{}, fmt.Errorf("certificates of pods must live for %s at least, and the limits of Signer %q and the policy come to %s: raise maxDuration", csr.MinPodLifetime, s.Name, req.Duration)
	}
	return c.ask(ctx, req, s)
}

// Later has a request wait that could not be signed, and says when to look again; an error is for the usual backoff. Somebody is
// told why, once, if it does not pass within moments: in words that go on from "the request waits and".
func (c *Core) Later(uid types.UID, created time.Time, trouble error, tell func(why string)) (ctrl.Result, error) {
	age := c.Clock.Since(created)
	once := func(why string) {
		if c.memory.tell(uid) {
			tell(why)
		}
	}
	var pending *signer.PendingError
	var later *laterError
	switch {
	case errors.As(trouble, &pending):
		if age > moments {
			once("waits for its backend: " + excerpt.Condition(pending.Reason) + ".")
		}
		return ctrl.Result{RequeueAfter: min(max(pending.After, soonest), latest)}, nil
	case errors.As(trouble, &later):
		if !later.quiet || age > moments {
			once(fmt.Sprintf("is tried again: %v.", trouble))
		}
		return ctrl.Result{RequeueAfter: later.after}, nil
	}
	again, told := judge.Wait(trouble, age)
	if told {
		once(fmt.Sprintf("is tried again: %v.", trouble))
	}
	if again > 0 {
		return ctrl.Result{RequeueAfter: again}, nil
	}
	return ctrl.Result{}, trouble
}

// Written notes that what was signed for a request is written. A cache may show the request from before that for moments.
func (c *Core) Written(uid types.UID, signerName string, created time.Time) {
	c.memory.written(uid)
	c.Metrics.Issued(signerName, c.Clock.Since(created))
}

// GivenUp notes that a request was refused, and that this is written.
func (c *Core) GivenUp(uid types.UID, signerName string, refused *Refusal) {
	c.memory.forget(uid)
	c.Metrics.Failed(signerName, refused.Reason)
}

// Rejected notes that the API server does not take what was signed for a request. It is not offered again: the next backend is asked, and
// the one that signed it after a pause.
func (c *Core) Rejected(uid types.UID, why error) { c.memory.rejected(uid, why) }
