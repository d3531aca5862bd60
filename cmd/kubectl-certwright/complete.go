// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/cmd/kubectl-certwright/renewal"
	"github.com/certwright/certwright/csr"
)

// completionTimeout is how long somebody who pressed the tab key waits.
const completionTimeout = 3 * time.Second

// only completes the first argument alone.
func only(complete cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, start string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return cobra.NoFileCompletions(cmd, args, start)
		}
		return complete(cmd, args, start)
	}
}

// objects completes names of objects of a kind; with a namespace, those in that of -n.
func (c *cli) objects(kind schema.GroupVersionKind, namespaced bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		list := &metav1.PartialObjectMetadataList{} // what a Secret holds is not read
		list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
		var in client.InNamespace
		if namespaced {
			namespace, err := c.namespace()
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			in = client.InNamespace(namespace)
		}
		return c.offer(cmd.Context(), list, client.Object.GetName, in)
	}
}

func (c *cli) signers() cobra.CompletionFunc {
	return c.objects(v1alpha1.GroupVersion.WithKind("Signer"), false)
}

// signerNames completes those of the Signers.
func (c *cli) signerNames(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return c.offer(cmd.Context(), &v1alpha1.SignerList{}, func(o client.Object) string { return o.(*v1alpha1.Signer).Spec.SignerName })
}

// requests completes names of certificate requests, of those that wait for a decision or of all.
func (c *cli) requests(undecided bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return c.offer(cmd.Context(), &certificatesv1.CertificateSigningRequestList{}, func(o client.Object) string {
			// Whoever makes a request chooses its name, of any characters, and a shell acts on what it completes.
			if len(validation.IsDNS1123Subdomain(o.GetName())) > 0 || undecided && !csr.IsUndecided(o.(*certificatesv1.CertificateSigningRequest)) {
				return ""
			}
			return o.GetName()
		})
	}
}

// renewable completes the arguments of renew: a kind, and then names.
func (c *cli) renewable(cmd *cobra.Command, args []string, start string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return []cobra.Completion{"pod", "deployment", "statefulset", "daemonset"}, cobra.ShellCompDirectiveNoFileComp
	}
	var s renewal.Selection
	if err := s.ParseArguments([]string{args[0], "any"}); err != nil {
		return cobra.NoFileCompletions(cmd, args, start)
	}
	kinds := map[string]schema.GroupVersionKind{
		"pod": corev1.SchemeGroupVersion.WithKind("Pod"), "deployment": appsv1.SchemeGroupVersion.WithKind("Deployment"),
		"statefulset": appsv1.SchemeGroupVersion.WithKind("StatefulSet"), "daemonset": appsv1.SchemeGroupVersion.WithKind("DaemonSet"),
	}
	return c.objects(kinds[s.Kind], true)(cmd, args, start)
}

// offer lists objects and offers one word for each, unless that is empty. What goes wrong offers nothing.
func (c *cli) offer(ctx context.Context, list client.ObjectList, word func(client.Object) string, options ...client.ListOption) ([]cobra.Completion, cobra.ShellCompDirective) {
	k, err := c.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	if err := k.List(ctx, list, options...); err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var words []cobra.Completion
	err = meta.EachListItem(list, func(o runtime.Object) error {
		if w := word(o.(client.Object)); w != "" && !slices.Contains(words, w) {
			words = append(words, w)
		}
		return nil
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// completeFlag has a flag completed.
func completeFlag(cmd *cobra.Command, flag string, complete cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err) // there is no such flag, or twice: a mistake in this program
	}
}
