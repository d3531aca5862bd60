// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/certwright/certwright/hack/cluster/internal/build"
)

// restartLimit is how long the cluster may take to be healthy again.
const restartLimit = time.Minute

// Restart ends components, starts them again, and returns when the cluster is healthy. With the path of a clock, the kubelet is
// one whose clock for pod certificates that file moves; without, it is the released one.
func (c *Cluster) Restart(ctx context.Context, clock string, names ...string) error {
	for _, name := range names {
		if !slices.Contains(components, name) {
			return fmt.Errorf("no component %q: components are %s", name, strings.Join(components, ", "))
		}
	}
	if clock != "" && !filepath.IsAbs(clock) {
		return fmt.Errorf("the clock %q is no absolute path", clock)
	}
	if err := checkMachine(); err != nil {
		return err
	}
	state, err := c.recorded()
	if err != nil {
		return err
	}
	if state.Release == "" {
		return ErrDown
	}
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	built, err := c.buildAll(ctx, state.Version)
	if err != nil {
		return err
	}
	// What runs is what is started again, whatever the checkout says by now.
	built.kubernetes, built.kubelet = state.Binaries, cmp.Or(state.KubeletBinaries, state.Binaries)
	specs, err := c.specs(state.Version, built)
	if err != nil {
		return err
	}
	if clock != "" {
		spec := specs[kubelet]
		if spec.Program, err = c.kubeletWithClock(ctx, cmp.Or(state.Kubelet, state.Release)); err != nil {
			return err
		}
		spec.Env = append(spec.Env, build.ClockVariable+"="+clock)
		specs[kubelet] = spec
	}
	if err := c.stop(names...); err != nil {
		return err
	}
	if err := c.startAll(specs, names...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, restartLimit, fmt.Errorf("the cluster is not healthy after %s", restartLimit))
	defer cancel()
	return c.wait(ctx, strings.Join(names, " and "), c.check)
}

// kubeletWithClock builds the kubelet whose clock can be moved, and returns its path.
func (c *Cluster) kubeletWithClock(ctx context.Context, release string) (string, error) {
	sources, err := build.Sources(c.Starts...)
	if err != nil {
		return "", err
	}
	module, err := build.KubeletWithClock(sources, release)
	if err != nil {
		return "", err
	}
	dir, err := build.Builder{Cache: c.Cache, Progress: c.Out}.Build(ctx, module)
	return filepath.Join(dir, kubelet), err
}
