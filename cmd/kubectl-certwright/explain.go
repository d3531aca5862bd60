// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/casefile"
	"github.com/certwright/certwright/policy/explanation"
)

func newExplain(c *cli) *cobra.Command {
	o := explain{cli: c}
	cmd := &cobra.Command{
		Use:   "explain {csr NAME | -f FILE}",
		Short: "Explain what policies say to a certificate request, rule by rule",
		Long: `Explain what becomes of a certificate request: for each policy, whether it selects the request and why, each rule with pass
or fail, and what would have to change. The code that decides in the cluster decides here.

A request comes from the cluster (csr NAME) or from a file (-f): a CertificateSigningRequest, a PKCS #10 request in PEM with
--signer and --usages, or a request in words. With -f, --as and its companions say who asks, and --pod which pod's agent
does; without them it is who the file says or, failing that, you.

Policies come from the cluster or from --policies, and what is known about the requester from the cluster or from --facts.
With both flags no cluster is needed. Quotas are not looked at.

Exit codes: 0 permitted, 1 something went wrong, 2 denied, 3 no policy selects the request.`,
		Example: `  # A request in the cluster
  kubectl certwright explain csr NAME

  # May this pod have this certificate?
  kubectl certwright explain -f request.pem --signer certwright.dev/internal --usages "digital signature,server auth" --pod web-0 -n shop

  # Before anything is applied, without a cluster
  kubectl certwright explain -f request.yaml --policies policies/ --facts facts.yaml`,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, start string) ([]cobra.Completion, cobra.ShellCompDirective) {
			switch len(args) {
			case 0:
				return []cobra.Completion{"csr"}, cobra.ShellCompDirectiveNoFileComp
			case 1:
				return c.requests(false)(cmd, args, start)
			}
			return cobra.NoFileCompletions(cmd, args, start)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), args)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.file, "filename", "f", "", "file with the request; - for standard input")
	flags.StringVar(&o.signer, "signer", "", "with -f: the signerName to ask")
	flags.StringSliceVar(&o.usages, "usages", nil, "with -f: the usages to ask for, such as \"digital signature,server auth\"")
	flags.StringVar(&o.pod, "pod", "", "with -f: ask as the agent of this pod, in the namespace of -n")
	flags.StringVar(&o.policies, "policies", "", "file or directory with the policies to ask, instead of those of the cluster")
	flags.StringVar(&o.facts, "facts", "", "file with what is known about the requester, instead of what the cluster knows")
	completeFlag(cmd, "signer", c.signerNames)
	completeFlag(cmd, "pod", c.objects(corev1.SchemeGroupVersion.WithKind("Pod"), true))
	o.output.addFlag(cmd, "text", "json", "yaml")
	return cmd
}

// explain are the flags of explain.
type explain struct {
	*cli
	file, signer, pod, policies, facts string
	usages                             []string
	output                             format

	reader client.WithWatch
}

func (o *explain) run(ctx context.Context, args []string) error {
	object, err := o.request(ctx, args)
	if err != nil {
		return err
	}
	var notes []string
	policies, err := o.loadPolicies(ctx, &notes)
	if err != nil {
		return err
	}
	facts, err := o.loadFacts(ctx, &notes)
	if err != nil {
		return err
	}
	e, err := explanation.New(object, facts, policies)
	if err != nil {
		return err
	}
	e.Notes = append(e.Notes, notes...)
	if err := o.write(o.output, e, func() error { return e.WriteText(o.Out, o.palette(), o.clock.Now()) }); err != nil {
		return err
	}
	switch e.Decided() {
	case policy.Permit:
		return nil
	case policy.Deny:
		return exitBad
	default:
		return exitNoOpinion
	}
}

// request returns the request to explain.
func (o *explain) request(ctx context.Context, args []string) (*certificatesv1.CertificateSigningRequest, error) {
	switch {
	case o.file == "" && len(args) == 2 && args[0] == "csr":
		if o.signer != "" || o.pod != "" || len(o.usages) > 0 {
			return nil, errors.New("--signer, --usages and --pod go with -f: a request of the cluster says these itself")
		}
		k, err := o.client()
		if err != nil {
			return nil, err
		}
		o.reader = k
		object := &certificatesv1.CertificateSigningRequest{}
		if err := k.Get(ctx, client.ObjectKey{Name: args[1]}, object); err != nil {
			return nil, fmt.Errorf("reading the certificatesigningrequest: %w", err)
		}
		return object, nil
	case o.file != "" && len(args) == 0:
		return o.requestFromFile(ctx)
	}
	return nil, errors.New("say which request: explain csr NAME, or explain -f FILE")
}

func (o *explain) requestFromFile(ctx context.Context) (*certificatesv1.CertificateSigningRequest, error) {
	_, data, err := o.readFile(o.file)
	if err != nil {
		return nil, err
	}
	object, err := casefile.ReadRequest(o.file, data)
	if err != nil {
		return nil, err
	}
	if o.signer != "" {
		object.Spec.SignerName = o.signer
	}
	if len(o.usages) > 0 {
		object.Spec.Usages = nil
		for _, usage := range o.usages {
			object.Spec.Usages = append(object.Spec.Usages, certificatesv1.KeyUsage(usage))
		}
	}
	if object.Spec.SignerName == "" {
		return nil, fmt.Errorf("%s does not say which signerName it asks: give --signer, such as certwright.dev/internal", o.file)
	}
	if len(object.Spec.Usages) == 0 {
		return nil, fmt.Errorf(`%s does not say for which usages it asks: give --usages, such as "digital signature,server auth"`, o.file)
	}
	return object, o.stamp(ctx, object)
}

// stamp says who asks.
func (o *explain) stamp(ctx context.Context, object *certificatesv1.CertificateSigningRequest) error {
	c := o.config
	var requester csr.Requester
	var err error
	switch {
	case *c.Impersonate != "" && o.pod != "":
		return errors.New("--as and --pod both say who asks: give one of them")
	case *c.Impersonate != "":
		requester, err = explanation.Impersonated(*c.Impersonate, *c.ImpersonateUID, *c.ImpersonateGroup, *c.ImpersonateUserExtra)
	case o.pod != "":
		requester, err = o.podRequester(ctx)
	case object.Spec.Username != "":
		return nil
	case o.offline():
		return fmt.Errorf("%s does not say who asks: give --as, such as --as system:serviceaccount:shop:web", o.file)
	default:
		k, kerr := o.reading()
		if kerr != nil {
			return kerr
		}
		requester, err = explanation.Myself(ctx, k)
	}
	if err != nil {
		return err
	}
	casefile.Stamp(object, requester)
	return nil
}

func (o *explain) podRequester(ctx context.Context) (csr.Requester, error) {
	k, err := o.reading()
	if err != nil {
		return csr.Requester{}, err
	}
	namespace, err := o.namespace()
	if err != nil {
		return csr.Requester{}, err
	}
	return o.installation(k).PodRequester(ctx, namespace, o.pod)
}

func (o *explain) offline() bool { return o.policies != "" && o.facts != "" }

// reading returns the client to read with. With -f, --as says who asks and not who reads.
func (o *explain) reading() (client.WithWatch, error) {
	if o.reader != nil {
		return o.reader, nil
	}
	var err error
	o.reader, err = o.ownClient()
	return o.reader, err
}

func (o *explain) loadPolicies(ctx context.Context, notes *[]string) ([]*policy.Policy, error) {
	if o.policies != "" {
		files, err := casefile.LoadPolicies(ctx, o.policies)
		return casefile.Compiled(files), err
	}
	k, err := o.reading()
	if err != nil {
		return nil, err
	}
	policies, found, err := o.installation(k).Policies(ctx)
	*notes = append(*notes, found...)
	return policies, err
}

func (o *explain) loadFacts(ctx context.Context, notes *[]string) (func(csr.Request) (policy.Facts, error), error) {
	if o.facts == "" {
		k, err := o.reading()
		if err != nil {
			return nil, err
		}
		return o.installation(k).Facts(ctx, notes), nil
	}
	_, data, err := o.readFile(o.facts)
	if err != nil {
		return nil, err
	}
	facts, err := casefile.ReadFacts(o.facts, data)
	if err != nil {
		return nil, err
	}
	return func(req csr.Request) (policy.Facts, error) {
		known, err := facts.For(req.Requester)
		if err != nil {
			return known, fmt.Errorf("%s: %w", o.facts, err)
		}
		if o.trustDomain != "" {
			known.TrustDomain = o.trustDomain
		}
		if o.clusterDomain != "" {
			known.ClusterDomain = o.clusterDomain
		}
		return known, nil
	}, nil
}
