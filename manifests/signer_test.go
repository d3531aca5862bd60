// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"reflect"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// TestSignerVolumes: the signer has a token for Vault that is good for nothing else, and a folder for the sockets of programs
// beside it, which it cannot write to.
func TestSignerVolumes(t *testing.T) {
	spec := all[appsv1.Deployment](decode(t, installFile))[namespace+"/certwright-signer"].Spec.Template.Spec
	if len(spec.Volumes) != 2 {
		t.Fatalf("volumes %+v, want tokens and sockets", spec.Volumes)
	}
	tokens, sockets := spec.Volumes[0].Projected, spec.Volumes[1].EmptyDir
	if tokens == nil || len(tokens.Sources) != 1 || tokens.Sources[0].ServiceAccountToken == nil {
		t.Fatalf("tokens: %+v, want one token", spec.Volumes[0])
	}
	if token := tokens.Sources[0].ServiceAccountToken; token.Audience != "vault" || token.Path != token.Audience || *token.ExpirationSeconds > 3600 {
		t.Errorf("token %+v, want one of audience vault, in a file of that name, for an hour", token)
	}
	if sockets == nil || sockets.SizeLimit == nil {
		t.Errorf("sockets: %+v, want a bounded emptyDir", spec.Volumes[1])
	}
	want := []corev1.VolumeMount{
		{Name: spec.Volumes[0].Name, MountPath: "/var/run/secrets/certwright.dev/tokens", ReadOnly: true},
		{Name: spec.Volumes[1].Name, MountPath: "/run/certwright", ReadOnly: true},
	}
	if got := spec.Containers[0].VolumeMounts; !reflect.DeepEqual(got, want) {
		t.Errorf("mounts %+v, want %+v", got, want)
	}
}

// TestSolverService leads to the signer's pods, and to what answers challenges there.
func TestSolverService(t *testing.T) {
	objects := decode(t, installFile)
	service, deployment := all[corev1.Service](objects)[namespace+"/certwright-acme-solver"], all[appsv1.Deployment](objects)[namespace+"/certwright-signer"]
	if service == nil || len(service.Spec.Ports) != 1 || service.Spec.Ports[0].Port != 80 {
		t.Fatalf("service %+v, want one with port 80", service)
	}
	if !labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(deployment.Spec.Template.Labels)) {
		t.Errorf("selector %v does not select the signer's pods", service.Spec.Selector)
	}
	if !slices.ContainsFunc(deployment.Spec.Template.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool {
		return p.Name == service.Spec.Ports[0].TargetPort.String() && p.ContainerPort == 8089
	}) {
		t.Errorf("port %s is not the solver's 8089", service.Spec.Ports[0].TargetPort.String())
	}
}
