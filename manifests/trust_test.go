// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"testing"

	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/certwright/certwright/api/v1alpha1"
)

// TestTrustIsWrittenByTheSignerOnly: who may write the ConfigMaps of a namespace does not decide whom its pods trust.
func TestTrustIsWrittenByTheSignerOnly(t *testing.T) {
	bundle := func(text string, more ...func(object)) object {
		o := object{"metadata": object{"name": v1alpha1.TrustConfigMap}, "data": object{"certwright.dev_internal.pem": text}}
		for _, change := range more {
			change(o)
		}
		return o
	}
	set := func(key string, value any) func(object) { return func(o object) { o[key] = value } }
	metadata := func(key string, value any) func(object) {
		return func(o object) { o["metadata"].(object)[key] = value }
	}
	const (
		neighbour = "system:serviceaccount:shop:deployer"
		collector = "system:serviceaccount:kube-system:generic-garbage-collector"
	)
	signer := "system:serviceaccount:" + namespace + ":" + serviceAccount("signer").Name
	attestsFor := func(name string) func(authorizer.Attributes) bool {
		return func(a authorizer.Attributes) bool {
			return a.GetVerb() == "attest" && a.GetAPIGroup() == "certificates.k8s.io" && a.GetResource() == "signers" && a.GetName() == name
		}
	}
	good, planted := bundle("good"), bundle("planted")
	for name, c := range map[string]struct {
		user          string
		may           func(authorizer.Attributes) bool
		before, after object
		refused       bool
	}{
		"made by a neighbour":                     {neighbour, nil, nil, planted, true},
		"made by a neighbour, empty":              {neighbour, nil, nil, object{"metadata": object{"name": v1alpha1.TrustConfigMap}}, true},
		"changed by a neighbour":                  {neighbour, nil, good, planted, true},
		"changed by who attests for one signer":   {neighbour, attestsFor("certwright.dev/internal"), good, planted, true},
		"emptied":                                 {neighbour, nil, good, object{"metadata": object{"name": v1alpha1.TrustConfigMap}}, true},
		"given a truststore":                      {neighbour, nil, good, bundle("good", set("binaryData", object{"certwright.dev_internal.p12": "AA=="})), true},
		"with another truststore":                 {neighbour, nil, bundle("good", set("binaryData", object{"a.p12": "AA=="})), bundle("good", set("binaryData", object{"a.p12": "AQ=="})), true},
		"frozen, so that no root is ever added":   {neighbour, nil, good, bundle("good", set("immutable", true)), true},
		"labelled, so that the signer loses it":   {neighbour, nil, good, bundle("good", metadata("labels", object{"a": "b"})), true},
		"changed by a signer of another place":    {"system:serviceaccount:shop:certwright-signer", nil, good, planted, true},
		"made by the signer":                      {signer, nil, nil, good, false},
		"changed by the signer":                   {signer, nil, good, planted, false},
		"changed by an administrator":             {"kubernetes-admin", attestsFor(""), good, planted, false},
		"owners changed by the garbage collector": {collector, nil, bundle("good", metadata("ownerReferences", []any{object{"name": "a"}})), good, false},
		"of another name":                         {neighbour, nil, nil, with(planted, "metadata", object{"name": "web"}), false},
		"of a name that the API server chooses":   {neighbour, nil, nil, with(planted, "metadata", object{"generateName": "certwright-"}), false},
	} {
		operation := "UPDATE"
		if c.before == nil {
			operation = "CREATE"
		}
		shown := map[string]any{
			"object": c.after, "oldObject": c.before,
			"request": object{"operation": operation, "userInfo": object{"username": c.user}}, "authorizer": c.may,
		}
		if got := refuses(t, "certwright-trust-configmaps", shown); got != c.refused {
			t.Errorf("a ConfigMap of bundles, %s: refused %t, want %t", name, got, c.refused)
		}
	}
}
