// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package secretname_test

import (
	"strings"
	"testing"

	"github.com/certwright/certwright/signer/secretname"
)

// These names are those of Secrets in clusters that run: whoever changes one loses CAs and accounts.
func TestNamesThatAreInUse(t *testing.T) {
	long := strings.Repeat("a", 253)
	for _, c := range []struct {
		kind                  secretname.Kind
		signer, backend, want string
	}{
		{secretname.CA, "internal", "local", "certwright-ca-internal.local"},
		{secretname.CA, "a-b", "c", "certwright-ca-a-b.c"},
		{secretname.CA, "a", "b-c", "certwright-ca-a.b-c"},
		{secretname.CA, "a.b", "c", "certwright-ca-a.b.c"},
		{secretname.CARecord, "internal", "local", "certwright-ca--internal.local"},
		{secretname.ACMEAccount, "public", "letsencrypt", "certwright-acme-public.letsencrypt"},
		{secretname.Venafi, "internal", "tpp", "certwright-venafi-internal.tpp"},
		{secretname.CA, long[:237], "b", "certwright-ca-" + long[:237] + ".b"},
		{secretname.CA, long[:238], "b", "certwright-ca-5bea1e0644fb83870ce7bcad1798bf252ea1ee0876527b88c4e5e67d057b8c04"},
		{secretname.CARecord, long, "b", "certwright-ca--ffccb463c0691ee9bde576fb2db06adb69235ecc2b6156802ecbc0efa89dd228"},
		{secretname.ACMEAccount, long, "b", "certwright-acme-ee36832a9ba07ecb16026194830e4e96ccd3a32efd819f1fc8c8181bcab34636"},
		{secretname.Venafi, long, "b", "certwright-venafi-5ccb10dfba75fcdf02f5fc7088733572296e58a49e8fcd03aab51f51cf4973b7"},
	} {
		got := c.kind.Of(c.signer, c.backend)
		if got != c.want || len(got) > 253 {
			t.Errorf("%s of %s and %s is %s, want %s", c.kind, c.signer, c.backend, got, c.want)
		}
		if secretname.Own(got) == "" {
			t.Errorf("%s is not taken for one of ours", got)
		}
	}
}

func TestOwn(t *testing.T) {
	for name, want := range map[string]string{
		"certwright-ca-internal.local": "certwright-ca-", "certwright-ca--internal.local": "certwright-ca-",
		"certwright-acme-order-0a1b": "certwright-acme-", "certwright-venafi-internal.tpp": "certwright-venafi-", "certwright-webhook-tls": "certwright-webhook-",
		"certwright-ca": "", "my-certwright-ca-x": "", "vault-token": "", "": "",
	} {
		if got := secretname.Own(name); got != want {
			t.Errorf("%q begins with %q, want %q", name, got, want)
		}
	}
}
