// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
)

// Status says which components run and whether the cluster works. The error says what is wrong.
func (c *Cluster) Status(ctx context.Context) error {
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
	running, err := c.running()
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
	for _, name := range components {
		if id, ok := running[name]; ok {
			fmt.Fprintf(table, "%s\truns\tprocess %d\n", name, id.PID)
		} else {
			fmt.Fprintf(table, "%s\tdoes not run\tsee \"cluster logs %s\"\n", name, name)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "\nKubernetes %s, kubeconfig %s, logs %s\n", state.Version, c.Kubeconfig(), c.Logs())
	if err := c.check(ctx); err != nil {
		return fmt.Errorf("the cluster is not healthy: %w", err)
	}
	fmt.Fprintln(c.Out, "The cluster is healthy.")
	return nil
}

// logFile is the path of a component's log.
func (c *Cluster) logFile(component string) string {
	return filepath.Join(c.Logs(), component+".log")
}

// LogFile returns the path of a component's log, which is there.
func (c *Cluster) LogFile(component string) (string, error) {
	path := c.logFile(component)
	_, err := os.Stat(path)
	if err == nil && filepath.Base(component) == component {
		return path, nil
	}
	if there, existsErr := c.exists(); existsErr == nil && !there {
		return "", ErrDown
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("no log of a component %q: components are %s", component, strings.Join(components, ", "))
	}
	return "", err
}
