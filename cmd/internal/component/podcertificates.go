// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/ability"
)

// podCertificates says what kubelets can do about certificates for pods.
type podCertificates struct {
	ability.PodCertificates
	detector ability.PodCertificatesDetector
}

func addPodCertificatesFlag(cmd *cobra.Command, value *string) {
	cmd.Flags().StringVar(value, "pod-certificates", string(ability.Auto),
		"whether kubelets get certificates for pods that leave it open: always, never, or auto for where PodCertificateRequests are served in v1 and every kubelet is 1.37 or newer")
}

// detectPodCertificates reads nodes from the reader, which is no cache.
func detectPodCertificates(ctx context.Context, config *rest.Config, reader client.Reader, flag string) (podCertificates, error) {
	use, err := ability.ParseUse(flag)
	if err != nil {
		return podCertificates{}, fmt.Errorf("--pod-certificates: %w", err)
	}
	api, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return podCertificates{}, fmt.Errorf("setting up discovery: %w", err)
	}
	p := podCertificates{detector: ability.PodCertificatesDetector{
		Cluster: ability.Cluster{API: api, Nodes: reader}, Use: use, Clock: clock.RealClock{},
	}}
	p.PodCertificates, err = p.detector.Detect(ctx)
	return p, err
}

// follow tells what kubelets can do whenever that changes.
func (p podCertificates) follow(ctx context.Context, changed func(ability.PodCertificates)) error {
	return p.detector.Follow(ctx, p.PodCertificates, changed)
}
