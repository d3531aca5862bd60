// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package csr_test

import (
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/csr"
)

func TestRequesterPod(t *testing.T) {
	extra := func(values map[string][]string) map[string]certificatesv1.ExtraValue {
		out := map[string]certificatesv1.ExtraValue{}
		for key, v := range values {
			out["authentication.kubernetes.io/"+key] = v
		}
		return out
	}
	tests := map[string]struct {
		username string
		extra    map[string][]string
		want     csr.PodIdentity
		ok       bool
	}{
		"bound":          {"system:serviceaccount:shop:web", map[string][]string{"pod-name": {"web-0"}, "pod-uid": {"u"}, "node-name": {"n"}}, csr.PodIdentity{Namespace: "shop", Name: "web-0", UID: "u", NodeName: "n"}, true},
		"no node":        {"system:serviceaccount:shop:web", map[string][]string{"pod-name": {"web-0"}, "pod-uid": {"u"}}, csr.PodIdentity{Namespace: "shop", Name: "web-0", UID: "u"}, true},
		"no UID":         {"system:serviceaccount:shop:web", map[string][]string{"pod-name": {"web-0"}}, csr.PodIdentity{}, false},
		"two names":      {"system:serviceaccount:shop:web", map[string][]string{"pod-name": {"web-0", "web-1"}, "pod-uid": {"u"}}, csr.PodIdentity{}, false},
		"a person":       {"jo", map[string][]string{"pod-name": {"web-0"}, "pod-uid": {"u"}}, csr.PodIdentity{}, false},
		"a broken name":  {"system:serviceaccount:shop", map[string][]string{"pod-name": {"web-0"}, "pod-uid": {"u"}}, csr.PodIdentity{}, false},
		"not from a pod": {"system:serviceaccount:shop:web", nil, csr.PodIdentity{}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, ok := csr.Requester{Username: tt.username, Extra: extra(tt.extra)}.Pod()
			if got != tt.want || ok != tt.ok {
				t.Errorf("got %+v, %t; want %+v, %t", got, ok, tt.want, tt.ok)
			}
		})
	}
	r := csr.Requester{Groups: []string{"a", "b"}}
	if !r.InGroup([]string{"x", "b"}) || r.InGroup([]string{"x"}) || r.InGroup(nil) {
		t.Error("InGroup is wrong")
	}
}
