// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/cmd/kubectl-certwright/renewal"
	"github.com/certwright/certwright/gate"
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
  kubectl certwright renew --signer certwright.dev/internal --all-namespaces

  # Which would have to be restarted, for a program
  kubectl certwright renew --signer certwright.dev/internal --dry-run -o json`,
		ValidArgsFunction: c.renewable,
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.selection.SignerName, "signer", "", "renew only certificates of this signerName")
	flags.BoolVarP(&o.all, "all-namespaces", "A", false, "with --signer: look in all namespaces")
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask, as is done before more than one pod is told")
	flags.BoolVar(&o.wait, "wait", false, "wait until the agents that were told have new certificates")
	flags.DurationVar(&o.timeout, "timeout", 5*time.Minute, "with --wait: how long to wait")
	o.dryRun.addFlag(cmd)
	o.output.addFlag(cmd, "text", "json", "yaml")
	completeFlag(cmd, "signer", c.signerNames)
	return cmd
}

// renew are the flags of renew.
type renew struct {
	*cli
	selection      renewal.Selection
	all, yes, wait bool
	timeout        time.Duration
	dryRun         dryRun
	output         format
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
	outcomes := plan.Outcomes(o.clock.Now())
	if !o.output.forPrograms() {
		return o.act(ctx, r, plan, outcomes, o.Out)
	}
	if plan.Problem != nil {
		fmt.Fprintf(o.ErrOut, "note: when kubelets renew is not known: %s\n", terminal.Escape(plan.Problem.Error()))
	}
	err = o.act(ctx, r, plan, outcomes, io.Discard)
	if errors.Is(err, gate.ErrDeclined) {
		return err
	}
	return errors.Join(o.write(o.output, outcomes, nil), err)
}

// act says what becomes of the pods, asks, has it done, and notes what came of it.
func (o *renew) act(ctx context.Context, r *renewal.Renewer, plan renewal.Plan, outcomes renewal.Outcomes, out io.Writer) error {
	if err := plan.WriteText(out, o.palette(), o.clock.Now()); err != nil {
		return err
	}
	steps := plan.Told()
	if len(steps) == 0 {
		fmt.Fprintln(out, "\nNone of them can be told to renew: nothing was written.")
		return exitBad
	}
	bad := len(plan.Untold()) > 0
	if o.dryRun.wanted() {
		return o.pretend(ctx, r, steps, bad, out)
	}
	if len(steps) > 1 {
		fmt.Fprintln(out)
		if err := o.confirm(len(steps)); err != nil {
			return err
		}
	}
	since := r.Now(ctx)
	told, err := r.Tell(ctx, steps, since)
	outcomes.Tell(told)
	fmt.Fprintf(out, "\n%d of %d told to renew.\n", len(told), len(steps))
	if o.wait {
		failed, werr := o.follow(ctx, r, told, since, outcomes, out)
		err, bad = errors.Join(err, werr), bad || failed
	}
	if err == nil && bad {
		return exitBad
	}
	return err
}

// pretend says what would be written, after the API server has checked it if that is wanted.
func (o *renew) pretend(ctx context.Context, r *renewal.Renewer, steps []renewal.Step, bad bool, out io.Writer) error {
	if o.dryRun.asksServer() {
		var err error
		if steps, err = r.Tell(ctx, steps, r.Now(ctx), client.DryRunAll); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "\n%d would be told to renew: nothing was written.\n", len(steps))
	if bad {
		return exitBad
	}
	return nil
}

func (o *renew) confirm(agents int) error {
	p := o.prompt(o.yes)
	if o.output.forPrograms() {
		p.ask = false // the answer is for a program, and so is the question
	}
	return p.confirm(fmt.Sprintf("Tell %d agents to renew?", agents))
}

// arguments reads whose certificates are meant.
func (o *renew) arguments(args []string) error {
	if err := o.selection.ParseArguments(args); err != nil {
		return err
	}
	switch {
	case len(args) == 0 && o.selection.SignerName == "":
		return errors.New("say whose certificates: renew pod NAME, renew deployment NAME, or renew --signer NAME")
	case o.dryRun.wanted() && o.wait:
		return errors.New("--wait waits for what is done, and --dry-run does nothing: leave one of them out")
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
func (o *renew) follow(ctx context.Context, r *renewal.Renewer, told []renewal.Step, since time.Time, outcomes renewal.Outcomes, out io.Writer) (failed bool, err error) {
	colors := o.palette()
	err = r.Wait(ctx, told, since, o.timeout, func(result renewal.Result) {
		outcomes.End(result)
		mark, words := colors.Good("✓"), "renewed"
		if result.Trouble != "" {
			mark, words, failed = colors.Bad("✗"), terminal.Escape(result.Trouble), true
		}
		fmt.Fprintf(out, "%s %s/%s %s (certificatesigningrequest %s)\n", mark, result.Namespace, result.Name, words, terminal.Escape(result.Request))
	})
	return failed, err
}
