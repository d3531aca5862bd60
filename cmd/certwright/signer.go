// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca"
)

func newSigner() *cobra.Command {
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
			detected, err := detectDistribution(cmd.Context(), mgr.GetConfig(), trustDistribution)
			if err != nil {
				return err
			}
			registry := signer.NewRegistry(mgr.GetClient(), newBackend(mgr.GetClient(), mgr.GetAPIReader(), o.namespace))
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
	addDistributionFlag(cmd, &trustDistribution)
	return cmd
}

// newBackend is the one place that knows all kinds of backends.
func newBackend(c client.Client, reader client.Reader, namespace string) signer.NewBackend {
	return func(config signer.BackendConfig) (signer.Backend, error) {
		switch {
		case config.Backend.CA != nil:
			return ca.New(ca.Options{
				Client: c, Reader: reader, Namespace: namespace,
				Signer: config.Signer, SignerName: config.SignerName, Backend: config.Backend.Name, CA: *config.Backend.CA, IsCA: config.IsCA,
			})
		default:
			return nil, errors.New("no kind is set, allowed is ca")
		}
	}
}
