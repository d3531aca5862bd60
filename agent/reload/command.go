// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"syscall"
	"time"

	"github.com/certwright/certwright/excerpt"
)

const (
	// commandTimeout is how long a command may run.
	commandTimeout = 30 * time.Second
	// grace is how long its output stays open once it has ended, as programs that it left behind may hold it.
	grace = time.Second
	// maxOutput is how much of its output is kept.
	maxOutput = 4 << 10
)

// DirectoryEnv is the environment variable in which a command finds the directory of the files.
const DirectoryEnv = "CERTWRIGHT_DIRECTORY"

// run runs a command and all that it starts, and logs its output. It inherits
// nothing of the agent's environment.
func run(ctx context.Context, log *slog.Logger, arguments []string, directory string) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, arguments[0], arguments[1:]...)
	command.Env = []string{"PATH=/reload:/usr/local/bin:/usr/bin:/bin", DirectoryEnv + "=" + directory}
	command.Dir = "/"
	var output head
	command.Stdout, command.Stderr = &output, &output
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = grace
	err := command.Run()
	if command.Process != nil {
		bury(command.Process.Pid)
	}
	if len(output.text) > 0 {
		log.Info("the reload command wrote", "output", excerpt.Of(string(output.text), maxOutput))
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("the command %s did not end within %s and was killed", arguments[0], commandTimeout)
	case errors.Is(err, exec.ErrWaitDelay): // it ended well, what it left behind did not
		return nil
	case err != nil:
		return fmt.Errorf("running the command %s: %w", arguments[0], err)
	}
	return nil
}

// bury ends what a command left behind in its process group and, as the agent
// may be the first process of its container, collects those that have ended. It waits for none.
func bury(group int) {
	_ = syscall.Kill(-group, syscall.SIGKILL)
	for {
		if pid, err := syscall.Wait4(-group, nil, syscall.WNOHANG, nil); err != nil || pid <= 0 {
			return
		}
	}
}

// head keeps the first bytes that are written to it.
type head struct{ text []byte }

func (h *head) Write(p []byte) (int, error) {
	h.text = append(h.text, p[:min(len(p), maxOutput-len(h.text))]...)
	return len(p), nil
}
