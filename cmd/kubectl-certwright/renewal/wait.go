// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package renewal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/inspect"
	"github.com/certwright/certwright/rights"
)

// rewatch is how long to wait before a watch that ended is begun again.
const rewatch = time.Second

// Result is how the renewal of a pod ended.
type Result struct {
	Step
	// Request is the name of the CertificateSigningRequest that its agent made.
	Request string
	// Trouble says why there is no certificate; empty if there is one.
	Trouble string
}

// waiting is what is known of the pods that are waited for.
type waiting struct {
	since time.Time
	open  map[types.UID]Step
	// seen is what the newest request of a pod is like, for those who lose patience.
	seen map[types.UID]string
	done func(Result)
}

// Wait follows the requests of agents that were told to renew at a time, and calls done for each that ended. It fails if not all have ended
// within the timeout.
func (r *Renewer) Wait(ctx context.Context, steps []Step, since time.Time, timeout time.Duration, done func(Result)) error {
	w := &waiting{since: since, open: map[types.UID]Step{}, seen: map[types.UID]string{}, done: done}
	for _, s := range steps {
		w.open[s.UID] = s
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := r.Clock.NewTimer(timeout)
	defer timer.Stop()
	go func() {
		select {
		case <-ctx.Done():
		case <-timer.C():
			cancel(errTimeout)
		}
	}()
	for len(w.open) > 0 {
		if err := r.follow(ctx, w); err != nil {
			return err
		}
		if len(w.open) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return w.impatient(context.Cause(ctx), timeout)
		case <-r.Clock.After(rewatch):
		}
	}
	return nil
}

var errTimeout = errors.New("timeout")

// follow looks at all requests and then at each that changes, until the watch ends.
func (r *Renewer) follow(ctx context.Context, w *waiting) error {
	right := rights.Right{Verb: "list", Group: certificatesv1.GroupName, Resource: "certificatesigningrequests"}
	var list certificatesv1.CertificateSigningRequestList
	if err := r.Client.List(ctx, &list); err != nil {
		return right.ExplainWaiting(ctx, "listing certificatesigningrequests", err)
	}
	for i := range list.Items {
		w.look(&list.Items[i])
	}
	if len(w.open) == 0 {
		return nil
	}
	changes, err := r.Client.Watch(ctx, &list, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}})
	if err != nil {
		right.Verb = "watch"
		return right.ExplainWaiting(ctx, "watching certificatesigningrequests", err)
	}
	defer changes.Stop()
	for len(w.open) > 0 {
		select {
		case <-ctx.Done():
			return nil
		case e, open := <-changes.ResultChan():
			if !open || e.Type == watch.Error {
				return nil
			}
			if object, ok := e.Object.(*certificatesv1.CertificateSigningRequest); ok && e.Type != watch.Deleted {
				w.look(object)
			}
		}
	}
	return nil
}

// look takes note of a request that was made since by a pod that is waited for. It says by itself, and the API server vouches for it, which
// pod's token it was made with.
func (w *waiting) look(object *certificatesv1.CertificateSigningRequest) {
	pod, bound := csr.Requester{Username: object.Spec.Username, Extra: object.Spec.Extra}.Pod()
	s, open := w.open[pod.UID]
	if !bound || !open || object.Spec.SignerName != s.SignerName || object.CreationTimestamp.Time.Before(w.since) {
		return
	}
	request := inspect.NewRequest(object)
	result := Result{Step: s, Request: object.Name}
	switch request.Status {
	case "Denied", "Failed":
		result.Trouble = strings.ToLower(request.Status) + ": " + request.StatusMessage
	case "Issued":
	default:
		w.seen[pod.UID] = fmt.Sprintf("its request %s is %s", object.Name, strings.ToLower(request.Status))
		return
	}
	delete(w.open, pod.UID)
	w.done(result)
}

// impatient says for whom nobody waits any longer.
func (w *waiting) impatient(why error, timeout time.Duration) error {
	if !errors.Is(why, errTimeout) {
		return fmt.Errorf("not waiting any longer: %w", why)
	}
	var names []string
	for uid, s := range w.open {
		state := w.seen[uid]
		if state == "" {
			state = "its agent has made no request: kubectl logs " + s.Name + " -n " + s.Namespace + " -c certwright-agent"
		}
		names = append(names, fmt.Sprintf("  %s/%s: %s", s.Namespace, s.Name, state))
	}
	slices.Sort(names)
	return fmt.Errorf("after %s these have not renewed:\n%s", timeout, strings.Join(names, "\n"))
}
