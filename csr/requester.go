// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package csr

import (
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
)

// Requester is who created a request, as the API server stamped it into the spec.
type Requester struct {
	Username string
	UID      string
	Groups   []string
	Extra    map[string]certificatesv1.ExtraValue
}

// ServiceAccount returns the namespace and name of the requester's service account, and whether it is one. Only the
// username decides; the API server hands out names with this prefix to service accounts alone.
func (r Requester) ServiceAccount() (namespace, name string, ok bool) {
	namespace, name, err := serviceaccount.SplitUsername(r.Username)
	return namespace, name, err == nil
}

// PodIdentity is the pod that a requester's token is bound to (KEP-2907, KEP-4193).
type PodIdentity struct {
	Namespace string
	Name      string
	UID       types.UID
	// NodeName is empty where the token does not name the node.
	NodeName string
}

// Pod returns the pod that the requester's token is bound to, and whether it is bound to one. An extra field that does not
// hold exactly one value makes it unbound: the API server never writes such a field.
func (r Requester) Pod() (PodIdentity, bool) {
	namespace, _, ok := r.ServiceAccount()
	name, uid := r.extra(serviceaccount.PodNameKey), r.extra(serviceaccount.PodUIDKey)
	if !ok || name == "" || uid == "" {
		return PodIdentity{}, false
	}
	return PodIdentity{Namespace: namespace, Name: name, UID: types.UID(uid), NodeName: r.extra(serviceaccount.NodeNameKey)}, true
}

// InGroup reports whether the requester is in at least one of the groups.
func (r Requester) InGroup(groups []string) bool {
	return slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(r.Groups, g) })
}

func (r Requester) extra(key string) string {
	if v := r.Extra[key]; len(v) == 1 {
		return v[0]
	}
	return ""
}
