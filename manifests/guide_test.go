// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// The kustomization of docs/operations.md, as it stands there, has everything come from another registry, the agent too, and keeps settings.
func TestKustomizationOfTheGuide(t *testing.T) {
	guide, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```yaml\n([^`]*\nkind: Kustomization\n[^`]*)```").FindSubmatch(guide)
	if found == nil {
		t.Fatal("operations.md has no kustomization")
	}
	folder := t.TempDir()
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	base, err := filepath.Rel(folder, here)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(found[1]), "certwright/manifests", base, 1)
	if err := os.WriteFile(filepath.Join(folder, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	objects := decode(t, build(t, folder))
	const registry = "registry.example.com/"
	for name, deployment := range all[appsv1.Deployment](objects) {
		if image := deployment.Spec.Template.Spec.Containers[0].Image; !strings.HasPrefix(image, registry) {
			t.Errorf("%s runs the image %s", name, image)
		}
	}
	config := all[corev1.ConfigMap](objects)[namespace+"/certwright"].Data
	if !strings.HasPrefix(config["agentImage"], registry) || config["trustDomain"] != "example.com" || config["clusterDomain"] != "cluster.local" {
		t.Errorf("the settings are %v", config)
	}
	accounts := all[corev1.ServiceAccount](objects)
	if len(accounts) != len(components) {
		t.Errorf("service accounts: %v", keys(accounts))
	}
	for name, account := range accounts {
		if len(account.ImagePullSecrets) != 1 {
			t.Errorf("%s pulls images with %v", name, account.ImagePullSecrets)
		}
	}
}
