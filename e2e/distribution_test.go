// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Whoever installs chooses how trust bundles reach pods. What the cluster would choose by itself is told by other stories; this
// one has it the other way, and a pod gets a ca.crt that follows just the same.
func TestTrustBundlesReachPodsInTheOtherWay(t *testing.T) {
	s := tell(t)
	by, other := inBundle, "configmap"
	if o := s.signer(); strings.HasPrefix(o.Status.TrustBundle, inConfigMap) {
		by, other = inConfigMap, "clustertrustbundle"
	}
	s.distribute(other)

	s = tell(t)
	o := s.signer()
	if !strings.HasPrefix(o.Status.TrustBundle, other+"/") {
		s.Fatalf("trustDistribution is %s, was %s, and the Signer's status names the bundle %q", other, by, o.Status.TrustBundle)
	}
	s.trustReachesPods(o)
}

// distribute has trust bundles distributed in this way until the story ends.
func (s *story) distribute(way string) {
	s.Helper()
	config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: "certwright"}}
	s.refresh(config)
	before := config.Data["trustDistribution"]
	set := func(way string) {
		s.change(config, func() { config.Data["trustDistribution"] = way })
		// All old replicas have to be gone, as the webhook's serve for some seconds after they were told to end, in the old way.
		old := map[string][]corev1.Pod{}
		for _, component := range []string{signer, webhook} {
			old[component] = s.componentPods(component)
			s.must(restart(s.ctx, component), "restarting %s", component)
		}
		for component, pods := range old {
			s.must(rolledOut(s.ctx, component), "restarting %s", component)
			s.replaced(component, pods)
		}
		s.must(admits(s.ctx), "waiting until pods are admitted again")
	}
	s.Cleanup(func() { set(before) })
	set(way)
}
