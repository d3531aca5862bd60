// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

const signerName = "example.com/internal"

// serviceAccount returns the requester that the API server vouches for as this service account.
func serviceAccount(namespace, name string) csr.Requester {
	return csr.Requester{
		Username: "system:serviceaccount:" + namespace + ":" + name,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
	}
}

// plainRequest is by service account shop/web and asks for no name.
func plainRequest(change ...func(*csr.Request)) csr.Request {
	req := csr.Request{
		SignerName: signerName,
		Requester:  serviceAccount("shop", "web"),
		Key:        csr.Key{Algorithm: csr.AlgorithmECDSA, Size: 256},
		Usages:     []certificatesv1.KeyUsage{certificatesv1.UsageServerAuth},
	}
	for _, f := range change {
		f(&req)
	}
	return req
}

// plainFacts are those of pod shop/web-0, which the Services "db" (headless, its subdomain) and "web" select.
func plainFacts(change ...func(*Facts)) Facts {
	facts := Facts{
		TrustDomain:   "td.example",
		ClusterDomain: "cluster.local",
		Namespace:     &Namespace{Name: "shop", Labels: map[string]string{"team": "a", "kubernetes.io/metadata.name": "shop"}},
		Pod: &Pod{
			Name: "web-0", Hostname: "host-0", Subdomain: "db",
			IPs: []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fd00::7")},
		},
		Services: []Service{{Name: "db", Headless: true}, {Name: "web"}},
	}
	for _, f := range change {
		f(&facts)
	}
	return facts
}

// plainPolicy selects every service account, and allows one usage and all keys.
func plainPolicy(change ...func(*v1alpha1.CertificatePolicySpec)) *v1alpha1.CertificatePolicy {
	p := &v1alpha1.CertificatePolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "plain"},
		Spec: v1alpha1.CertificatePolicySpec{
			SignerNames: []string{signerName},
			Requesters:  v1alpha1.Requesters{NamespaceSelector: &metav1.LabelSelector{}, ServiceAccounts: []string{"*"}},
			Allow: v1alpha1.Allow{
				Usages: []certificatesv1.KeyUsage{certificatesv1.UsageServerAuth},
				Keys:   []v1alpha1.Key{{Algorithm: v1alpha1.ECDSA}, {Algorithm: v1alpha1.Ed25519}, {Algorithm: v1alpha1.RSA, MinSize: 2048}},
			},
		},
	}
	for _, f := range change {
		f(&p.Spec)
	}
	return p
}

func mustCompile(t testing.TB, p *v1alpha1.CertificatePolicy) *Policy {
	t.Helper()
	compiled, err := Compile(p)
	if err != nil {
		t.Fatalf("compiling: %v", err)
	}
	return compiled
}

// named compiles a plain policy under a name.
func named(t testing.TB, name string, change ...func(*v1alpha1.CertificatePolicySpec)) *Policy {
	t.Helper()
	p := plainPolicy(change...)
	p.Name = name
	return mustCompile(t, p)
}

func mustURL(t testing.TB, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// refusals are the violations of a denial in one line each; empty for a permit.
func refusals(t testing.TB, d Decision) string {
	t.Helper()
	switch {
	case d.Verdict == Permit && len(d.Denials) == 0:
		return ""
	case d.Verdict != Deny || len(d.Denials) != 1 || d.Policy != "":
		t.Fatalf("neither a permit nor the denial of one policy: %+v", d)
	}
	var lines []string
	for _, v := range d.Denials[0].Violations {
		lines = append(lines, v.String())
	}
	return strings.Join(lines, "\n")
}
