// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/certwright/certwright/hack/cluster/internal/network"
	"github.com/certwright/certwright/hack/cluster/internal/process"
)

// stopGrace is how long a component may take to end by itself.
const stopGrace = 3 * time.Second

// Down takes the cluster away with all that it left on the machine, except for built programs and Debian packages. It
// works on what is left of a cluster too, and on none.
func (c *Cluster) Down(ctx context.Context) error {
	if err := checkMachine(); err != nil {
		return err
	}
	there, err := c.exists()
	if err != nil {
		return err
	}
	if !there {
		fmt.Fprintln(c.Out, "No cluster is up.")
		return nil
	}
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock() // Which removes the folder, empty by then.
	if err := c.takeDown(ctx); err != nil {
		return fmt.Errorf("%w\nRun \"cluster down\" again to remove the rest", err)
	}
	fmt.Fprintln(c.Out, "The cluster is down.")
	return nil
}

// takeDown does all but removing the empty folder, which its caller has locked. Each step is tried, whatever became of
// the ones before.
func (c *Cluster) takeDown(ctx context.Context) error {
	state, err := c.recorded()
	if err != nil {
		return err
	}
	if state.Release == "" {
		return nil // Up writes the record before it changes anything.
	}
	// What starts pods ends first, then the pods, then what they need.
	errs := []error{c.stop(kubelet, controllerManager, scheduler, kubeProxy, coreDNS)}
	files, err := c.containerFiles()
	errs = append(errs, err, c.killContainers(), c.stop(containerd, apiServer), c.stop(etcd), c.killContainers())
	errs = append(errs, c.unmountAll(), network.Down(ctx), removeCgroups(ctx), network.RestoreSysctls(state.Sysctls))
	errs = append(errs, c.removeOutside(files, state.Absent))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	entries, err := os.ReadDir(c.Dir)
	if err != nil {
		return err
	}
	// The record goes last, so that a Down that is cut short here can be run again.
	for _, entry := range entries {
		if entry.Name() != "cluster.json" {
			errs = append(errs, os.RemoveAll(c.path(entry.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("removing the cluster's files: %w", err)
	}
	return os.Remove(c.path("cluster.json"))
}

// stop ends components, all at once, and returns when they are gone.
func (c *Cluster) stop(names ...string) error {
	saved, err := process.Load(c.path("pids"))
	if err != nil {
		return err
	}
	errs := make([]error, len(names))
	var group sync.WaitGroup
	for i, name := range names {
		ids := c.strays(name)
		if id, ok := saved[name]; ok {
			ids = append(ids, id)
		}
		group.Go(func() {
			for _, id := range ids {
				errs[i] = errors.Join(errs[i], process.Stop(id, stopGrace))
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// strays returns processes of a component whose number was not saved, because Up was cut short right after starting
// them: those that run a program of that name and were told of a file in the cluster's folder.
func (c *Cluster) strays(name string) []process.Identity {
	found, err := process.Find(func(arguments []string) bool {
		return strings.HasSuffix(arguments[0], "/"+name) && slices.ContainsFunc(arguments[1:], c.mentions)
	})
	if err != nil {
		return nil // The saved numbers have to do.
	}
	return found
}

// mentions says whether an argument names a path in the cluster's folder.
func (c *Cluster) mentions(argument string) bool {
	_, after, ok := strings.Cut(argument, c.Dir+"/")
	return ok && after != ""
}

// killContainers kills all containers, and the shims that hold them.
func (c *Cluster) killContainers() error {
	shims, err := process.Find(func(arguments []string) bool {
		address := slices.Index(arguments, "-address")
		return strings.HasSuffix(arguments[0], "containerd-shim-runc-v2") &&
			address >= 0 && address+1 < len(arguments) && arguments[address+1] == c.containerdSocket()
	})
	if err != nil {
		return err
	}
	contained, err := process.Descendants(shims)
	if err != nil {
		return err
	}
	// The shims first: they would report each death to containerd, and containerd would start cleaning up.
	var errs []error
	for _, id := range slices.Concat(shims, contained) {
		errs = append(errs, process.Kill(id))
	}
	return errors.Join(errs...)
}
