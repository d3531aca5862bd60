// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"
)

// runner runs the tests of one package.
type runner struct {
	program string
	dir     string        // of the package, where tests find their files
	timeout time.Duration // of the tests with a mutant
}

// measure runs the tests without a mutant, which must pass, and sets the time that they have with one: patience, and some
// times what they took.
func (r *runner) measure(ctx context.Context, patience time.Duration) error {
	r.timeout = 5 * time.Minute
	start := time.Now()
	if out, err := r.run(ctx, 0); err != nil {
		return fmt.Errorf("the tests fail without a mutant: %w\n%s", err, out)
	}
	r.timeout = patience + 10*time.Since(start)
	return nil
}

// run runs the tests with one mutant switched on, and returns an error if they fail: context.DeadlineExceeded if they do not
// end in time.
func (r *runner) run(ctx context.Context, id int) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	// A mutant may allocate without end, and must not take the machine with it.
	c := exec.CommandContext(ctx, "sh", "-c", `ulimit -v 8388608 && exec "$0" -test.short -test.failfast`, r.program)
	c.Dir = r.dir
	c.Env = append(os.Environ(), fmt.Sprintf("MUTANT=%d", id))
	out, err := c.CombinedOutput()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return out, err
}

// counts say how far a runner is.
type counts struct {
	tried, survived int
	// endless are those whose tests had to be stopped. They count as noticed; many of them would mean that time is short.
	endless int
}

// survivors returns the mutants that the tests pass with, in their order.
func (r *runner) survivors(ctx context.Context, mutants []mutant, workers int, tell func(counts)) []mutant {
	survived := make([]bool, len(mutants))
	work := make(chan int)
	var group sync.WaitGroup
	var mutex sync.Mutex
	var so counts
	for range workers {
		group.Go(func() {
			for i := range work {
				_, err := r.run(ctx, mutants[i].id)
				mutex.Lock()
				so.tried++
				switch {
				case err == nil:
					survived[i] = true
					so.survived++
				case errors.Is(err, context.DeadlineExceeded):
					so.endless++
				}
				tell(so)
				mutex.Unlock()
			}
		})
	}
	for i := range mutants {
		work <- i
	}
	close(work)
	group.Wait()
	var out []mutant
	for i, m := range mutants {
		if survived[i] {
			out = append(out, m)
		}
	}
	return out
}
