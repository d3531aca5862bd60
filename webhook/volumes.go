// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/trust"
)

const (
	tlsVolume   = "certwright-tls"
	trustVolume = "certwright-trust"
	tokenVolume = "certwright-token"

	trustDirectory = "/var/run/secrets/certwright.dev/trust"
	trustFile      = "ca.crt"
	// tokenDirectory is where clients look for a service account. As something is
	// mounted there, the API server adds no token of its own to the agent.
	tokenDirectory = "/var/run/secrets/kubernetes.io/serviceaccount" //nolint:gosec // a path, not a secret
	tokenSeconds   = 3600

	// rootCAConfigMap is in every namespace: the CA of the API server.
	rootCAConfigMap = "kube-root-ca.crt"

	// tlsBytes has room for two generations with a large trust bundle.
	tlsBytes = "8Mi"
)

var ourVolumes = []string{tlsVolume, trustVolume, tokenVolume}

func isOurVolume(name string) bool { return slices.Contains(ourVolumes, name) }

// volumes are the key and certificate, in memory; the trust anchors; and the
// agent's own identity towards the API server.
//
// The agent can read its token whatever the pod's security context says: the
// kubelet gives it mode 0600 only to the one user of all containers (then that is
// the agent's) or to the group fsGroup (which every container has).
func (m Mutator) volumes(signerName string) []corev1.Volume {
	return []corev1.Volume{
		{Name: tlsVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
			Medium:    corev1.StorageMediumMemory,
			SizeLimit: ptr.To(resource.MustParse(tlsBytes)),
		}}},
		projected(trustVolume, m.trustSource(signerName)),
		projected(tokenVolume,
			corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
				ExpirationSeconds: ptr.To[int64](tokenSeconds), Path: "token",
			}},
			corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: rootCAConfigMap},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}},
			corev1.VolumeProjection{DownwardAPI: &corev1.DownwardAPIProjection{
				Items: []corev1.DownwardAPIVolumeFile{{
					Path:     "namespace",
					FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"},
				}},
			}},
		),
	}
}

// trustSource is optional: the pod may start before the bundle is published, and
// the agent waits for it and can say so.
func (m Mutator) trustSource(signerName string) corev1.VolumeProjection {
	if m.Trust == trust.DistributedConfigMap {
		return corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: v1alpha1.TrustConfigMap},
			Items:                []corev1.KeyToPath{{Key: v1alpha1.TrustConfigMapKey(signerName), Path: trustFile}},
			Optional:             ptr.To(true),
		}}
	}
	// By signerName, as kubelets keep what they read by name for up to five minutes (kubernetes/kubernetes#141439). An empty
	// selector selects all bundles of the signerName, which only those with the verb attest can make.
	return corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{
		SignerName:    ptr.To(signerName),
		LabelSelector: &metav1.LabelSelector{},
		Path:          trustFile,
		Optional:      ptr.To(true),
	}}
}

func projected(name string, sources ...corev1.VolumeProjection) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources:     sources,
		DefaultMode: ptr.To(corev1.ProjectedVolumeSourceDefaultMode),
	}}}
}

func agentMounts() []corev1.VolumeMount {
	return []corev1.VolumeMount{
		{Name: tlsVolume, MountPath: agentDirectory},
		{Name: trustVolume, MountPath: trustDirectory, ReadOnly: true},
		{Name: tokenVolume, MountPath: tokenDirectory, ReadOnly: true},
	}
}

// putVolume replaces the volume of that name where it stands, or appends it.
func putVolume(volumes []corev1.Volume, want corev1.Volume) []corev1.Volume {
	named := func(v corev1.Volume) bool { return v.Name == want.Name }
	i := slices.IndexFunc(volumes, named)
	if i < 0 {
		return append(volumes, want)
	}
	volumes[i] = want
	others := slices.DeleteFunc(volumes[i+1:], named)
	return volumes[:i+1+len(others)]
}

// putMounts leaves exactly the wanted mounts of our volumes, the first of them
// where one of ours stood. The token is thus mounted in no container but the
// agent's.
func putMounts(mounts []corev1.VolumeMount, want ...corev1.VolumeMount) []corev1.VolumeMount {
	var result []corev1.VolumeMount
	for _, mount := range mounts {
		if !isOurVolume(mount.Name) {
			result = append(result, mount)
			continue
		}
		result = append(result, want...)
		want = nil
	}
	return append(result, want...)
}
