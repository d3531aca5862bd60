// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"

	corev1 "k8s.io/api/core/v1"
)

// forwarding leads from this machine to a port of a pod, by kubectl port-forward. That ends when a connection through it ends badly; the
// next connection begins it anew.
type forwarding struct {
	pod     *corev1.Pod
	port    int
	address string // empty while it is not there
	stop    func()
}

// forward returns a way to a port of the pod, which is there until the story ends.
func (s *story) forward(pod *corev1.Pod, port int) *forwarding {
	f := &forwarding{pod: pod, port: port, stop: func() {}}
	s.Cleanup(f.end)
	return f
}

// dial connects to the port of the pod.
func (f *forwarding) dial(ctx context.Context) (net.Conn, error) {
	if f.address == "" {
		if err := f.begin(ctx); err != nil {
			return nil, err
		}
	}
	var dialer net.Dialer
	connection, err := dialer.DialContext(ctx, "tcp", f.address)
	if err != nil {
		f.end()
	}
	return connection, err
}

// begin starts kubectl, and waits until it says at which address it listens.
func (f *forwarding) begin(ctx context.Context) error {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	kubectl := exec.CommandContext(running, "kubectl", "port-forward", "--namespace", f.pod.Namespace, "pod/"+f.pod.Name, fmt.Sprintf(":%d", f.port))
	var problems bytes.Buffer
	kubectl.Stderr = &problems
	out, err := kubectl.StdoutPipe()
	if err == nil {
		err = kubectl.Start()
	}
	if err != nil {
		cancel()
		return fmt.Errorf("forwarding port %d of pod %s: %w", f.port, f.pod.Name, err)
	}
	end := func() {
		cancel()
		_ = kubectl.Wait() // it was ended
	}
	inTime := context.AfterFunc(ctx, cancel)
	defer inTime()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, err := fmt.Sscanf(lines.Text(), "Forwarding from %s", &f.address); err == nil {
			go func() { _, _ = io.Copy(io.Discard, out) }() // it says a line for each connection
			f.stop = end
			return nil
		}
	}
	end()
	return fmt.Errorf("forwarding port %d of pod %s: kubectl says no address: %s", f.port, f.pod.Name, problems.String())
}

// end ends it, until the next connection.
func (f *forwarding) end() {
	f.stop()
	f.address, f.stop = "", func() {}
}
