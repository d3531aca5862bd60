// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/certwright/certwright/webhook/annotation"
)

const (
	publicMode int32 = 0o444
	// keyMode is what a key falls back to that belongs to no user or group of the
	// pod: unreadable, rather than readable for everybody.
	keyMode int32 = 0o400
)

// Kubelet are the parts of a pod whose kubelet gets what is asked for: one volume,
// whose files it replaces together.
//
// Its trust bundle is not optional: no container starts without it, and a bundle
// that is withdrawn later leaves the last one in place.
//
// Who may read the key is not said by the volume. The kubelet takes the mode of the
// volume for files of podCertificate sources, and root for their owner, unless the
// pod has an fsGroup (then the group may read: mode 0640) or all of its containers
// are known to run as the same user (then that owns them: mode 0600)
// (pkg/volume/projected, collectData; pkg/volume/util, FsUserFrom). So a pod that has
// neither gets an fsGroup: all of its containers are in that group, whatever user
// they run as, and nobody else is. It changes the group of files in some kinds of
// volumes too; see fsGroupProblem.
func (i Injector) Kubelet(pod *corev1.Pod, ask annotation.Ask) Parts {
	parts := Parts{containers: ask.Containers, mounts: []corev1.VolumeMount{tlsMount(ask)}}
	if ask.TrustOnly() {
		parts.volumes = []corev1.Volume{projected(TLSVolume, publicMode, i.bundle(ask.Trust[0], "ca.crt", nil))}
		return parts
	}
	parts.volumes = []corev1.Volume{projected(TLSVolume, keyMode,
		corev1.VolumeProjection{PodCertificate: &corev1.PodCertificateProjection{
			SignerName:           ask.SignerName,
			KeyType:              ask.KubeletKeyType(),
			MaxExpirationSeconds: ptr.To(int32(ask.Duration.Seconds())),
			KeyPath:              "tls.key",
			CertificateChainPath: "tls.crt",
			UserAnnotations:      userAnnotations(ask),
		}},
		i.bundle(ask.SignerName, "ca.crt", nil),
	)}
	if pod.Spec.SecurityContext == nil || pod.Spec.SecurityContext.FSGroup == nil {
		if fsGroupProblem(pod) == "" {
			parts.fsGroup = SharedGroup
		}
	}
	return parts
}

// userAnnotations are what the signer is told of the pod's own wishes. For the
// rest it has what Signer.spec.podCertificates says.
func userAnnotations(ask annotation.Ask) map[string]string {
	wishes := map[string]string{}
	for key, values := range map[string][]string{
		annotation.DNSNames: ask.DNSNames, annotation.URIs: ask.URIs, annotation.IPAddresses: ask.IPAddresses, annotation.Usages: ask.Usages,
	} {
		if values != nil {
			wishes[key] = strings.Join(values, ",")
		}
	}
	if len(wishes) == 0 {
		return nil
	}
	return wishes
}
