// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// Who follows docs/backup.md has the same CA again: when its Secret was lost, when it is broken, and where nothing is left of it.
func TestACAIsRestoredFromItsBackup(t *testing.T) {
	s := tell(t)
	someone := s.requester()
	s.policy(forPeople(someone))
	o := s.signer()
	b := s.trustBundle(o)
	anchors := s.publishedAnchors(b)
	before := s.request(someone)
	s.issued(before)
	guide := s.backupGuide(o)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: "certwright-ca-" + o.Name + "." + o.Spec.Backends[0].Name}}

	// again checks that what was issued before and what is issued now lead to the root that was published before.
	again := func() {
		s.Helper()
		s.signerIs(o, metav1.ConditionTrue, "Ready")
		s.bundleBecomes(b, anchors)
		after := s.request(someone)
		s.issued(after)
		s.chainsTo(o, before)
		s.chainsTo(o, after)
	}

	guide.follow("Saving")
	s.must(admin.Delete(s.ctx, secret), "deleting Secret %s", secret.Name)
	s.replacePods(signer)
	s.signerIs(o, metav1.ConditionFalse, "CASecretLost")
	guide.follow("A Secret that was lost")
	again()

	s.change(secret, func() { delete(secret.Data, corev1.TLSPrivateKeyKey) })
	s.signerIs(o, metav1.ConditionTrue, "Degraded")
	guide.follow("A Secret that is broken")
	again()

	s.must(admin.Delete(s.ctx, o), "deleting Signer %s", o.Name)
	s.until("Signer "+o.Name+" and its trust bundle to be gone", soon, func(ctx context.Context) error {
		got, err := b.anchors(ctx)
		if err == nil && len(got) > 0 {
			err = fmt.Errorf("the bundle holds %q", got)
		}
		return errors.Join(client.IgnoreNotFound(err), isGone(ctx, &v1alpha1.Signer{}, o.Name))
	})
	s.must(admin.Delete(s.ctx, secret), "deleting Secret %s", secret.Name)
	guide.follow("A cluster that was lost")
	again()
}

// guide is docs/backup.md as a story follows it, in a directory of its own.
type guide struct {
	*story
	dir      string
	sections map[string]string
}

// backupGuide reads docs/backup.md, for a Signer in place of the one that it is about.
func (s *story) backupGuide(o *v1alpha1.Signer) guide {
	s.Helper()
	text, err := os.ReadFile("../docs/backup.md")
	s.must(err, "reading how to back up")
	g := guide{s, s.TempDir(), map[string]string{}}
	for _, section := range strings.Split(string(text), "\n## ")[1:] {
		title, body, _ := strings.Cut(section, "\n")
		for _, block := range shellBlocks.FindAllStringSubmatch(body, -1) {
			g.sections[title] += fill(block[1], "internal.local", o.Name+"."+o.Spec.Backends[0].Name, "internal", o.Name)
		}
	}
	return g
}

// follow runs the commands of a section, each of which is followed once.
func (g guide) follow(section string) {
	g.Helper()
	commands := g.sections[section]
	if commands == "" {
		g.Fatalf("docs/backup.md has no command under %q", section)
	}
	delete(g.sections, section)
	c := g.run("cd "+g.dir+"\n"+commands, "bash", "-euo", "pipefail")
	g.Logf("$ %s%s%s", commands, c.out, c.err)
	if c.code != 0 {
		g.Fatalf("%s: that ends with %d", section, c.code)
	}
}
