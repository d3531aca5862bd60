// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/certwright/certwright/cmd/kubectl-certwright/renewal"
	"github.com/certwright/certwright/terminal"
)

func newRenew(c *cli) *cobra.Command {
	o := renew{cli: c}
	cmd := &cobra.Command{
		Use:   "renew {KIND NAME... | --signer NAME}",
		Short: "Renew the certificates of running pods before their time",
		Long: `Have the certificates of running pods renewed now, each with a new key. Agents are told to by an annotation of the pod, and do it
within a minute. Kubelets cannot be told: it is said when they will renew, and which restart has them do it now. What an init
container brought is never renewed.

KIND is pod, deployment, statefulset or daemonset. With --signer alone, all pods of the namespace that have a certificate of
this signerName are meant; with --all-namespaces, those of the cluster.

Exit codes: 0 all renew, 1 something went wrong, 2 some have to be restarted, or got no certificate.`,
		Example: `  # The pods of a Deployment, and wait for it
  kubectl certwright renew deployment web -n shop --wait

  # All pods that have a certificate of a signerName
  kubectl certwright renew --signer certwright.dev/internal --all-namespaces`,
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.selection.SignerName, "signer", "", "renew only certificates of this signerName")
	flags.BoolVarP(&o.all, "all-namespaces", "A", false, "with --signer: look in all namespaces")
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask, as is done before more than one pod is told")
	flags.BoolVar(&o.wait, "wait", false, "wait until the agents that were told have new certificates")
	flags.DurationVar(&o.timeout, "timeout", 5*time.Minute, "with --wait: how long to wait")
	cmd.ValidArgsFunction = cobra.FixedCompletions([]string{"pod", "deployment", "statefulset", "daemonset"}, cobra.ShellCompDirectiveNoFileComp)
	return cmd
}

// renew are the flags of renew.
type renew struct {
	*cli
	selection      renewal.Selection
	all, yes, wait bool
	timeout        time.Duration
}

func (o *renew) run(ctx context.Context, args []string) error {
	if err := o.arguments(args); err != nil {
		return err
	}
	k, err := o.client()
	if err != nil {
		return err
	}
	r := &renewal.Renewer{Client: k, Clock: o.clock}
	members, err := r.Find(ctx, o.selection)
	if err != nil {
		return err
	}
	plan := r.Plan(ctx, members)
	if err := plan.WriteText(o.Out, o.palette(), o.clock.Now()); err != nil {
		return err
	}
	steps := plan.Told()
	switch len(steps) {
	case 0:
		fmt.Fprintln(o.Out, "\nNone of them can be told to renew: nothing was written.")
		return exitBad
	case 1:
	default:
		fmt.Fprintln(o.Out)
		if err := o.prompt(o.yes).confirm(fmt.Sprintf("Tell %d agents to renew?", len(steps))); err != nil {
			return err
		}
	}
	since := r.Now(ctx)
	told, err := r.Tell(ctx, steps, since)
	fmt.Fprintf(o.Out, "\n%d of %d told to renew.\n", len(told), len(steps))
	bad := len(plan.Untold()) > 0
	if o.wait {
		failed, werr := o.follow(ctx, r, told, since)
		err, bad = errors.Join(err, werr), bad || failed
	}
	if err == nil && bad {
		return exitBad
	}
	return err
}

// arguments reads whose certificates are meant.
func (o *renew) arguments(args []string) error {
	if err := o.selection.ParseArguments(args); err != nil {
		return err
	}
	switch {
	case len(args) == 0 && o.selection.SignerName == "":
		return errors.New("say whose certificates: renew pod NAME, renew deployment NAME, or renew --signer NAME")
	case len(args) > 0 && o.all:
		return errors.New("--all-namespaces goes with --signer alone: a name is looked for in one namespace")
	case o.all:
		return nil
	}
	var err error
	o.selection.Namespace, err = o.namespace()
	return err
}

// follow waits for those that were told, and reports whether some got no certificate.
func (o *renew) follow(ctx context.Context, r *renewal.Renewer, told []renewal.Step, since time.Time) (failed bool, err error) {
	colors := o.palette()
	err = r.Wait(ctx, told, since, o.timeout, func(result renewal.Result) {
		mark, words := colors.Good("✓"), "renewed"
		if result.Trouble != "" {
			mark, words, failed = colors.Bad("✗"), terminal.Escape(result.Trouble), true
		}
		fmt.Fprintf(o.Out, "%s %s/%s %s (certificatesigningrequest %s)\n", mark, result.Namespace, result.Name, words, terminal.Escape(result.Request))
	})
	return failed, err
}
