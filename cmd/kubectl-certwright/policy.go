// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/certwright/certwright/policy/policytest"
)

func newPolicy(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Test, check and propose CertificatePolicies",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPolicyTest(c), newPolicyLint(c), newPolicyGenerate(c))
	return cmd
}

func newPolicyTest(c *cli) *cobra.Command {
	o := policyTest{cli: c}
	cmd := &cobra.Command{
		Use:   "test PATH...",
		Short: "Run test cases against policies, without a cluster",
		Long: `Run the test cases in files, and in directories and those below: documents of kind PolicyTest. Each case is a request and what
would be known about its requester; the code that decides in the cluster decides here, and what it decides is held against
what the case expects. Policies get the defaults and checks that kubectl apply would give them.

Exit codes: 0 all cases passed, 1 the cases cannot be run, 2 cases failed or --coverage-min is not reached.`,
		Example: `  # All cases below a directory, and the rules that none of them touches
  kubectl certwright policy test --coverage policies/

  # In CI
  kubectl certwright policy test -o junit --coverage-min 100 policies/ > report.xml`,
		Args: between(1, anyNumber),
		RunE: func(cmd *cobra.Command, paths []string) error {
			return o.run(cmd.Context(), paths)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&o.verbose, "verbose", "v", false, "show the cases that passed as well")
	flags.StringVar(&o.filter, "run", "", "run only the cases whose name this regular expression matches")
	flags.BoolVar(&o.coverage, "coverage", false, "list the rules that no case touches, and the fields by which none is refused")
	flags.Float64Var(&o.coverageMin, "coverage-min", 0, "percentage of rules that cases must touch")
	o.output.addFlag(cmd, "text", "junit", "tap", "json")
	return cmd
}

// policyTest are the flags of policy test.
type policyTest struct {
	*cli
	verbose, coverage bool
	filter            string
	coverageMin       float64
	output            format
}

func (o *policyTest) run(ctx context.Context, paths []string) error {
	if o.coverageMin < 0 || o.coverageMin > 100 {
		return fmt.Errorf("--coverage-min %g: must be from 0 to 100", o.coverageMin)
	}
	var filter *regexp.Regexp
	if o.filter != "" {
		var err error
		if filter, err = regexp.Compile(o.filter); err != nil {
			return fmt.Errorf("--run %q: %w", o.filter, err)
		}
	}
	suites, err := policytest.Load(ctx, paths...)
	if err != nil {
		return err
	}
	report, err := policytest.Run(suites, filter)
	if err != nil {
		return err
	}
	if len(report.Results) == 0 {
		return fmt.Errorf("--run %q matches the name of no case", o.filter)
	}
	if err := o.report(report); err != nil {
		return err
	}
	short := report.Coverage.Percent() < o.coverageMin
	if short {
		fmt.Fprintf(o.ErrOut, "the cases touch %.1f %% of the rules; --coverage-min wants %g %%\n", report.Coverage.Percent(), o.coverageMin)
	}
	if short || report.Failed > 0 {
		return exitBad
	}
	return nil
}

func (o *policyTest) report(report *policytest.Report) error {
	coverage := o.coverage || report.Coverage.Percent() < o.coverageMin
	switch o.output.value {
	case "json":
		return report.WriteJSON(o.Out)
	case "tap":
		return report.WriteTAP(o.Out, coverage)
	case "junit":
		if coverage {
			// The format has no place for it.
			if err := report.Coverage.WriteText(o.ErrOut); err != nil {
				return err
			}
		}
		return report.WriteJUnit(o.Out)
	}
	return policytest.Text{Colors: o.palette(), Verbose: o.verbose, Coverage: coverage}.Write(o.Out, report)
}
