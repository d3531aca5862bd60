// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/certwright/certwright/agent/backoff"
	"github.com/certwright/certwright/excerpt"
)

const (
	// What failed is tried again after firstPause, then twice as long, up to maxPause.
	firstPause = time.Second
	maxPause   = 5 * time.Minute
	// maxMessage bounds what the log holds of one failure.
	maxMessage = 2048
)

// Options are what a Reloader needs beside its Actions.
type Options struct {
	// Directory is that of the files; a command finds it in its environment.
	Directory string
	Log       *slog.Logger
	Clock     clock.Clock
	// Jitter returns numbers in [0, 1) that spread attempts.
	Jitter func() float64
	// Done is called when the application was told of a generation of the files.
	Done func(generation string)
	// Failed is called when an attempt failed.
	Failed func()
}

// Reloader tells the application of changes, one after the other.
type Reloader struct {
	Options
	actions []action
	changes chan struct{}

	mu         sync.Mutex
	generation string // the newest
}

// action is one way to tell the application.
type action struct {
	name string
	take func(ctx context.Context) error
}

// New returns a Reloader for valid actions. It does nothing until Run.
func New(a Actions, o Options) *Reloader {
	r := &Reloader{Options: o, changes: make(chan struct{}, 1)}
	if a.Process != "" {
		target := target{proc: "/proc", name: a.Process}
		r.actions = append(r.actions, action{"signal", func(context.Context) error { return target.signal(signals[a.Signal]) }})
	}
	if a.URL != "" {
		r.actions = append(r.actions, action{"url", func(ctx context.Context) error { return post(ctx, a.URL) }})
	}
	if len(a.Command) > 0 {
		r.actions = append(r.actions, action{"command", func(ctx context.Context) error { return run(ctx, o.Log, a.Command, o.Directory) }})
	}
	return r
}

// Changed reports that the files are those of a new generation. It never waits;
// of several changes in a row the application may hear once.
func (r *Reloader) Changed(generation string) {
	r.mu.Lock()
	r.generation = generation
	r.mu.Unlock()
	select {
	case r.changes <- struct{}{}:
	default:
	}
}

func (r *Reloader) newest() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.generation
}

// Run tells the application of each change until ctx ends.
func (r *Reloader) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.changes:
			r.tell(ctx)
		}
	}
}

// tell takes all actions, and those that failed again until none is left. A newer
// change starts it over.
func (r *Reloader) tell(ctx context.Context) {
	left, wait := r.actions, backoff.New(firstPause, maxPause, r.Jitter)
	for {
		generation := r.newest()
		left = r.attempt(ctx, left)
		if ctx.Err() != nil {
			return
		}
		if len(left) == 0 {
			r.Done(generation)
			return
		}
		timer := r.Clock.NewTimer(wait.Next())
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-r.changes:
			timer.Stop()
			left = r.actions
			wait.Reset()
		case <-timer.C():
		}
	}
}

// attempt returns the actions that failed.
func (r *Reloader) attempt(ctx context.Context, actions []action) (failed []action) {
	for _, a := range actions {
		err := a.take(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			failed = append(failed, a)
			r.Failed()
			r.Log.Warn("telling the application of new files: "+excerpt.Line(err.Error(), maxMessage), "by", a.name)
			continue
		}
		r.Log.Info("told the application of new files", "by", a.name)
	}
	return failed
}
