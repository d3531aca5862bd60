// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// After a renewal the agent calls a hook of the application and runs a program that an init container brought; not before.
func TestPodsAreToldOfNewFiles(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	s.policy()
	s.makeServiceAccounts("app")
	pod := s.newPod("app", s.annotated("app", "delivery", "agent", "containers", "app",
		"reload-url", "http://localhost:8080/reload", "reload-command", `["/reload/demo", "look"]`, "reload-volume", "programs"),
		"app", demo("app", 1000, "hear", "--listen", "127.0.0.1:8080"))
	bring := demo("bring", 1000, "copy", "/programs/demo")
	bring.Image = "certwright/e2e-copyable:dev" // the programs of other images cannot be read
	bring.VolumeMounts = []corev1.VolumeMount{{Name: "programs", MountPath: "/programs"}}
	pod.Spec.InitContainers = []corev1.Container{bring}
	pod.Spec.Volumes = []corev1.Volume{{Name: "programs", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	s.make(pod)
	s.podReady(pod)
	first := s.issued(s.requestOf(pod)).SerialNumber.Text(16)
	early, err := logs(s.ctx, pod.Namespace, pod.Name, "app")
	s.must(err, "reading the app's log")
	if early != "" {
		s.Errorf("the application was told before anything changed: %s", early)
	}

	s.askAsAdministrator(0, "renew", "pod", pod.Name, "-n", s.namespace)
	heard := s.viewOf(pod, "another certificate when its hook is called", func(l look) bool { return l.Certificate.Serial != first })
	if heard.User != 1000 {
		s.Errorf("the hook was called in a container of user %d, want 1000", heard.User)
	}
	s.until("the program to have run beside the agent", soon, func(ctx context.Context) error {
		text, err := logs(ctx, pod.Namespace, pod.Name, agentContainer)
		if err != nil {
			return err
		}
		for line := range strings.Lines(text) {
			if strings.Contains(line, "the reload command wrote") && strings.Contains(line, heard.Certificate.Serial) {
				return nil
			}
		}
		return errors.New("the agent's log is without what it wrote:\n" + text)
	})
}
