// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/signer/ca"
	"github.com/certwright/certwright/webhook"
	"github.com/certwright/certwright/webhook/mutation"
	"github.com/certwright/certwright/webhook/validation"
)

func newWebhook(openKey ca.OpenKey) *cobra.Command {
	var o options
	var agentImage, trustDistribution, usePodCertificates string
	var port int
	cmd := &cobra.Command{
		Use:   "webhook",
		Short: "Give annotated pods a key, a certificate and a trust bundle",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			config, err := clientConfig()
			if err != nil {
				return err
			}
			log := logger()
			kinds := scheme()
			reader, err := client.New(config, client.Options{Scheme: kinds})
			if err != nil {
				return fmt.Errorf("setting up a client for nodes and Signers: %w", err)
			}
			detected, err := detectDistribution(cmd.Context(), config, reader, trustDistribution)
			if err != nil {
				return err
			}
			kubelets, err := detectPodCertificates(cmd.Context(), config, reader, usePodCertificates)
			if err != nil {
				return err
			}
			server, err := webhook.New(config, webhook.Options{
				Mutator: mutation.Mutator{
					AgentImage: agentImage, TrustDomain: o.trustDomain, ClusterDomain: o.clusterDomain,
					Trust: detected.Way, PodCertificates: kubelets.PodCertificates,
				},
				Validators:             validation.Handlers(kinds, reader, newBackends(reader, reader, o.namespace, openKey).make),
				Namespace:              o.namespace,
				Port:                   port,
				MetricsBindAddress:     o.metricsAddress,
				HealthProbeBindAddress: o.healthAddress,
				Logger:                 log,
			})
			if err != nil {
				return fmt.Errorf("setting up the webhook: %w", err)
			}
			return detected.during(cmd.Context(), server.Run, func(ctx context.Context) error {
				return kubelets.follow(ctx, server.SetPodCertificates)
			})
		},
	}
	o.addFlags(cmd.Flags())
	cmd.Flags().StringVar(&agentImage, "agent-image", "", "image of the agent that is added to pods (required)")
	cmd.Flags().IntVar(&port, "port", webhook.DefaultPort, "port that serves admission requests")
	addDistributionFlag(cmd, &trustDistribution)
	addPodCertificatesFlag(cmd, &usePodCertificates)
	return cmd
}
