// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package distribution finds out how trust bundles reach the pods of a cluster, so that signer and webhook go the same way.
package distribution

import (
	"context"
	"errors"
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/ability"
)

// Way is how trust bundles reach the pods.
type Way string

// The ways. Auto stands for the better one that all of the cluster can do.
const (
	Auto               Way = "auto"
	ClusterTrustBundle Way = "clustertrustbundle"
	ConfigMap          Way = "configmap"
)

// ErrChanged is returned by Watch when what the cluster can do is no longer what it was.
var ErrChanged = errors.New("the way in which trust bundles reach pods changed")

// mounting is the first kubelet that mounts ClusterTrustBundles of version v1 (KEP-3257). An older one may serve v1beta1, if
// it is told to, and leaves a pod that wants v1 waiting without end.
var mounting = version.MajorMinor(1, 37)

// steady is how many looks in a row, one a minute, it takes to change the way. A node says itself of which version it is, so one that is not
// to be trusted, or that comes and goes, can have processes restart so often and no more. A kubelet forgets former restarts of a container
// after ten minutes: it does not hold this one back as if it crashed.
const steady = 10

// Parse reads the value of a flag.
func Parse(s string) (Way, error) {
	d := Way(s)
	if all := []Way{Auto, ClusterTrustBundle, ConfigMap}; !slices.Contains(all, d) {
		return "", fmt.Errorf("trust distribution %q is not one of %v", s, all)
	}
	return d, nil
}

// Choice is what a Detector found: one of the two ways, never Auto, and the API version of ClusterTrustBundles, such as
// "v1", which is empty for ConfigMaps.
type Choice struct {
	Way     Way
	Version string
}

func (c Choice) String() string {
	if c.Version == "" {
		return string(c.Way)
	}
	return string(c.Way) + "/" + c.Version
}

// Discovery is the part of client-go's discovery.DiscoveryInterface that a Detector needs.
type Discovery = ability.Discovery

// Detector finds out how trust bundles reach the pods of a cluster. All components must ask it in the same way, so that one
// mounts what the other publishes.
type Detector struct {
	// Want is what was asked for.
	Want Way
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
	configMaps := Choice{Way: ConfigMap}
	if d.Want == ConfigMap {
		return configMaps, nil
	}
	cluster := ability.Cluster{API: d.API, Nodes: d.Nodes}
	versions := []string{certificatesv1.SchemeGroupVersion.Version}
	if d.Want == ClusterTrustBundle {
		versions = append(versions, certificatesv1beta1.SchemeGroupVersion.Version)
	}
	for _, v := range versions {
		served, err := cluster.Serves(certificatesv1.GroupName+"/"+v, "clustertrustbundles")
		if err != nil {
			return Choice{}, err
		}
		if !served {
			continue
		}
		if d.Want == Auto {
			able, err := cluster.EveryKubelet(ctx, mounting)
			if err != nil {
				return Choice{}, fmt.Errorf("finding out how trust bundles reach pods (the trust distributions %q and %q do without): %w",
					ClusterTrustBundle, ConfigMap, err)
			}
			if !able {
				return configMaps, nil
			}
		}
		return Choice{Way: ClusterTrustBundle, Version: v}, nil
	}
	if d.Want == Auto {
		return configMaps, nil
	}
	return Choice{}, fmt.Errorf("the API server serves no ClusterTrustBundles: enable them, or choose the trust distribution %q or %q", ConfigMap, Auto)
}

// Watch looks again every minute, and returns an error that is ErrChanged when the answer has been another one than before for steady looks:
// what runs was built for the former, so the process should end and begin anew. Trouble changes nothing. It returns nil when the context
// ends.
func (d Detector) Watch(ctx context.Context, before Choice) error {
	return ability.Watch(ctx, d.Clock, before, d.Detect, steady, ErrChanged)
}
