// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Who follows docs/uninstall.md to the letter takes Certwright away from under running pods: those go on to talk to each other, new
// pods are admitted, and nothing of Certwright is left. Then it is installed again.
func TestUninstallingLeavesPodsAlone(t *testing.T) {
	s := tell(t)
	s.signer(forKubelets)
	s.policy()
	f := &fleet{story: s}
	f.prepare()
	for i, by := range []string{"agent", "kubelet", "agent", "kubelet"} {
		f.add(fmt.Sprintf("%s-%02d", by, i), by, "")
	}
	f.ready()
	f.stage("before", func() {})

	s.Cleanup(func() { s.must(install(s.ctx), "installing %s again", installManifest) })
	f.stage("docs/uninstall.md, as written", s.uninstall)
	for _, pod := range f.members {
		s.podReady(pod)
		for _, c := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
			if c.RestartCount > 0 {
				s.Errorf("pod %s did not live through it: %s", pod.Name, describePod(pod))
			}
		}
	}
	// New pods start, whether they ask or not; nobody gives them anything.
	plain := s.idlePod("plain", "agent")
	asks := s.newPod("asks", s.annotated("asks"), "agent", demo("idle", 1000, "server"))
	s.make(asks)
	s.podReady(asks)
	for _, pod := range []*corev1.Pod{plain, asks} {
		if len(pod.Spec.InitContainers) > 0 {
			s.Errorf("pod %s was changed: %v", pod.Name, pod.Spec.InitContainers)
		}
	}
	s.nothingIsInstalled()
}

var shellBlocks = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// uninstall runs the commands of docs/uninstall.md as they stand there.
func (s *story) uninstall() {
	s.Helper()
	text, err := os.ReadFile("../docs/uninstall.md")
	s.must(err, "reading how to uninstall")
	blocks := shellBlocks.FindAllSubmatch(text, -1)
	if len(blocks) == 0 {
		s.Fatal("docs/uninstall.md has no command")
	}
	for _, block := range blocks {
		c := s.run("cd ..\n"+string(block[1]), "bash", "-euo", "pipefail")
		s.Logf("$ %s%s%s", block[1], c.out, c.err)
		if c.code != 0 {
			s.Fatalf("that ends with %d", c.code)
		}
	}
}

// nothingIsInstalled checks that no object of the installed manifest is left, and no Secret with a CA's key.
func (s *story) nothingIsInstalled() {
	s.Helper()
	objects, err := manifest(installManifest)
	s.must(err, "reading %s", installManifest)
	for _, o := range objects {
		s.until(o.GetKind()+" "+o.GetName()+" to be gone", soon, func(ctx context.Context) error {
			err := admin.Get(ctx, client.ObjectKeyFromObject(o), o.DeepCopy())
			if err == nil {
				return errors.New("it is still there")
			}
			if meta.IsNoMatchError(err) { // its kind is gone
				return nil
			}
			return client.IgnoreNotFound(err)
		})
	}
}
