// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package component

import (
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/certwright/certwright/approver"
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
			mgr, err := o.newController(cmd.Context(), "approver", nil)
			if err != nil {
				return err
			}
			audits := approver.NewAudits(clock.RealClock{})
			requests := approver.New(approver.Config{
				Client:  mgr.GetClient(),
				Live:    mgr.GetAPIReader(),
				Judge:   mgr.judge,
				Audits:  audits,
				Teller:  mgr.teller,
				Metrics: approver.NewMetrics(metrics.Registry),
				Clock:   clock.RealClock{},
			})
			if err := requests.SetupWithManager(cmd.Context(), mgr, o.workers); err != nil {
				return fmt.Errorf("setting up the approver: %w", err)
			}
			policies := &approver.PolicyReconciler{Client: mgr.GetClient(), Judge: mgr.judge, Audits: audits}
			if err := policies.SetupWithManager(mgr); err != nil {
				return fmt.Errorf("setting up the policies: %w", err)
			}
			return mgr.Start(cmd.Context())
		},
	}
	o.addFlags(cmd.Flags())
	return cmd
}
