// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/certwright/certwright/inspect"
)

func newInspect(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect",
		Short: "Show and judge certificates, chains, keys and requests",
		Long: `Show what certificates hold, and judge them: does the chain lead to the trust bundle, does the private key match, when do
they expire. Private keys are never shown.

Exit code 2 says that something is wrong with what was found.`,
		Args: cobra.NoArgs, // refuses a subcommand that does not exist
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var output format
	add := func(sub *cobra.Command, find func(ctx context.Context, name string) (inspect.Report, error)) {
		sub.Args = between(1, 1)
		sub.RunE = func(cmd *cobra.Command, args []string) error {
			report, err := find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			now := c.clock.Now()
			err = c.write(output, report, func() error { return report.WriteText(c.Out, c.palette(), now) })
			if err == nil && report.HasErrors() {
				return exitBad
			}
			return err
		}
		output.addFlag(sub, "text", "json", "yaml")
		cmd.AddCommand(sub)
	}
	add(&cobra.Command{
		Use:               "csr NAME",
		Short:             "A CertificateSigningRequest and its certificate",
		Example:           "  kubectl certwright inspect csr NAME",
		ValidArgsFunction: only(c.requests(false)),
	}, func(ctx context.Context, name string) (inspect.Report, error) {
		cluster, err := c.cluster()
		if err != nil {
			return inspect.Report{}, err
		}
		return cluster.CSR(ctx, name)
	})
	add(&cobra.Command{
		Use:               "secret NAME",
		Short:             "The tls.crt, tls.key and ca.crt of a Secret",
		Example:           "  kubectl certwright inspect secret NAME -n shop",
		ValidArgsFunction: only(c.objects(corev1.SchemeGroupVersion.WithKind("Secret"), true)),
	}, func(ctx context.Context, name string) (inspect.Report, error) {
		return c.inNamespace(ctx, name, inspect.Cluster.Secret)
	})
	add(&cobra.Command{
		Use:   "pod NAME",
		Short: "What a pod asks for, its agent, and its newest requests",
		Long: `Show what a pod asks for by its annotations, how its agent is, and the newest requests that were made with a token bound
to this very pod. Files in the pod are not read.`,
		Example:           "  kubectl certwright inspect pod NAME -n shop",
		ValidArgsFunction: only(c.objects(corev1.SchemeGroupVersion.WithKind("Pod"), true)),
	}, func(ctx context.Context, name string) (inspect.Report, error) {
		return c.inNamespace(ctx, name, inspect.Cluster.Pod)
	})
	add(&cobra.Command{
		Use:   "dir PATH",
		Short: "The tls.crt, tls.key and ca.crt of a directory",
		Example: `  # In a container that shell can be had in
  kubectl certwright inspect dir /var/run/secrets/certwright.dev/tls`,
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs),
	}, func(_ context.Context, path string) (inspect.Report, error) {
		return inspect.Directory(path, c.clock.Now())
	})
	c.addInspectFile(add)
	return cmd
}

// addInspectFile adds the subcommand for files, which has a flag of its own.
func (c *cli) addInspectFile(add func(*cobra.Command, func(context.Context, string) (inspect.Report, error))) {
	var bundle string
	sub := &cobra.Command{
		Use:   "file PATH",
		Short: "Certificates, a request or a key in PEM",
		Example: `  kubectl certwright inspect file chain.pem --ca root.pem

  # What a server shows
  openssl s_client -connect example.com:443 -showcerts </dev/null | kubectl certwright inspect file -`,
	}
	sub.Flags().StringVar(&bundle, "ca", "", "file with the trust bundle that the chain should lead to")
	add(sub, func(_ context.Context, path string) (inspect.Report, error) {
		var anchors *inspect.Anchors
		if bundle != "" {
			data, err := inspect.ReadFile(bundle)
			if err != nil {
				return inspect.Report{}, err
			}
			if anchors, err = inspect.ParseAnchors("file "+bundle, data); err != nil {
				return inspect.Report{}, err
			}
		}
		source, data, err := c.readFile(path)
		if err != nil {
			return inspect.Report{}, err
		}
		return inspect.PEM(source, data, anchors, c.clock.Now())
	})
}

// readFile reads a file, or standard input for "-".
func (c *cli) readFile(path string) (source string, data []byte, err error) {
	if path == "-" {
		data, err = io.ReadAll(io.LimitReader(c.In, inspect.MaxBytes+1))
		return "standard input", data, err
	}
	data, err = inspect.ReadFile(path)
	return "file " + path, data, err
}

func (c *cli) cluster() (inspect.Cluster, error) {
	k, err := c.client()
	return inspect.Cluster{Reader: k, Clock: c.clock}, err
}

func (c *cli) inNamespace(ctx context.Context, name string, find func(c inspect.Cluster, ctx context.Context, namespace, name string) (inspect.Report, error)) (inspect.Report, error) {
	cluster, err := c.cluster()
	if err != nil {
		return inspect.Report{}, err
	}
	namespace, err := c.namespace()
	if err != nil {
		return inspect.Report{}, err
	}
	return find(cluster, ctx, namespace, name)
}
