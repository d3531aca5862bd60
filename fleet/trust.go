// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/certwright/certwright/api/v1alpha1"
)

// trustedBy returns the signerNames whose trust bundles the pod's volumes hold, whether it asked for them or mounts them by itself.
func trustedBy(pod *corev1.Pod) []string {
	var names []string
	for source := range sourcesOf(pod) {
		if bundle := source.ClusterTrustBundle; bundle != nil {
			if bundle.SignerName != nil {
				names = append(names, *bundle.SignerName)
			}
			if bundle.Name != nil {
				names = append(names, signerOfBundle(*bundle.Name))
			}
		}
		if shared := source.ConfigMap; shared != nil && shared.Name == v1alpha1.TrustConfigMap {
			names = append(names, signersOfKeys(shared.Items)...)
		}
	}
	for _, v := range pod.Spec.Volumes {
		if v.ConfigMap != nil && v.ConfigMap.Name == v1alpha1.TrustConfigMap {
			names = append(names, signersOfKeys(v.ConfigMap.Items)...)
		}
	}
	return names
}

// signerOfBundle is the opposite of v1alpha1.ClusterTrustBundleName; empty for bundles of others.
func signerOfBundle(name string) string {
	domain, rest, _ := strings.Cut(name, ":")
	signer, _, _ := strings.Cut(rest, ":")
	if signerName := domain + "/" + signer; v1alpha1.ClusterTrustBundleName(signerName) == name {
		return signerName
	}
	return ""
}

// signersOfKeys returns the signerNames that keys of the trust ConfigMap stand for, whatever their format.
func signersOfKeys(items []corev1.KeyToPath) []string {
	var names []string
	for _, item := range items {
		domain, rest, ok := strings.Cut(item.Key, "_")
		dot := strings.LastIndexByte(rest, '.')
		if ok && dot > 0 {
			names = append(names, domain+"/"+rest[:dot])
		}
	}
	return names
}
