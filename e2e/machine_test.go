// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// onThisMachine says whether the cluster is the local one, whose processes the tests reach.
func onThisMachine() bool { return os.Getenv("CERTWRIGHT_LOCAL") != "" }

// restartKubernetes restarts components of Kubernetes, and waits until the API server answers. On another cluster than the local
// one they are out of reach: there it says so, and returns false.
func (s *story) restartKubernetes(arguments ...string) bool {
	s.Helper()
	if !onThisMachine() {
		s.Logf("this cluster's %s is out of reach, and is not restarted", strings.Join(arguments, " "))
		return false
	}
	c := s.run("", "../bin/cluster", append([]string{"restart"}, arguments...)...)
	if c.code != 0 {
		s.Fatalf("bin/cluster restart %s: %s%s", strings.Join(arguments, " "), c.out, c.err)
	}
	s.until("the API server to answer", soon, func(ctx context.Context) error {
		return admin.List(ctx, &corev1.NodeList{})
	})
	return true
}

// kubeletClock is the file that moves the clock by which the kubelet of the local cluster renews certificates of pods, while the
// kubelet is one that looks at it.
type kubeletClock struct{ path string }

// movableKubelet puts such a kubelet in the place of the released one until the story ends.
func (s *story) movableKubelet() kubeletClock {
	s.Helper()
	clock := kubeletClock{filepath.Join(filepath.Dir(os.Getenv("KUBECONFIG")), "run", "kubelet-clock")}
	s.Cleanup(func() {
		_ = os.Remove(clock.path)
		s.restartKubernetes("kubelet")
	})
	s.restartKubernetes("--kubelet-clock", clock.path, "kubelet")
	return clock
}

// ahead moves the clock.
func (k kubeletClock) ahead(s *story, by time.Duration) {
	s.Helper()
	s.must(os.WriteFile(k.path, []byte(by.String()), 0o600), "moving the kubelet's clock")
}

// killComponent ends the process of a component as the kernel does when memory is short. On another cluster than the local one the
// process is out of reach: there its pod is deleted without grace.
func (s *story) killComponent(pod *corev1.Pod) {
	s.Helper()
	if !onThisMachine() {
		s.must(admin.Delete(s.ctx, pod, client.GracePeriodSeconds(0)), "deleting pod %s", pod.Name)
		return
	}
	s.killContainer(pod, func() corev1.ContainerStatus { return pod.Status.ContainerStatuses[0] })
}

// killAgent ends the process of a pod's agent in the same way, and returns when another one was started in its place. Where it is
// out of reach, it lives on.
func (s *story) killAgent(pod *corev1.Pod) {
	s.Helper()
	if !onThisMachine() {
		s.Logf("the agent of pod %s is out of reach, and lives on", pod.Name)
		return
	}
	s.refresh(pod)
	s.killContainer(pod, func() corev1.ContainerStatus { return pod.Status.InitContainerStatuses[0] })
}

// killContainer kills the process of the container whose status this is, and waits until its container is started anew.
func (s *story) killContainer(pod *corev1.Pod, status func() corev1.ContainerStatus) {
	s.Helper()
	before := status().ContainerID
	_, container, _ := strings.Cut(before, "://")
	process, err := processOf(container)
	s.must(err, "looking for the process of %s in pod %s", status().Name, pod.Name)
	s.must(syscall.Kill(process, syscall.SIGKILL), "killing process %d of pod %s", process, pod.Name)
	s.until("the container to be started anew", starting, func(ctx context.Context) error {
		if err := admin.Get(ctx, client.ObjectKeyFromObject(pod), pod); err != nil {
			return err
		}
		last := status().LastTerminationState.Terminated
		if status().ContainerID == before || last == nil || last.ExitCode != 128+int32(syscall.SIGKILL) || status().State.Running == nil {
			return fmt.Errorf("it is %s", describePod(pod))
		}
		return nil
	})
}

// processOf returns the process of a container on this machine, which has only one.
func processOf(container string) (int, error) {
	groups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return 0, err
	}
	for _, path := range groups {
		text, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(text), container) { // others end meanwhile
			return strconv.Atoi(filepath.Base(filepath.Dir(path)))
		}
	}
	return 0, fmt.Errorf("no process is in container %s", container)
}
