// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strings"
	"time"
)

// enough is more than any command takes; one that hangs is ended.
const enough = 10 * time.Minute

// command is how a command ended and what it wrote.
type command struct {
	code     int
	out, err string
}

// run runs a command, such as kubectl, against the cluster, with the rights of the administrator.
func (s *story) run(stdin, name string, args ...string) command {
	s.Helper()
	var out, problems bytes.Buffer
	ctx, cancel := context.WithTimeout(s.ctx, enough)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &problems
	err := cmd.Run()
	if exited := (*exec.ExitError)(nil); !errors.As(err, &exited) {
		s.must(err, "running %s", name)
	}
	return command{cmd.ProcessState.ExitCode(), out.String(), problems.String()}
}

// fill replaces each first string of the pairs by the second.
func fill(text string, pairs ...string) string { return strings.NewReplacer(pairs...).Replace(text) }
