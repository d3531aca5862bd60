// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package explanation

import (
	"context"
	"fmt"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/csr"
)

// Myself returns who the API server takes the caller for.
func Myself(ctx context.Context, c client.Client) (csr.Requester, error) {
	var review authenticationv1.SelfSubjectReview
	if err := c.Create(ctx, &review); err != nil {
		return csr.Requester{}, fmt.Errorf("asking the API server who you are (or say who asks with --as): %w", err)
	}
	info := review.Status.UserInfo
	return csr.Requester{Username: info.Username, UID: info.UID, Groups: info.Groups, Extra: extra(info.Extra)}, nil
}

func extra[V ~[]string](from map[string]V) map[string]certificatesv1.ExtraValue {
	to := make(map[string]certificatesv1.ExtraValue, len(from))
	for key, values := range from {
		to[key] = certificatesv1.ExtraValue(values)
	}
	return to
}

// PodRequester returns the requester that a pod's agent is: its service account, by a token that is bound to the pod.
func (in *Installation) PodRequester(ctx context.Context, namespace, name string) (csr.Requester, error) {
	var pod corev1.Pod
	if err := in.Reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &pod); err != nil {
		return csr.Requester{}, fmt.Errorf("reading the pod: %w", err)
	}
	bound := map[string][]string{
		serviceaccount.PodNameKey: {pod.Name},
		serviceaccount.PodUIDKey:  {string(pod.UID)},
	}
	if pod.Spec.NodeName != "" {
		bound[serviceaccount.NodeNameKey] = []string{pod.Spec.NodeName}
	}
	return csr.Requester{Username: serviceaccount.MakeUsername(namespace, pod.Spec.ServiceAccountName), Extra: extra(bound)}, nil
}

// Impersonated returns the requester that kubectl's flags --as, --as-uid, --as-group and --as-user-extra name.
func Impersonated(username, uid string, groups, extras []string) (csr.Requester, error) {
	r := csr.Requester{Username: username, UID: uid, Groups: groups, Extra: map[string]certificatesv1.ExtraValue{}}
	for _, text := range extras {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return r, fmt.Errorf("--as-user-extra %q: must be key=value", text)
		}
		r.Extra[key] = append(r.Extra[key], value)
	}
	return r, nil
}
