// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package order

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/acme/challenge"
)

// Order is what is known of one order: its Record, and what need not outlive the process. It belongs to who opened it until he
// calls Release.
type Order struct {
	Record

	// Next is when it is worth to look at the order again, Waiting what for.
	Next    time.Time
	Waiting string
	// Looks counts how often it was looked at in vain since something happened.
	Looks int
	// Since is when the challenges were put in place.
	Since time.Time
	// Turn is when a new order may be made. Zero if none was asked for.
	Turn time.Time
	// Listed holds the URLs of authorizations that were looked at; Present, Seen, Told and Done those of challenges whose answers
	// are in place, can be seen, were told to the server, at that time, and were validated.
	Listed, Present, Seen, Done map[string]bool
	Told                        map[string]time.Time
	// Judged is true if the certificate of the order was looked at.
	Judged bool
	// Unsaved is true if there are answers that are not in the Secret: they must not be put in place.
	Unsaved bool

	book      *Book
	name      string
	owner     string // the backend, as the value of a label
	requester string
	version   string // of the Secret; empty if there is none
	lock      chan struct{}
	touched   time.Time
	gone      bool
}

// Reset forgets all that is known of the order at the server, but not what may be in place for it.
func (o *Order) Reset() {
	o.Record.URL, o.Record.Account = "", ""
	o.Next, o.Waiting, o.Looks, o.Since, o.Turn = time.Time{}, "", 0, time.Time{}, time.Time{}
	o.Listed, o.Present, o.Seen, o.Done = map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	o.Told, o.Judged = map[string]time.Time{}, false
}

// Add adds an answer that the solver of that configuration will put in place, unless it is there already, from before this
// process started. It must not be put in place before Save.
func (o *Order) Add(solver v1alpha1.ACMESolver, answer Answer) {
	if slices.ContainsFunc(o.Answers, func(a Answer) bool { return a.URL == answer.URL }) {
		return
	}
	o.Unsaved = true
	answer.Solver = slices.IndexFunc(o.Solvers, func(s v1alpha1.ACMESolver) bool { return equality.Semantic.DeepEqual(s, solver) })
	if answer.Solver < 0 {
		o.Solvers = append(o.Solvers, solver)
		answer.Solver = len(o.Solvers) - 1
	}
	o.Answers = append(o.Answers, answer)
	o.book.need(answer.Challenge, o)
}

// Mine returns the answers to challenges of the present order.
func (o *Order) Mine() []Answer {
	var mine []Answer
	for _, a := range o.Answers {
		if o.Listed[a.Authorization] {
			mine = append(mine, a)
		}
	}
	return mine
}

// Save stores the record.
func (o *Order) Save(ctx context.Context) error {
	if err := o.book.save(ctx, o); err != nil {
		return err
	}
	o.Unsaved = false
	return nil
}

// Stored reports whether there is a Secret of the order.
func (o *Order) Stored() bool { return o.version != "" }

// Release lets others open the order.
func (o *Order) Release() {
	o.touched = o.book.clock.Now()
	o.book.release(o)
}

// PresentAnswer puts an answer in place, unless another order's is the same one.
func (o *Order) PresentAnswer(ctx context.Context, solver challenge.Solver, a Answer) error {
	unlock, err := o.book.hold(ctx, a.Challenge)
	if err != nil {
		return err
	}
	defer unlock()
	return solver.Present(ctx, a.Challenge)
}

// CleanUp takes away all that may be in place for the order, but for what another order needs, too. What could be taken away
// is out of the record, which is not saved.
func (o *Order) CleanUp(ctx context.Context, newSolver challenge.NewSolver) error {
	var errs []error
	o.Answers = slices.DeleteFunc(slices.Clone(o.Answers), func(a Answer) bool {
		err := o.cleanUp(ctx, newSolver, a)
		if err != nil {
			errs = append(errs, err)
		}
		return err == nil
	})
	if len(o.Answers) == 0 {
		o.Solvers = nil
	}
	return errors.Join(errs...)
}

func (o *Order) cleanUp(ctx context.Context, newSolver challenge.NewSolver, a Answer) error {
	unlock, err := o.book.hold(ctx, a.Challenge)
	if err != nil {
		return err
	}
	defer unlock()
	if !o.book.needed(a.Challenge, o) {
		solver, err := newSolver(o.Solvers[a.Solver])
		if err != nil {
			return err
		}
		if c, ok := solver.(io.Closer); ok {
			defer c.Close()
		}
		if err := solver.CleanUp(ctx, a.Challenge); err != nil {
			return err
		}
	}
	o.book.drop(a.Challenge, o)
	return nil
}
