// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package renewal has the certificates of pods renewed before their time, as far as what brings them allows: agents are told by an
// annotation of the pod, of kubelets it is told when they will renew, and what an init container brought is never renewed.
package renewal

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/fleet"
	"github.com/certwright/certwright/rights"
)

// Renewer acts with the rights of whoever runs it.
type Renewer struct {
	Client client.WithWatch
	Clock  clock.WithTicker
}

// Selection says whose certificates to renew.
type Selection struct {
	// Namespace to look in; empty for all.
	Namespace string
	// Kind is pod, deployment, statefulset or daemonset, and Names which of them; both empty for all pods.
	Kind  string
	Names []string
	// SignerName of the certificates; empty for any.
	SignerName string
}

// kinds are what people call the kinds of objects that pods can be named by, in the words of kubectl.
var kinds = map[string][]string{
	"pod": {"pods", "po"}, "deployment": {"deployments", "deploy", "deployment.apps"},
	"statefulset": {"statefulsets", "sts", "statefulset.apps"}, "daemonset": {"daemonsets", "ds", "daemonset.apps"},
}

// ParseArguments reads KIND NAME... or KIND/NAME as kubectl does.
func (s *Selection) ParseArguments(args []string) error {
	if len(args) == 0 {
		return nil
	}
	word := strings.ToLower(args[0])
	if kind, name, ok := strings.Cut(word, "/"); ok {
		word, args = kind, append([]string{"", name}, args[1:]...)
	}
	for kind, others := range kinds {
		if word == kind || slices.Contains(others, word) {
			s.Kind, s.Names = kind, args[1:]
		}
	}
	switch {
	case s.Kind == "":
		return fmt.Errorf("%q is not a kind of pods: must be pod, deployment, statefulset or daemonset", word)
	case len(s.Names) == 0 || slices.Contains(s.Names, ""):
		return fmt.Errorf("say which %s: renew %s NAME", s.Kind, s.Kind)
	}
	for _, name := range s.Names {
		if strings.Contains(name, "/") {
			return fmt.Errorf("%q: name further ones of the same kind without it, as in renew %s NAME NAME", name, s.Kind)
		}
	}
	return nil
}

// Find returns the pods with certificates that a selection means. Each that is named must be there and have some.
func (r *Renewer) Find(ctx context.Context, s Selection) ([]fleet.Member, error) {
	var members []fleet.Member
	var err error
	if s.Kind == "" {
		members, err = fleet.List(ctx, r.Client, s.Namespace)
	}
	for _, name := range s.Names {
		found, ferr := r.named(ctx, s, name)
		if ferr != nil {
			return nil, ferr
		}
		if found = withCertificates(found, s.SignerName); len(found) == 0 {
			return nil, fmt.Errorf("%s %s/%s has no running pod with a certificate%s", s.Kind, s.Namespace, name, of(s.SignerName))
		}
		members = append(members, found...)
	}
	if err != nil {
		return nil, err
	}
	members = withCertificates(members, s.SignerName)
	if len(members) == 0 {
		where := "in any namespace"
		if s.Namespace != "" {
			where = "in namespace " + s.Namespace
		}
		return nil, fmt.Errorf("no running pod %s has a certificate%s", where, of(s.SignerName))
	}
	return members, nil
}

func of(signerName string) string {
	if signerName == "" {
		return " of Certwright's"
	}
	return " of " + signerName
}

func withCertificates(members []fleet.Member, signerName string) []fleet.Member {
	return slices.DeleteFunc(members, func(m fleet.Member) bool {
		return m.TrustOnly || signerName != "" && m.SignerName != signerName
	})
}

// named returns the members that one object stands for.
func (r *Renewer) named(ctx context.Context, s Selection, name string) ([]fleet.Member, error) {
	key := client.ObjectKey{Namespace: s.Namespace, Name: name}
	if s.Kind == "pod" {
		var pod corev1.Pod
		if err := r.get(ctx, key, "", "pods", &pod); err != nil {
			return nil, err
		}
		return fleet.Of(&pod), nil
	}
	var object client.Object
	var selector func() *metav1.LabelSelector
	switch s.Kind {
	case "deployment":
		o := &appsv1.Deployment{}
		object, selector = o, func() *metav1.LabelSelector { return o.Spec.Selector }
	case "statefulset":
		o := &appsv1.StatefulSet{}
		object, selector = o, func() *metav1.LabelSelector { return o.Spec.Selector }
	default:
		o := &appsv1.DaemonSet{}
		object, selector = o, func() *metav1.LabelSelector { return o.Spec.Selector }
	}
	if err := r.get(ctx, key, appsv1.GroupName, s.Kind+"s", object); err != nil {
		return nil, err
	}
	match, err := metav1.LabelSelectorAsSelector(selector())
	if err != nil {
		return nil, fmt.Errorf("reading the selector of %s %s: %w", s.Kind, key, err)
	}
	return r.madeBy(ctx, object, s.Kind == "deployment", match)
}

func (r *Renewer) get(ctx context.Context, key client.ObjectKey, group, resource string, into client.Object) error {
	right := rights.Right{Verb: "get", Group: group, Resource: resource, Namespace: key.Namespace}
	return right.Explain("reading "+strings.TrimSuffix(resource, "s")+" "+key.String(), r.Client.Get(ctx, key, into))
}

// madeBy returns the members among the pods that an object controls: a Deployment by its ReplicaSets. Labels alone do not make a pod its own.
func (r *Renewer) madeBy(ctx context.Context, owner client.Object, indirectly bool, match labels.Selector) ([]fleet.Member, error) {
	in := []client.ListOption{client.InNamespace(owner.GetNamespace()), client.MatchingLabelsSelector{Selector: match}}
	owners := []client.Object{owner}
	if indirectly {
		var sets appsv1.ReplicaSetList
		right := rights.Right{Verb: "list", Group: appsv1.GroupName, Resource: "replicasets", Namespace: owner.GetNamespace()}
		if err := right.Explain("listing the replicasets of the deployment", r.Client.List(ctx, &sets, in...)); err != nil {
			return nil, err
		}
		owners = nil
		for i := range sets.Items {
			if metav1.IsControlledBy(&sets.Items[i], owner) {
				owners = append(owners, &sets.Items[i])
			}
		}
	}
	var pods corev1.PodList
	right := rights.Right{Verb: "list", Resource: "pods", Namespace: owner.GetNamespace()}
	if err := right.Explain("listing pods", r.Client.List(ctx, &pods, in...)); err != nil {
		return nil, err
	}
	var members []fleet.Member
	for i := range pods.Items {
		pod := &pods.Items[i]
		if slices.ContainsFunc(owners, func(o client.Object) bool { return metav1.IsControlledBy(pod, o) }) {
			members = append(members, fleet.Of(pod)...)
		}
	}
	return members, nil
}
