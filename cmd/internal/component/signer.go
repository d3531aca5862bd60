// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package component

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/certwright/certwright/signer/ca"
	"github.com/certwright/certwright/signer/issue"
	signermetrics "github.com/certwright/certwright/signer/metrics"
	"github.com/certwright/certwright/signer/registry"
	"github.com/certwright/certwright/signer/status"
)

// signerWorkers is the default of --workers for the signer: many more than a backend gets calls at once, so that those that are slow do not
// hold up the others.
const signerWorkers = 64

func newSigner(openKey ca.OpenKey, flags ...*pflag.FlagSet) *cobra.Command {
	o := controllerOptions{workers: signerWorkers}
	var trustDistribution, solverAddress string
	cmd := &cobra.Command{
		Use:   "signer",
		Short: "Sign approved CertificateSigningRequests and permitted PodCertificateRequests, and publish trust bundles",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			pods, err := newServedPods()
			if err != nil {
				return err
			}
			mgr, err := o.newController(cmd.Context(), "signer", pods.cached())
			if err != nil {
				return err
			}
			detected, err := detectDistribution(cmd.Context(), mgr.GetConfig(), mgr.GetAPIReader(), trustDistribution)
			if err != nil {
				return err
			}
			made := newBackends(mgr.GetClient(), mgr.GetAPIReader(), o.namespace, openKey)
			if err := made.addSolver(cmd.Context(), mgr, solverAddress); err != nil {
				return fmt.Errorf("setting up the solver of ACME challenges: %w", err)
			}
			m := signermetrics.New(metrics.Registry)
			signers := registry.New(mgr.GetClient(), made.make, clock.RealClock{}, m)
			core := issue.NewCore(signers, m, clock.RealClock{})
			requests := &issue.Reconciler{Core: core, Client: mgr.GetClient(), Judge: mgr.judge, Teller: mgr.teller}
			if err := requests.SetupWithManager(mgr, o.workers); err != nil {
				return fmt.Errorf("setting up the signer: %w", err)
			}
			if err := pods.setup(mgr, core, o.namespace, o.workers); err != nil {
				return fmt.Errorf("setting up the signing for kubelets: %w", err)
			}
			publisher, err := detected.publisher(mgr, o.namespace)
			if err != nil {
				return err
			}
			statuses := &status.Reconciler{
				Client: mgr.GetClient(), Registry: signers, Publisher: publisher, Teller: mgr.teller, Metrics: m, Clock: clock.RealClock{},
			}
			if err := statuses.SetupWithManager(mgr); err != nil {
				return fmt.Errorf("setting up the status of Signers: %w", err)
			}
			return detected.during(cmd.Context(), mgr.Start, pods.watch)
		},
	}
	o.addFlags(cmd.Flags())
	cmd.Flags().StringVar(&solverAddress, "acme-solver-address", ":8089", "address that serves answers to HTTP-01 challenges of ACME servers; 0 for none")
	for _, f := range flags {
		cmd.Flags().AddFlagSet(f)
	}
	addDistributionFlag(cmd, &trustDistribution)
	return cmd
}
