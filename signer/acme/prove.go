// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acme

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/certwright/certwright/signer/acme/challenge"
	"github.com/certwright/certwright/signer/acme/order"
	"github.com/certwright/certwright/signer/acme/server"
)

const (
	// checksAtOnce is how many answers of an order are looked for at the same time.
	checksAtOnce = 8
	// tellAgain is after what time a server that has not validated an answer is told of it again: some wait for that (RFC 8555,
	// section 8.2).
	tellAgain = 10 * time.Second
	// maxChecking is how long answers are looked for in one call, or half of the time there is if that is less: the rest is for telling
	// the server of those that are seen, however long the others keep us waiting.
	maxChecking = 3 * time.Second
)

// prove makes the steps towards the proof of all names: what the server asks for is found out, stored, put in place, seen and
// told. It returns nil if the order may have gone on.
func (w *work) prove(ctx context.Context, current server.Order, after time.Duration) error {
	if err := w.list(ctx, current); err != nil {
		return err
	}
	o := w.order
	if o.Unsaved || !o.Stored() {
		if err := o.Save(ctx); err != nil {
			return err
		}
	}
	open := slices.DeleteFunc(o.Mine(), func(a order.Answer) bool { return o.Done[a.URL] })
	if err := w.present(ctx, open); err != nil {
		return err
	}
	missing := w.check(ctx, open)
	done, told, err := w.tell(ctx, open)
	switch {
	case err != nil:
		return err
	case missing != nil:
		return w.unseen(missing)
	case done == len(open):
		return nil
	}
	return w.wait(max(after, told), "the server is validating the names")
}

// list finds out what the server asks for.
func (w *work) list(ctx context.Context, current server.Order) error {
	urls := bounded(current.Authorizations, len(w.ids))
	if len(urls) != len(current.Authorizations) {
		return own("reading the order: the server wants %d authorizations for %d names", len(current.Authorizations), len(w.ids))
	}
	for _, url := range urls {
		if w.order.Listed[url] {
			continue
		}
		authorization, err := w.server.Authorization(ctx, w.account, url)
		if err != nil {
			return w.heed(ctx, err)
		}
		w.moved = true
		switch status := authorization.Status; {
		case status == "pending":
			if err := w.add(ctx, authorization); err != nil {
				return err
			}
		case dead[status]:
			return w.unproven(ctx, authorization)
		case status != "valid":
			return own("reading an authorization: its status %.20q is none that ACME knows", status)
		}
		w.order.Listed[url] = true
	}
	return nil
}

// add picks the challenge to answer.
func (w *work) add(ctx context.Context, a server.Authorization) error {
	id := server.Identifier{Type: a.Identifier.Type, Value: strings.ToLower(a.IdentifierValue())}
	if !slices.Contains(w.ids, id) {
		return own("reading an authorization: the server wants a proof of %s, which was not ordered", name(a))
	}
	var offered []string
	for _, c := range a.Challenges {
		offered = append(offered, c.Type)
	}
	s, ok := w.solvers.pick(id, offered...)
	if !ok {
		return w.refuse(ctx, fmt.Sprintf("dnsNames or ipAddresses: %s: no solver of this backend answers one of the challenges that the server offers for it: %.200q", id.Value, offered))
	}
	at := slices.IndexFunc(a.Challenges, func(c server.Challenge) bool { return c.Type == s.kind() })
	c := a.Challenges[at]
	if !challenge.LegalToken(c.Token) {
		return own("reading an authorization of %s: its token is not in base64url", id.Value)
	}
	answer := order.Answer{
		Challenge: challenge.Challenge{Type: s.kind(), Domain: strings.TrimPrefix(id.Value, "*."), Token: c.Token, KeyAuthorization: c.KeyAuthorization},
		URL:       c.URL, Authorization: a.Location,
	}
	if l, ok := s.Solver.(challenge.Locator); ok {
		place, err := l.Locate(ctx, answer.Challenge)
		if err != nil {
			return w.hindered(id.Value, err)
		}
		answer.Place = place
	}
	w.order.Add(s.config, answer)
	return nil
}

// patientLooks is how often a solver may fail in a row before other backends are asked.
const patientLooks = 5

// hindered has the request wait for a solver that cannot do its work. It is not returned as trouble of this backend, since it
// may be so for the names of this request only, and whoever may ask for such names could then put the backend out of service.
func (w *work) hindered(what string, err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	if w.order.Looks >= patientLooks {
		w.order.Next = w.options.Clock.Now().Add(lastLook)
		return own("%s cannot be proven: %w", what, err)
	}
	return w.wait(0, fmt.Sprintf("%s cannot be proven yet: %v", what, err))
}

// present puts answers in place.
func (w *work) present(ctx context.Context, answers []order.Answer) error {
	o := w.order
	for _, a := range answers {
		if o.Present[a.URL] {
			continue
		}
		s, err := w.solver(a)
		if err != nil {
			return err
		}
		if err := o.PresentAnswer(ctx, s, a); err != nil {
			return w.hindered(a.Domain, err)
		}
		o.Present[a.URL], w.moved = true, true
		if o.Since.IsZero() {
			o.Since = w.options.Clock.Now()
		}
	}
	return nil
}

// solver returns what put, or will put, an answer in place.
func (w *work) solver(a order.Answer) (challenge.Solver, error) {
	config := w.order.Solvers[a.Solver]
	for _, s := range w.solvers {
		if equality.Semantic.DeepEqual(s.config, config) {
			return s.Solver, nil
		}
	}
	return w.options.NewSolver(config) // from before the Signer was changed
}

// check looks for those answers that were not seen yet. Those that still are not are in the error.
func (w *work) check(ctx context.Context, answers []order.Answer) error {
	checking := maxChecking
	if end, bounded := ctx.Deadline(); bounded {
		checking = min(checking, time.Until(end)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, checking)
	defer cancel()
	var mu sync.Mutex
	var missing error
	var group errgroup.Group
	group.SetLimit(checksAtOnce)
	for _, a := range answers {
		if w.order.Seen[a.URL] {
			continue
		}
		s, err := w.solver(a)
		if err != nil {
			return err
		}
		group.Go(func() error {
			err := s.Ready(ctx, a.Challenge)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				missing = fmt.Errorf("%s: %w", a.Domain, err)
			} else {
				w.order.Seen[a.URL] = true
			}
			return nil
		})
	}
	_ = group.Wait()
	return missing
}

// unseen has the request wait until an answer can be seen. After a time, other backends are asked, too.
func (w *work) unseen(missing error) error {
	o := w.order
	took, patience := w.options.Clock.Since(o.Since), time.Duration(0)
	for _, a := range o.Mine() {
		patience = max(patience, solver{config: o.Solvers[a.Solver]}.patience())
	}
	if took <= patience {
		return w.wait(0, fmt.Sprintf("the answer to a challenge cannot be seen yet, so the server was not told: %v", missing))
	}
	o.Next, o.Waiting = w.options.Clock.Now().Add(lastLook), "the answer to a challenge cannot be seen"
	return own("the answer to a challenge cannot be seen after %s, so the server was not told: %w", patience, missing)
}

// tell tells the server of the answers that were seen, and returns how many it has validated.
func (w *work) tell(ctx context.Context, answers []order.Answer) (done int, after time.Duration, err error) {
	o, now := w.order, w.options.Clock.Now()
	for _, a := range answers {
		if !o.Seen[a.URL] || now.Sub(o.Told[a.URL]) < tellAgain {
			continue
		}
		status, wait := "", time.Duration(0)
		if o.Told[a.URL].IsZero() {
			status, wait, err = w.server.Validate(ctx, w.account, a.URL)
		} else {
			status, wait, err = w.tellAgain(ctx, a)
		}
		if err != nil {
			return 0, 0, w.heed(ctx, err)
		}
		w.moved, o.Told[a.URL], after = true, now, max(after, wait)
		if status == "valid" {
			o.Done[a.URL] = true
			done++
		}
	}
	return done, after, nil
}

// tellAgain has the server validate an answer once more if it gave up without a verdict.
func (w *work) tellAgain(ctx context.Context, a order.Answer) (status string, after time.Duration, err error) {
	authorization, err := w.server.Authorization(ctx, w.account, a.Authorization)
	if err != nil || authorization.Status == "valid" {
		return authorization.Status, 0, err
	}
	if dead[authorization.Status] {
		return "", 0, w.unproven(ctx, authorization)
	}
	for _, c := range authorization.Challenges {
		if c.URL == a.URL && c.Status == "pending" {
			return w.server.Validate(ctx, w.account, a.URL)
		}
	}
	return "", 0, nil
}
