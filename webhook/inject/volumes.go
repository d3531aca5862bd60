// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/trust/distribution"
)

// Names of volumes. TLSVolume and SPIFFEVolume are mounted in the pod's
// containers, the others in the agent alone.
const (
	TLSVolume    = "certwright-tls"
	SPIFFEVolume = "certwright-spiffe"
	TrustVolume  = "certwright-trust"
	TokenVolume  = "certwright-token"
	RenewVolume  = "certwright-renew"
)

const (
	// tokenDirectory is where clients look for a service account. As something is
	// mounted there, the API server adds no token of its own to the agent.
	tokenDirectory = "/var/run/secrets/kubernetes.io/serviceaccount" //nolint:gosec // a path, not a secret
	tokenSeconds   = 3600

	// rootCAConfigMap is in every namespace: the CA of the API server.
	rootCAConfigMap = "kube-root-ca.crt"

	// tlsBytes has room for two generations of a large trust bundle in all formats.
	tlsBytes = "32Mi"
	// spiffeBytes is more than a socket takes.
	spiffeBytes = "1Mi"
)

// ourVolumes are the names of all volumes that a pod may get.
var ourVolumes = []string{TLSVolume, SPIFFEVolume, TrustVolume, TokenVolume, RenewVolume}

// IsOurVolume tells whether a name is Certwright's own.
func IsOurVolume(name string) bool { return slices.Contains(ourVolumes, name) }

// memory is a directory that never reaches a disk.
func memory(name, size string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
		Medium:    corev1.StorageMediumMemory,
		SizeLimit: ptr.To(resource.MustParse(size)),
	}}}
}

// trustVolume holds the bundles of the signerNames for the agent, one file each.
// They are optional: the pod may start before a bundle is published, and the agent
// waits for it and can say so.
func (i Injector) trustVolume(signerNames []string) corev1.Volume {
	sources := make([]corev1.VolumeProjection, len(signerNames))
	for n, signerName := range signerNames {
		sources[n] = i.bundle(signerName, trustFile(n), ptr.To(true))
	}
	return projected(TrustVolume, corev1.ProjectedVolumeSourceDefaultMode, sources...)
}

// trustFile is the name of the nth file of the volume.
func trustFile(n int) string {
	if n == 0 {
		return "ca.crt"
	}
	return fmt.Sprintf("ca-%d.crt", n)
}

// bundle is a file that holds the trust bundle of a signerName. What it holds is
// public, so everybody may read it, whoever owns the directory.
func (i Injector) bundle(signerName, file string, optional *bool) corev1.VolumeProjection {
	if i.Trust == distribution.ConfigMap {
		return corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: v1alpha1.TrustConfigMap},
			Items:                []corev1.KeyToPath{{Key: v1alpha1.TrustConfigMapKey(signerName), Path: file, Mode: ptr.To(publicMode)}},
			Optional:             optional,
		}}
	}
	// By signerName, as kubelets keep what they read by name for up to five minutes (kubernetes/kubernetes#141439). An empty
	// selector selects all bundles of the signerName, which only those with the verb attest can make.
	return corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{
		SignerName:    ptr.To(signerName),
		LabelSelector: &metav1.LabelSelector{},
		Path:          file,
		Optional:      optional,
	}}
}

// tokenVolume is the agent's own identity towards the API server.
//
// The agent can read its token whatever the pod's security context says: the
// kubelet gives it mode 0600 only to the one user of all containers (then that is
// the agent's) or to the group fsGroup (which every container has).
func tokenVolume() corev1.Volume {
	return projected(TokenVolume, corev1.ProjectedVolumeSourceDefaultMode,
		corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
			ExpirationSeconds: ptr.To[int64](tokenSeconds), Path: "token",
		}},
		corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: rootCAConfigMap},
			Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
		}},
		downward("namespace", "metadata.namespace"),
	)
}

// renewVolume holds the time that people write into the annotation of a pod that
// runs. The kubelet writes the file anew when they do.
func renewVolume() corev1.Volume {
	return projected(RenewVolume, corev1.ProjectedVolumeSourceDefaultMode,
		downward(renewFile, fmt.Sprintf("metadata.annotations['%s']", v1alpha1.AnnotationRenew)))
}

func downward(file, field string) corev1.VolumeProjection {
	return corev1.VolumeProjection{DownwardAPI: &corev1.DownwardAPIProjection{
		Items: []corev1.DownwardAPIVolumeFile{{
			Path:     file,
			FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: field},
		}},
	}}
}

func projected(name string, mode int32, sources ...corev1.VolumeProjection) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources:     sources,
		DefaultMode: ptr.To(mode),
	}}}
}
