// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Distribution is a way in which trust bundles reach the pods.
type Distribution string

// The ways in which trust bundles reach the pods. Auto stands for the better one that all of the cluster can do.
const (
	Auto                          Distribution = "auto"
	DistributedClusterTrustBundle Distribution = "clustertrustbundle"
	DistributedConfigMap          Distribution = "configmap"
)

// ErrChanged is returned by Watch when what the cluster can do is no longer what it was.
var ErrChanged = errors.New("the way in which trust bundles reach pods changed")

// mounting is the first kubelet that mounts ClusterTrustBundles of version v1 (KEP-3257). An older one may serve v1beta1, if
// it is told to, and leaves a pod that wants v1 waiting without end.
var mounting = version.MajorMinor(1, 37)

const (
	// redetect is how often Watch looks again.
	redetect = time.Minute
	// nodesAtOnce bounds the memory that a look at the nodes takes.
	nodesAtOnce = 500
)

// ParseDistribution reads the value of a flag.
func ParseDistribution(s string) (Distribution, error) {
	d := Distribution(s)
	if all := []Distribution{Auto, DistributedClusterTrustBundle, DistributedConfigMap}; !slices.Contains(all, d) {
		return "", fmt.Errorf("trust distribution %q is not one of %v", s, all)
	}
	return d, nil
}

// Choice is what a Detector found: one of the two ways, never Auto, and the API version of ClusterTrustBundles, such as
// "v1", which is empty for ConfigMaps.
type Choice struct {
	Distribution Distribution
	Version      string
}

func (c Choice) String() string {
	if c.Version == "" {
		return string(c.Distribution)
	}
	return string(c.Distribution) + "/" + c.Version
}

// Discovery is the part of client-go's discovery.DiscoveryInterface that a Detector needs.
type Discovery interface {
	ServerResourcesForGroupVersion(groupVersion string) (*metav1.APIResourceList, error)
}

// Detector finds out how trust bundles reach the pods of a cluster. All components must ask it in the same way, so that one
// mounts what the other publishes.
type Detector struct {
	// Want is what was asked for.
	Want Distribution
	// API says what the API server serves.
	API Discovery
	// Nodes lists the nodes. It need not be cached.
	Nodes client.Reader
	Clock clock.WithTicker
}

// Detect turns what was asked for into what the cluster can do. Auto means ClusterTrustBundles only where v1 of them is
// served and every kubelet mounts it: every cluster can do ConfigMaps, and a pod whose bundle cannot be mounted never starts.
// Trouble with the API server is an error and no reason to take the other way.
func (d Detector) Detect(ctx context.Context) (Choice, error) {
	configMaps := Choice{Distribution: DistributedConfigMap}
	if d.Want == DistributedConfigMap {
		return configMaps, nil
	}
	versions := []string{certificatesv1.SchemeGroupVersion.Version}
	if d.Want == DistributedClusterTrustBundle {
		versions = append(versions, certificatesv1beta1.SchemeGroupVersion.Version)
	}
	for _, v := range versions {
		served, err := d.serves(v)
		if err != nil {
			return Choice{}, err
		}
		if !served {
			continue
		}
		if d.Want == Auto {
			if able, err := d.everyKubeletMounts(ctx); err != nil || !able {
				return configMaps, err
			}
		}
		return Choice{Distribution: DistributedClusterTrustBundle, Version: v}, nil
	}
	if d.Want == Auto {
		return configMaps, nil
	}
	return Choice{}, fmt.Errorf("the API server serves no ClusterTrustBundles: enable them, or choose the trust distribution %q or %q", DistributedConfigMap, Auto)
}

// Watch looks again every minute, and returns an error that is ErrChanged when the answer is another one than before: what
// runs was built for that one, so the process should end and begin anew. Trouble changes nothing. It returns nil when the
// context ends.
func (d Detector) Watch(ctx context.Context, before Choice) error {
	ticker := d.Clock.NewTicker(redetect)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
		now, err := d.Detect(ctx)
		switch {
		case err != nil:
			ctrl.LoggerFrom(ctx).Error(err, "looking whether trust bundles still reach pods in the same way")
		case now != before:
			return fmt.Errorf("%w from %s to %s: restarting", ErrChanged, before, now)
		}
	}
}

// serves reports whether the API server serves ClusterTrustBundles of a version.
func (d Detector) serves(version string) (bool, error) {
	list, err := d.API.ServerResourcesForGroupVersion(certificatesv1.GroupName + "/" + version)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("asking the API server for its resources of %s/%s: %w", certificatesv1.GroupName, version, err)
	}
	return slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == "clustertrustbundles" }), nil
}

// everyKubeletMounts reports whether there are nodes, and the kubelets of all of them are known to mount ClusterTrustBundles.
func (d Detector) everyKubeletMounts(ctx context.Context) (bool, error) {
	some, next := false, ""
	for {
		var nodes corev1.NodeList
		if err := d.Nodes.List(ctx, &nodes, client.Limit(nodesAtOnce), client.Continue(next)); err != nil {
			return false, fmt.Errorf("listing nodes to see whether their kubelets mount ClusterTrustBundles (choose the trust distribution %q or %q to do without): %w",
				DistributedClusterTrustBundle, DistributedConfigMap, err)
		}
		for i := range nodes.Items {
			kubelet, err := version.ParseGeneric(nodes.Items[i].Status.NodeInfo.KubeletVersion)
			if err != nil || !kubelet.AtLeast(mounting) {
				return false, nil //nolint:nilerr // a version that says nothing is not one that mounts
			}
			some = true
		}
		if next = nodes.Continue; next == "" {
			return some, nil
		}
	}
}
