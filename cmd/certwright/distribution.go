// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/trust"
	"github.com/certwright/certwright/webhook"
)

// distribution says how trust bundles reach pods. Signer and webhook find it out in the same way, so that the one mounts
// what the other publishes.
type distribution struct {
	kind trust.Distribution
	// version of ClusterTrustBundles that the cluster serves.
	version string
}

func addDistributionFlag(cmd *cobra.Command, value *string) {
	cmd.Flags().StringVar(value, "trust-distribution", string(trust.Auto),
		"how trust bundles reach pods: clustertrustbundle, configmap, or auto for the first where the cluster serves it")
}

func detectDistribution(config *rest.Config, flag string) (distribution, error) {
	wanted, err := trust.ParseDistribution(flag)
	if err != nil {
		return distribution{}, fmt.Errorf("--trust-distribution: %w", err)
	}
	api, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return distribution{}, fmt.Errorf("setting up discovery: %w", err)
	}
	kind, version, err := trust.Detect(api, wanted)
	return distribution{kind: kind, version: version}, err
}

// publisher returns what publishes trust bundles in this way.
func (d distribution) publisher(mgr ctrl.Manager) (signer.Publisher, error) {
	if d.kind == trust.DistributedClusterTrustBundle {
		return trust.NewClusterTrustBundles(mgr.GetClient(), mgr.GetAPIReader(), d.version, clock.RealClock{})
	}
	publisher := trust.NewConfigMaps(mgr.GetClient(), clock.RealClock{})
	return publisher, publisher.SetupWithManager(mgr)
}

// mounted returns what the webhook mounts in this way.
func (d distribution) mounted() webhook.Distribution {
	if d.kind == trust.DistributedClusterTrustBundle {
		return webhook.ClusterTrustBundle
	}
	return webhook.ConfigMap
}
