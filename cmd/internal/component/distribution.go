// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/signer/status"
	"github.com/certwright/certwright/trust"
	"github.com/certwright/certwright/trust/distribution"
	"github.com/certwright/certwright/trust/source"
)

// trustWay says how trust bundles reach pods. Signer and webhook find it out in the same way, so that the one mounts
// what the other publishes.
type trustWay struct {
	distribution.Choice
	detector distribution.Detector
}

func addDistributionFlag(cmd *cobra.Command, value *string) {
	cmd.Flags().StringVar(value, "trust-distribution", string(distribution.Auto),
		"how trust bundles reach pods: clustertrustbundle, configmap, or auto for the first where v1 is served and every kubelet is 1.37 or newer")
}

// detectDistribution reads nodes from the reader, which is no cache.
func detectDistribution(ctx context.Context, config *rest.Config, reader client.Reader, flag string) (trustWay, error) {
	wanted, err := distribution.Parse(flag)
	if err != nil {
		return trustWay{}, fmt.Errorf("--trust-distribution: %w", err)
	}
	api, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return trustWay{}, fmt.Errorf("setting up discovery: %w", err)
	}
	d := trustWay{detector: distribution.Detector{Want: wanted, API: api, Nodes: reader, Clock: clock.RealClock{}}}
	d.Choice, err = d.detector.Detect(ctx)
	return d, err
}

// during runs what was built for this way of distribution, until it or the context ends, or the way changes, which is an error; or one
// of the others that watch for such changes returns one.
func (d trustWay) during(ctx context.Context, run func(context.Context) error, others ...func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	ctx, cancel := context.WithCancel(ctx)
	group.Go(func() error {
		defer cancel()
		return run(ctx)
	})
	group.Go(func() error { return d.detector.Watch(ctx, d.Choice) })
	for _, watch := range others {
		group.Go(func() error { return watch(ctx) })
	}
	return group.Wait()
}

// publisher returns what publishes trust bundles in this way, with what Signers add from the namespace.
func (d trustWay) publisher(mgr ctrl.Manager, namespace string) (status.Publisher, error) {
	distributor, err := d.distributor(mgr, namespace)
	if err != nil {
		return nil, err
	}
	return trust.NewPublisher(distributor, source.NewBook(mgr.GetClient(), namespace), clock.RealClock{}), nil
}

// distributor brings bundles to the pods in this way, and in ConfigMaps to the namespaces that Signers select.
func (d trustWay) distributor(mgr ctrl.Manager, namespace string) (trust.Distributor, error) {
	all := d.Way == distribution.ConfigMap
	configMaps := trust.NewConfigMaps(mgr.GetClient(), namespace, all, clock.RealClock{})
	if err := configMaps.SetupWithManager(mgr); err != nil || all {
		return configMaps, err
	}
	bundles, err := trust.NewClusterTrustBundles(mgr.GetClient(), mgr.GetAPIReader(), d.Version, clock.RealClock{})
	if err != nil {
		return nil, err
	}
	return trust.Both{bundles, configMaps}, bundles.SetupWithManager(mgr)
}
