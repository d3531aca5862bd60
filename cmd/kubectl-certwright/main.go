// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command kubectl-certwright is the kubectl plugin of Certwright: kubectl certwright explains decisions, shows what waits for
// a person and takes the answer, inspects certificates, has them renewed, replaces CAs, and tests, checks and proposes policies.
//
// Exit codes: 0 when all is well, 1 when something went wrong, 2 when the answer is bad: policies deny the request that
// is explained, what is inspected is of no use, a pod cannot be told to renew, a test of a policy fails. explain ends with 3 when
// no policy selects the request.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/utils/clock"

	"github.com/certwright/certwright/terminal"
	"github.com/certwright/certwright/version"
)

// exitCode is an error that says how to exit; what there was to say about it was written already.
type exitCode int

const (
	exitBad       exitCode = 2
	exitNoOpinion exitCode = 3
)

func (exitCode) Error() string { return "exit code" }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr})
	stop()
	os.Exit(code)
}

// run runs one command line and returns the exit code.
func run(ctx context.Context, args []string, streams genericiooptions.IOStreams) int {
	root := newRoot(&cli{
		IOStreams: streams,
		config:    genericclioptions.NewConfigFlags(true),
		color:     terminal.ColorAuto,
		clock:     clock.RealClock{},
	})
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	root.PrintErrln("error: " + escapeLines(err))
	if utilnet.IsConnectionRefused(err) {
		root.PrintErrln("Is that the cluster you mean? --kubeconfig, --context and the variable KUBECONFIG say which it is.")
	}
	return 1
}

func newRoot(c *cli) *cobra.Command {
	root := &cobra.Command{
		Use:   "kubectl-certwright",
		Short: "See why certificate requests are permitted or not, decide about them, inspect and renew certificates, replace CAs",
		Example: `  # What waits for a person?
  kubectl certwright pending

  # Why was this request denied?
  kubectl certwright explain csr NAME

  # What is in this Secret, and for how long is it good?
  kubectl certwright inspect secret NAME`,
		Version:       version.String(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl certwright"},
	}
	root.SetIn(c.In)
	root.SetOut(c.Out)
	root.SetErr(c.ErrOut)
	c.addFlags(root.PersistentFlags())
	completeFlag(root, "namespace", c.objects(corev1.SchemeGroupVersion.WithKind("Namespace"), false))
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w: see %s --help", err, cmd.CommandPath())
	})
	root.SetUsageTemplate(shortUsage(root.UsageTemplate()))
	root.AddCommand(newPending(c), newApprove(c), newDeny(c), newExplain(c), newInspect(c), newRenew(c), newCA(c), newPolicy(c), newVersion(c))
	return root
}

// shortUsage turns cobra's template for help into one that shows the flags of all commands, which are kubectl's and many, with
// the root command only.
func shortUsage(template string) string {
	const start, end = "Global Flags:", "{{end}}"
	before, rest, found := strings.Cut(template, start)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return template
	}
	return before + `Flags of all commands: {{.Root.DisplayName}} --help` + end + after
}
