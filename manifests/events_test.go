// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests

import "testing"

// TestEvents: who gets hold of the approver or the signer cannot speak for others, about anything, or fill etcd beside a short note.
func TestEvents(t *testing.T) {
	about := func(apiVersion, kind string) object {
		return object{
			"metadata": object{"name": "web-0.1"}, "reportingController": "certwright.dev/certwright-signer", "note": "text",
			"regarding": object{"apiVersion": apiVersion, "kind": kind, "name": "web-0"},
		}
	}
	pod, csr := about("v1", "Pod"), about("certificates.k8s.io/v1", "CertificateSigningRequest")
	labelled := func(key string, value any) object {
		return with(pod, "metadata", object{"name": "web-0.1", key: value})
	}
	by := func(user string, in string, o object) map[string]any {
		shown := signerWrites("CREATE", "events", in, o)
		shown["request"].(object)["userInfo"] = object{"username": user}
		return shown
	}
	signer := func(in string, o object) map[string]any { return signerWrites("CREATE", "events", in, o) }
	const approver, kubelet = "system:serviceaccount:certwright-system:certwright-approver", "system:node:node-1"
	for name, c := range map[string]struct {
		shown   map[string]any
		refused bool
	}{
		"about a pod":                             {signer("shop", pod), false},
		"about a pod in default":                  {signer("default", pod), false},
		"about a PodCertificateRequest":           {signer("shop", about("certificates.k8s.io/v1", "PodCertificateRequest")), false},
		"about one of v1beta1":                    {signer("shop", about("certificates.k8s.io/v1beta1", "PodCertificateRequest")), false},
		"about a request":                         {signer("default", csr), false},
		"about a Signer":                          {signer("default", about("certwright.dev/v1alpha1", "Signer")), false},
		"of the approver":                         {by(approver, "shop", with(pod, "reportingController", "certwright.dev/certwright-approver")), false},
		"of leader election":                      {signer(namespace, with(about("coordination.k8s.io/v1", "Lease"), "reportingController", "certwright-signer_1")), false},
		"of a kubelet":                            {by(kubelet, "shop", with(about("v1", "Node"), "reportingController", "kubelet")), false},
		"of a service account of a like name":     {by("system:serviceaccount:shop:certwright-signer", "shop", about("v1", "Node")), false},
		"about a request, in another namespace":   {signer("shop", csr), true},
		"about a Secret":                          {signer("shop", about("v1", "Secret")), true},
		"about a Node":                            {signer("default", about("v1", "Node")), true},
		"about a pod of another group":            {signer("shop", about("example.com/v1", "Pod")), true},
		"of a kubelet, says the signer":           {signer("shop", with(pod, "reportingController", "kubelet")), true},
		"of the approver, says the signer":        {signer("shop", with(pod, "reportingController", "certwright.dev/certwright-approver")), true},
		"of the signer, says the approver":        {by(approver, "shop", pod), true},
		"with another object":                     {signer("shop", with(pod, "related", object{"kind": "Secret"})), true},
		"with an annotation":                      {signer("shop", labelled("annotations", object{"a": "long"})), true},
		"with a label":                            {signer("shop", labelled("labels", object{"a": "b"})), true},
		"with a finalizer":                        {signer("shop", labelled("finalizers", []any{"example.com/stay"})), true},
		"with an owner":                           {signer("shop", labelled("ownerReferences", []any{object{"kind": "Pod"}})), true},
		"about a pod, in the approver's own name": {by(approver, "shop", with(pod, "reportingController", "certwright-approver")), true},
	} {
		if got := refuses(t, "certwright-events", c.shown); got != c.refused {
			t.Errorf("an event %s: refused %t, want %t", name, got, c.refused)
		}
	}
}
