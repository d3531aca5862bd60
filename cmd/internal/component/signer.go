// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package component

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca"
)

func newSigner(openKey ca.OpenKey, flags ...*pflag.FlagSet) *cobra.Command {
	var o controllerOptions
	var trustDistribution string
	cmd := &cobra.Command{
		Use:   "signer",
		Short: "Sign approved CertificateSigningRequests and publish trust bundles",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			mgr, err := o.newController(cmd.Context(), "signer")
			if err != nil {
				return err
			}
			detected, err := detectDistribution(cmd.Context(), mgr.GetConfig(), mgr.GetAPIReader(), trustDistribution)
			if err != nil {
				return err
			}
			made := backends{client: mgr.GetClient(), reader: mgr.GetAPIReader(), namespace: o.namespace, openKey: openKey}
			registry := signer.NewRegistry(mgr.GetClient(), made.make)
			m := signer.NewMetrics(metrics.Registry)
			requests := &signer.Reconciler{
				Client:   mgr.GetClient(),
				Registry: registry,
				Judge:    mgr.judge,
				Teller:   mgr.teller,
				Metrics:  m,
				Clock:    clock.RealClock{},
			}
			if err := requests.SetupWithManager(mgr, o.workers); err != nil {
				return fmt.Errorf("setting up the signer: %w", err)
			}
			publisher, err := detected.publisher(mgr)
			if err != nil {
				return err
			}
			status := &signer.StatusReconciler{Client: mgr.GetClient(), Registry: registry, Publisher: publisher, Metrics: m}
			if err := status.SetupWithManager(mgr); err != nil {
				return fmt.Errorf("setting up the status of Signers: %w", err)
			}
			return detected.during(cmd.Context(), mgr.Start)
		},
	}
	o.addFlags(cmd.Flags())
	for _, f := range flags {
		cmd.Flags().AddFlagSet(f)
	}
	addDistributionFlag(cmd, &trustDistribution)
	return cmd
}
