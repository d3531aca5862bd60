// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// build builds a kustomization below this folder into a file.
func build(t *testing.T, folder string) string {
	t.Helper()
	absolute, err := filepath.Abs(folder)
	if err != nil {
		t.Fatal(err)
	}
	var problems strings.Builder
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-C", "../hack/tools", "kustomize", "build", absolute)
	cmd.Stderr = &problems
	built, err := cmd.Output()
	if err != nil {
		t.Fatalf("building %s: %v: %s", folder, err, problems.String())
	}
	path := filepath.Join(t.TempDir(), "built.yaml")
	if err := os.WriteFile(path, built, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestComponents: programs beside the signer are as restricted as it is, get no token of its, and share nothing with it but the folder
// of sockets.
func TestComponents(t *testing.T) {
	deployments := all[appsv1.Deployment](decode(t, build(t, "testdata/all")))
	for component, image := range map[string]string{
		"approver": "certwright/certwright:dev", "signer": "certwright/certwright-kms:dev", "webhook": "certwright/certwright-kms:dev",
	} {
		if got := deployments[namespace+"/certwright-"+component].Spec.Template.Spec.Containers[0].Image; got != image {
			t.Errorf("%s runs %s, want %s", component, got, image)
		}
	}
	spec := deployments[namespace+"/certwright-signer"].Spec.Template.Spec
	checkRestricted(t, "signer", spec)
	if len(spec.InitContainers) != 2 {
		t.Fatalf("beside the signer are %d programs, want certwright-dns and the sample", len(spec.InitContainers))
	}
	for _, container := range spec.InitContainers {
		if container.RestartPolicy == nil || *container.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			t.Errorf("%s is no sidecar", container.Name)
		}
		if limit := container.Resources.Limits[corev1.ResourceMemory]; limit.IsZero() {
			t.Errorf("%s has no limit of memory", container.Name)
		}
		mounts := map[string]string{}
		for _, mount := range container.VolumeMounts {
			mounts[mount.MountPath] = mount.Name
		}
		if len(mounts) != 2 || mounts["/run/certwright"] != "sockets" || mounts["/var/run/secrets/kubernetes.io/serviceaccount"] == "" {
			t.Errorf("%s mounts %v, want the sockets, and something over the token of the signer's service account", container.Name, mounts)
		}
	}
	for _, volume := range spec.Volumes {
		if !slices.Contains([]string{"tokens", "sockets"}, volume.Name) && (volume.EmptyDir == nil || volume.EmptyDir.SizeLimit == nil) {
			t.Errorf("volume %s: %+v, want a bounded emptyDir", volume.Name, volume.VolumeSource)
		}
	}
}
