// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"
	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/certwright/certwright/approver"
	"github.com/certwright/certwright/policy/judge"
)

func newApprover() *cobra.Command {
	var o controllerOptions
	cmd := &cobra.Command{
		Use:   "approver",
		Short: "Approve and deny CertificateSigningRequests by policy",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			mgr, err := o.newManager("approver", cache.Options{ByObject: map[client.Object]cache.ByObject{
				&certificatesv1.CertificateSigningRequest{}: {Transform: stripRequest},
			}})
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
			requests := &approver.Reconciler{
				Client:  mgr.GetClient(),
				Judge:   j,
				Teller:  teller(mgr.GetClient(), "approver"),
				Metrics: approver.NewMetrics(metrics.Registry),
				Clock:   clock.RealClock{},
			}
			if err := requests.SetupWithManager(mgr, o.workers); err != nil {
				return fmt.Errorf("setting up the approver: %w", err)
			}
			policies := &approver.PolicyReconciler{Client: mgr.GetClient(), Judge: j}
			if err := policies.SetupWithManager(mgr); err != nil {
				return fmt.Errorf("setting up the policies: %w", err)
			}
			return mgr.Start(cmd.Context())
		},
	}
	o.addFlags(cmd.Flags())
	return cmd
}
