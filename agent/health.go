// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// Health checks what the directory holds at t, without a call to anyone. It
// returns one line for people; the error says what is missing and, where Run left
// word of it, what Run waits for. podIPs is the value of PodIPsEnv.
func Health(config Config, podIPs string, t time.Time) (string, error) {
	wanted, err := resolveNames(config, podIPs)
	if err != nil {
		return "", err
	}
	store := NewStore(config.Directory)
	fail := func(err error) (string, error) {
		if status := store.Status(); status != "" {
			return "", fmt.Errorf("%w; %s", err, status)
		}
		return "", err
	}
	contents, err := store.Load()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail(fmt.Errorf("no key pair in %s yet", config.Directory))
	case err != nil:
		return fail(err)
	case contents.Fingerprint != config.fingerprint(wanted):
		return fail(fmt.Errorf("the key pair in %s answers another configuration", config.Directory))
	}
	if err := contents.Pair.check(wanted, t); err != nil {
		return fail(err)
	}
	left := contents.Pair.Leaf().NotAfter.Sub(t).Round(time.Second)
	return fmt.Sprintf("valid for %s, until %s", left, timestamp(contents.Pair.Leaf().NotAfter)), nil
}
