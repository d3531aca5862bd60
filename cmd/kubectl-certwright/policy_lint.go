// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/policy/casefile"
	"github.com/certwright/certwright/policy/lint"
)

func newPolicyLint(c *cli) *cobra.Command {
	o := policyLint{cli: c}
	cmd := &cobra.Command{
		Use:   "lint {PATH... | --from-cluster}",
		Short: "Find what looks wrong in policies",
		Long: `Find what looks wrong in policies that kubectl apply would take: patterns that can never match, policies that others make
needless, grants that are wider than they seem, and bounds that are missing. Policies in files, and in directories and those
below, are looked at as if they were in force together; with --from-cluster, together with those of the cluster.

What is as it should be goes, by its ID, into an annotation of the policy: ` + lint.IgnoreAnnotation + `: "wildcard,no-quota".

Exit codes: 0 nothing found, 1 the policies cannot be read, 2 something found.`,
		Example: `  # Policies in files
  kubectl certwright policy lint policies/

  # Those of the cluster, and only what is hardly ever meant
  kubectl certwright policy lint --from-cluster --severity error`,
		RunE: func(cmd *cobra.Command, paths []string) error {
			return o.run(cmd.Context(), paths)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.fromCluster, "from-cluster", false, "look at the policies of the cluster; a file with one of the same name takes its place")
	o.severity = choice{kind: "severity", value: string(lint.Warning)}
	o.severity.addFlag(cmd, "severity", "", "least severity that counts", string(lint.Info), string(lint.Warning), string(lint.Error))
	o.output.addFlag(cmd, "text", "json", "yaml")
	return cmd
}

// policyLint are the flags of policy lint.
type policyLint struct {
	*cli
	fromCluster bool
	severity    choice
	output      format
}

func (o *policyLint) run(ctx context.Context, paths []string) error {
	if len(paths) == 0 && !o.fromCluster {
		return errors.New("say which policies: policy lint PATH..., or policy lint --from-cluster")
	}
	policies, err := o.policies(ctx, paths)
	if err != nil {
		return err
	}
	findings := slices.DeleteFunc(lint.Lint(policies), func(f lint.Finding) bool { return !f.Severity.AtLeast(lint.Severity(o.severity.value)) })
	if findings == nil {
		findings = []lint.Finding{}
	}
	if err := o.write(o.output, findings, func() error { return lint.WriteText(o.Out, o.palette(), findings) }); err != nil {
		return err
	}
	if len(findings) > 0 {
		return exitBad
	}
	return nil
}

func (o *policyLint) policies(ctx context.Context, paths []string) ([]lint.Policy, error) {
	var documents []casefile.Document
	for _, path := range paths {
		found, err := casefile.ReadPath(path)
		if err != nil {
			return nil, err
		}
		documents = append(documents, found...)
	}
	files, err := casefile.Policies(ctx, documents)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 && len(paths) > 0 {
		return nil, fmt.Errorf("no CertificatePolicy (apiVersion %s) in %q", v1alpha1.GroupVersion, paths)
	}
	var policies []lint.Policy
	for _, p := range files {
		policies = append(policies, lint.Policy{Object: p.Object, File: p.Document.File, Line: p.Document.Line})
	}
	if !o.fromCluster {
		return policies, nil
	}
	k, err := o.client()
	if err != nil {
		return nil, err
	}
	var list v1alpha1.CertificatePolicyList
	if err := k.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing certificate policies: %w", err)
	}
	for i := range list.Items {
		p := &list.Items[i]
		if !slices.ContainsFunc(files, func(f casefile.Policy) bool { return f.Object.Name == p.Name }) {
			policies = append(policies, lint.Policy{Object: p, File: "certificatepolicy/" + p.Name})
		}
	}
	return policies, nil
}
