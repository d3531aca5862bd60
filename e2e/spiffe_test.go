// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

const spiffeAppImage = "certwright/e2e-spiffe-app:dev"

// Programs that ask the SPIFFE Workload API get who they are from the agent's socket, and what comes after it without asking again.
func TestProgramsThatSpeakSPIFFETalkMutualTLS(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	s.policy()
	s.makeServiceAccounts("server", "client")
	s.service("server", false)
	app := func(name string, args ...string) *corev1.Pod {
		s.Helper()
		container := demo(name, 1000, append([]string{name}, args...)...)
		container.Image = spiffeAppImage
		pod := s.newPod(name, s.annotated(name, "spiffe-socket", "true"), name, container)
		s.make(pod)
		s.podReady(pod)
		return pod
	}
	server := app("server", "--peer", s.spiffeID("client"))
	client := app("client", "--peer", s.spiffeID("server"), "--address", "server."+s.namespace+".svc:443")
	s.tallyOf(client, "the first connection", func(t tally) bool { return t.Made > 0 })
	for _, pod := range []*corev1.Pod{client, server} {
		s.askAsAdministrator(0, "renew", "pod", pod.Name, "-n", s.namespace)
	}
	seen := s.tallyOf(client, "a renewal on both sides", func(t tally) bool { return t.Certificates >= 2 && t.Servers >= 2 })
	if seen.Failed > 0 {
		s.Errorf("%d of %d connections failed, the last one with: %s", seen.Failed, seen.Made+seen.Failed, seen.LastFailure)
	}
	s.figure("%d connections, %d client and %d server certificates", seen.Made, seen.Certificates, seen.Servers)
}
