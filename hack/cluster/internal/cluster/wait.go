// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/certwright/certwright/hack/cluster/internal/process"
)

const (
	// pollEvery is how often something that is waited for is looked at.
	pollEvery = 100 * time.Millisecond
	// attemptLimit is how long one look may take.
	attemptLimit = 5 * time.Second
)

// wait returns when check finds nothing wrong. It gives up when the context ends or a component has died.
func (c *Cluster) wait(ctx context.Context, what string, check func(context.Context) error) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		attempt, cancel := context.WithTimeout(ctx, attemptLimit)
		err := check(attempt)
		cancel()
		if err == nil {
			return nil
		}
		if died := c.checkAlive(); died != nil {
			return died
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w; last seen: %w", what, context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}

// checkAlive returns the last words of the components that were started and have ended.
func (c *Cluster) checkAlive() error {
	started, err := process.Load(c.path("pids"))
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range components {
		if id, ok := started[name]; ok && !id.Alive() {
			errs = append(errs, fmt.Errorf("%s has ended by itself; its log %s ends with:\n%s", name, c.logFile(name), lastLines(c.logFile(name), 5)))
		}
	}
	return errors.Join(errs...)
}

// lastLines returns the end of a file, as far as it can be read.
func lastLines(path string, count int) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(raw), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}
