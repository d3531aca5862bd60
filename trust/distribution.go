// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Distribution is a way in which trust bundles reach the pods.
type Distribution string

// The ways in which trust bundles reach the pods. Auto stands for the better one that the cluster has.
const (
	Auto                          Distribution = "auto"
	DistributedClusterTrustBundle Distribution = "clustertrustbundle"
	DistributedConfigMap          Distribution = "configmap"
)

// ParseDistribution reads the value of a flag.
func ParseDistribution(s string) (Distribution, error) {
	d := Distribution(s)
	if all := []Distribution{Auto, DistributedClusterTrustBundle, DistributedConfigMap}; !slices.Contains(all, d) {
		return "", fmt.Errorf("trust distribution %q is not one of %v", s, all)
	}
	return d, nil
}

// Discovery is the part of client-go's discovery.DiscoveryInterface that Detect needs.
type Discovery interface {
	ServerResourcesForGroupVersion(groupVersion string) (*metav1.APIResourceList, error)
}

// Detect turns what was asked for into what the cluster can do: one of the two ways, never Auto, and the API version of
// ClusterTrustBundles, such as "v1", which is empty for ConfigMaps. Trouble with the API server is an error and no reason
// to take the other way.
func Detect(api Discovery, want Distribution) (got Distribution, version string, err error) {
	if want == DistributedConfigMap {
		return want, "", nil
	}
	for _, version := range []string{certificatesv1.SchemeGroupVersion.Version, certificatesv1beta1.SchemeGroupVersion.Version} {
		list, err := api.ServerResourcesForGroupVersion(certificatesv1.GroupName + "/" + version)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return "", "", fmt.Errorf("asking the API server for its resources of %s/%s: %w", certificatesv1.GroupName, version, err)
		}
		if slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == "clustertrustbundles" }) {
			return DistributedClusterTrustBundle, version, nil
		}
	}
	if want == DistributedClusterTrustBundle {
		return "", "", fmt.Errorf("the API server serves no ClusterTrustBundles: enable them, or choose the trust distribution %q or %q", DistributedConfigMap, Auto)
	}
	return DistributedConfigMap, "", nil
}
