// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"errors"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/certwright/certwright/trust"
)

// served says which resources an API server has, by group and version.
type served map[string][]string

func (s served) ServerResourcesForGroupVersion(gv string) (*metav1.APIResourceList, error) {
	names, ok := s[gv]
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{}, gv)
	}
	if names == nil {
		return nil, errors.New("the API server is away")
	}
	list := &metav1.APIResourceList{GroupVersion: gv}
	for _, n := range names {
		list.APIResources = append(list.APIResources, metav1.APIResource{Name: n})
	}
	return list, nil
}

func TestDetect(t *testing.T) {
	const v1, v1beta1 = "certificates.k8s.io/v1", "certificates.k8s.io/v1beta1"
	csrs, both := []string{"certificatesigningrequests"}, []string{"certificatesigningrequests", "clustertrustbundles"}
	for name, c := range map[string]struct {
		api     served
		want    trust.Distribution
		got     trust.Distribution
		version string
		fails   bool
	}{
		"v1":                    {served{v1: both, v1beta1: both}, trust.Auto, trust.DistributedClusterTrustBundle, "v1", false},
		"v1beta1":               {served{v1: csrs, v1beta1: both}, trust.Auto, trust.DistributedClusterTrustBundle, "v1beta1", false},
		"neither":               {served{v1: csrs, v1beta1: {"podcertificaterequests"}}, trust.Auto, trust.DistributedConfigMap, "", false},
		"no v1beta1":            {served{v1: csrs}, trust.Auto, trust.DistributedConfigMap, "", false},
		"asked for, not served": {served{v1: csrs}, trust.DistributedClusterTrustBundle, "", "", true},
		"asked for, served":     {served{v1: csrs, v1beta1: both}, trust.DistributedClusterTrustBundle, trust.DistributedClusterTrustBundle, "v1beta1", false},
		"ConfigMaps asked for":  {served{v1: both}, trust.DistributedConfigMap, trust.DistributedConfigMap, "", false},
		"trouble":               {served{v1: nil}, trust.Auto, "", "", true},
		"trouble with v1beta1":  {served{v1: csrs, v1beta1: nil}, trust.Auto, "", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			got, version, err := trust.Detect(c.api, c.want)
			if got != c.got || version != c.version || (err != nil) != c.fails {
				t.Errorf("got %q, %q, %v", got, version, err)
			}
		})
	}
}

func TestParseDistribution(t *testing.T) {
	for _, s := range []string{"auto", "clustertrustbundle", "configmap"} {
		if d, err := trust.ParseDistribution(s); err != nil || string(d) != s {
			t.Errorf("%s: %q, %v", s, d, err)
		}
	}
	for _, s := range []string{"", "ConfigMap"} {
		if _, err := trust.ParseDistribution(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}
