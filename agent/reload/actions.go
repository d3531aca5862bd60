// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

const (
	// maxName is how long the kernel keeps the name of a process (TASK_COMM_LEN
	// less one): comm in proc_pid_comm(5).
	maxName = 15
	// ownName is the agent's own.
	ownName = "certwright-agen"

	maxArguments = 64
	maxArgument  = 4096
)

// signals are those by which programs are told to read their files again, to
// start anew or to end so that the kubelet starts them anew.
var signals = map[string]syscall.Signal{
	"HUP": syscall.SIGHUP, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "WINCH": syscall.SIGWINCH,
	"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT,
}

// Actions say how the application learns of new files. All that are given are
// taken, in this order.
type Actions struct {
	// Process is the name (comm, at most 15 bytes) of processes that get the
	// signal Signal, such as nginx and HUP. Those whose parent has the same name
	// get none: they are the workers of one that does.
	Process string `json:"process,omitempty"`
	Signal  string `json:"signal,omitempty"`
	// URL on the pod's own loopback interface gets a POST without a body.
	URL string `json:"url,omitempty"`
	// Command is run in the agent's container: the absolute path of a program and
	// its arguments. No shell reads it.
	Command []string `json:"command,omitempty"`
}

// SignalNames returns the values allowed for Actions.Signal, sorted.
func SignalNames() []string { return slices.Sorted(maps.Keys(signals)) }

// Violations returns what is wrong with the actions, each with its field below
// prefix, the value and what is allowed; nil when all is well.
func (a Actions) Violations(prefix string) (found []string) {
	bad := func(field, value, allowed string) {
		found = append(found, fmt.Sprintf("%s.%s: %q is not allowed, use %s", prefix, field, value, allowed))
	}
	if a.Process == "" && a.Signal == "" && a.URL == "" && len(a.Command) == 0 {
		found = append(found, prefix+": is empty, give process and signal, url or command")
	}
	if a.Process != "" || a.Signal != "" {
		if problem := CheckProcess(a.Process); problem != "" {
			bad("process", a.Process, problem)
		}
		if _, known := signals[a.Signal]; !known {
			bad("signal", a.Signal, "one of "+strings.Join(SignalNames(), ", "))
		}
	}
	if a.URL != "" {
		if problem := CheckURL(a.URL); problem != "" {
			bad("url", a.URL, problem)
		}
	}
	if len(a.Command) > 0 {
		if problem := CheckCommand(a.Command); problem != "" {
			bad("command", strings.Join(a.Command, " "), problem)
		}
	}
	return found
}

// CheckProcess returns what a name of a process must be, or "" when it is.
func CheckProcess(name string) string {
	switch {
	case name == "" || len(name) > maxName:
		return "the name of a process as in /proc/PID/comm, 1 to 15 characters: the kernel cuts longer ones after 15"
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' || r == '/' }) || strings.TrimSpace(name) != name:
		return "printable ASCII without slashes or space around it"
	case name == ownName:
		return "another process than the agent itself"
	}
	return ""
}

// CheckURL returns what a URL must be, or "" when it is.
func CheckURL(text string) string {
	const allowed = "http://localhost:PORT/PATH, with 127.0.0.1 or [::1] for localhost if wanted: what listens in the pod itself"
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" || u.User != nil || u.Fragment != "" || u.Opaque != "" || len(text) > maxArgument {
		return allowed
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if u.Hostname() != "localhost" && (err != nil || ip != netip.AddrFrom4([4]byte{127, 0, 0, 1}) && ip != netip.IPv6Loopback()) {
		return allowed
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || port == 0 {
		return allowed
	}
	return ""
}

// CheckCommand returns what a command must be, or "" when it is.
func CheckCommand(arguments []string) string {
	switch {
	case len(arguments) == 0 || len(arguments) > maxArguments:
		return fmt.Sprintf("1 to %d arguments", maxArguments)
	case !strings.HasPrefix(arguments[0], "/"):
		return "the absolute path of a program, such as /reload/notify, and its arguments"
	}
	for _, argument := range arguments {
		if len(argument) > maxArgument || strings.ContainsRune(argument, 0) {
			return fmt.Sprintf("arguments of at most %d bytes without NUL", maxArgument)
		}
	}
	return ""
}
