// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/agent/files"
	"github.com/certwright/certwright/agent/store"
)

// Health checks what the directory holds at t, without a call to anyone. It
// returns one line for people; the error says what is missing and, where Run left
// word of it, what Run waits for. podIPs is the value of agent.PodIPsEnv.
func Health(config agent.Config, podIPs string, t time.Time) (string, error) {
	wanted, err := config.Names(podIPs)
	if err != nil {
		return "", err
	}
	directory := store.New(config.Directory)
	fail := func(err error) (string, error) {
		if status := directory.Status(); status != "" {
			return "", fmt.Errorf("%w; %s", err, status)
		}
		return "", err
	}
	rendered, err := directory.Load()
	if errors.Is(err, fs.ErrNotExist) {
		return fail(fmt.Errorf("no files in %s yet", config.Directory))
	}
	if err != nil {
		return fail(err)
	}
	held, err := files.Parse(rendered)
	switch {
	case err != nil:
		return fail(err)
	case held.Fingerprint != config.Fingerprint(wanted) || !held.Complete(config):
		return fail(fmt.Errorf("the files in %s answer another configuration", config.Directory))
	case config.TrustOnly && held.Bundle.Usable(t):
		return fmt.Sprintf("%d trust anchors", len(held.Bundle.Certs)), nil
	case config.TrustOnly:
		return fail(errors.New("no trust anchor is valid any more"))
	}
	if err := held.Pair.Check(wanted, t); err != nil {
		return fail(err)
	}
	left := held.Pair.Leaf().NotAfter.Sub(t).Round(time.Second)
	return fmt.Sprintf("valid for %s, until %s", left, timestamp(held.Pair.Leaf().NotAfter)), nil
}
