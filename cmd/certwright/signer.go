// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/policy/judge"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca"
	"github.com/certwright/certwright/trust"
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
			mgr, err := o.newManager("signer", cache.Options{ByObject: map[client.Object]cache.ByObject{
				&certificatesv1.CertificateSigningRequest{}: {Transform: stripRequest},
				&corev1.Secret{}:    {Namespaces: map[string]cache.Config{o.namespace: {}}},
				&corev1.ConfigMap{}: trust.ConfigMapCache(),
			}})
			if err != nil {
				return err
			}
			detected, err := detectDistribution(mgr.GetConfig(), trustDistribution)
			if err != nil {
				return err
			}
			if err := judge.Index(cmd.Context(), mgr.GetFieldIndexer()); err != nil {
				return err
			}
			j := judge.New(mgr.GetClient(), mgr.GetAPIReader(), o.trustDomain, o.clusterDomain)
			if err := j.Follow(cmd.Context(), mgr.GetCache()); err != nil {
				return err
			}
			registry := signer.NewRegistry(mgr.GetClient(), newBackend(mgr, o.namespace))
			m := signer.NewMetrics(metrics.Registry)
			requests := &signer.Reconciler{
				Client:   mgr.GetClient(),
				Registry: registry,
				Judge:    j,
				Teller:   teller(mgr.GetClient(), "signer"),
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
			return mgr.Start(cmd.Context())
		},
	}
	o.addFlags(cmd.Flags())
	addDistributionFlag(cmd, &trustDistribution)
	return cmd
}

// newBackend is the one place that knows all kinds of backends.
func newBackend(mgr ctrl.Manager, namespace string) signer.NewBackend {
	return func(s *v1alpha1.Signer, config v1alpha1.Backend) (signer.Backend, error) {
		switch {
		case config.CA != nil:
			return ca.New(ca.Options{
				Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), Namespace: namespace,
				Signer: s.Name, SignerName: s.Spec.SignerName, Backend: config.Name, CA: *config.CA, IsCA: s.Spec.Limits.IsCA,
			})
		default:
			return nil, fmt.Errorf("spec.backends %q: no kind is set, allowed is ca", config.Name)
		}
	}
}
