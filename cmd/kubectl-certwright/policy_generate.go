// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/certwright/certwright/policy/casefile"
	"github.com/certwright/certwright/policy/propose"
	"github.com/certwright/certwright/terminal"
)

func newPolicyGenerate(c *cli) *cobra.Command {
	o := policyGenerate{cli: c}
	cmd := &cobra.Command{
		Use:   "generate {--from-cluster | -f PATH}",
		Short: "Propose policies from requests that were made",
		Long: `Propose policies that permit the requests for which certificates were issued, and little else: a starting point for people who
write policies. Names that facts about the requester explain become placeholders, others stay as they are, and nobody is
selected who did not ask. Comments say how many requests each line rests on.

What is proposed is held against every request by the code that decides. Requests that it does not permit are told on
standard error. Read it before you apply it: what was issued is not always what should have been.

Kubernetes deletes requests an hour after they were decided about, so that --from-cluster sees the last hour.

Exit codes: 0 all requests are permitted, 1 something went wrong, 2 some are not permitted.`,
		Example: `  # From the last hour
  kubectl certwright policy generate --from-cluster --signer certwright.dev/internal > policies.yaml

  # From requests that were kept
  kubectl get csr -o yaml > requests.yaml
  kubectl certwright policy generate -f requests.yaml`,
		Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.fromCluster, "from-cluster", false, "look at the requests of the cluster")
	flags.StringVarP(&o.file, "filename", "f", "", "file or directory with requests, as kubectl get csr -o yaml prints them or in words; - for standard input")
	flags.StringVar(&o.signer, "signer", "", "look at requests for this signerName only")
	completeFlag(cmd, "signer", c.signerNames)
	return cmd
}

// policyGenerate are the flags of policy generate.
type policyGenerate struct {
	*cli
	fromCluster  bool
	file, signer string
}

func (o *policyGenerate) run(ctx context.Context) error {
	if o.fromCluster == (o.file != "") {
		return errors.New("say which requests: policy generate --from-cluster, or policy generate -f PATH")
	}
	source := &propose.Source{SignerName: o.signer}
	seen, err := o.seen(ctx, source)
	for _, note := range source.Notes {
		fmt.Fprintf(o.ErrOut, "note: %s\n", terminal.Escape(note))
	}
	if err != nil {
		return err
	}
	if len(seen) == 0 {
		return errors.New("no request to propose a policy from: certificates must have been issued for it, and not by a signerName of Kubernetes")
	}
	proposal, err := propose.New(ctx, seen)
	if err != nil {
		return err
	}
	if _, err := o.Out.Write(proposal.YAML); err != nil {
		return err
	}
	for _, refused := range proposal.Refused {
		fmt.Fprintf(o.ErrOut, "not permitted by the proposal: %s: %s\n", terminal.Escape(refused.Name), terminal.Escape(refused.Reason))
	}
	if len(proposal.Refused) > 0 {
		return exitBad
	}
	return nil
}

func (o *policyGenerate) seen(ctx context.Context, source *propose.Source) ([]propose.Seen, error) {
	if o.fromCluster {
		k, err := o.client()
		if err != nil {
			return nil, err
		}
		return source.Cluster(ctx, o.installation(k))
	}
	documents, err := o.documents()
	if err != nil {
		return nil, err
	}
	return source.Documents(documents, casefile.Facts{TrustDomain: o.trustDomain, ClusterDomain: o.clusterDomain})
}

func (o *policyGenerate) documents() ([]casefile.Document, error) {
	if o.file != "-" {
		return casefile.ReadPath(o.file)
	}
	source, data, err := o.readFile(o.file)
	if err != nil {
		return nil, err
	}
	return casefile.Read(source, data)
}
