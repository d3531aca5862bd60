// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package expression

import "time"

// sample has a value in every variable.
func sample() Variables {
	return Variables{
		Request: Request{
			SignerName: "certwright.dev/workloads", DNSNames: []string{"web.shop.svc", "web.shop.svc.cluster.local"},
			IPAddresses: []string{"10.1.2.3", "fd00::1"}, URIs: []string{"spiffe://example.com/ns/shop/sa/web"},
			EmailAddresses: []string{"web@example.com"},
			Subject: Subject{
				CommonName: "web", Organizations: []string{"org"}, OrganizationalUnits: []string{"unit"}, Countries: []string{"DE"},
				Provinces: []string{"province"}, Localities: []string{"locality"}, StreetAddresses: []string{"street"},
				PostalCodes: []string{"10115"}, SerialNumber: "7",
			},
			Key: Key{Algorithm: "ECDSA", Size: 256}, Usages: []string{"digital signature", "server auth"}, Duration: 36 * time.Hour,
		},
		Requester: Requester{
			Username: "system:serviceaccount:shop:web", UID: "1234", Groups: []string{"system:authenticated"}, Namespace: "shop",
			ServiceAccount: "web", Pod: &Pod{
				Name: "web-0", Labels: map[string]string{"app": "web"}, Annotations: map[string]string{"example.com/tier": "front"},
				Node: "node-1", Owner: &Owner{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "web"}, IPs: &[]string{"10.1.2.3"},
			},
		},
		Namespace: &Namespace{Name: "shop", Labels: map[string]string{"env": "prod"}},
		Services:  []Service{{Name: "web"}, {Name: "web-peers", Headless: true}},
	}
}
