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
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Who follows docs/uninstall.md to the letter takes Certwright away from under running pods: those go on to talk to each other, new
// pods are admitted, and nothing of Certwright is left. Then it is installed again.
func TestUninstallingLeavesPodsAlone(t *testing.T) {
	s := tell(t)
	b := s.trustBundle(s.signer(forKubelets))
	s.policy()
	f := &fleet{story: s}
	f.prepare()
	for i, by := range []string{"agent", "kubelet", "agent", "kubelet"} {
		f.add(fmt.Sprintf("%s-%02d", by, i), by, "")
	}
	f.ready()
	f.stage("before", func() {})

	s.Cleanup(func() {
		s.must(client.IgnoreNotFound(admin.Delete(s.ctx, b.object())), "deleting the bundle that was left to running pods")
		s.must(install(s.ctx), "installing %s again", installManifest)
	})
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
	if anchors, err := b.anchors(s.ctx); err != nil || len(anchors) == 0 {
		s.Errorf("the trust bundle that pods mount was not left: %v", err)
	}
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

// nothingIsInstalled checks that of the installed manifest only that is left which has the CAs in it: the namespace, and what is said
// about it.
func (s *story) nothingIsInstalled() {
	s.Helper()
	objects, err := manifest(installManifest)
	s.must(err, "reading %s", installManifest)
	for _, o := range objects {
		what, left := o.GetKind()+" "+o.GetName(), slices.Contains([]string{"Namespace", "ResourceQuota", "ConfigMap"}, o.GetKind())
		s.until(what+" to be gone", soon, func(ctx context.Context) error {
			err := admin.Get(ctx, client.ObjectKeyFromObject(o), o.DeepCopy())
			switch {
			case err == nil && !left:
				return errors.New("it is still there")
			case apierrors.IsNotFound(err) && left:
				s.Fatalf("%s is gone: it was to stay", what)
			case meta.IsNoMatchError(err): // its kind is gone
				return nil
			}
			return client.IgnoreNotFound(err)
		})
	}
}
