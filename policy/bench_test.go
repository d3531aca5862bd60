// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

// workloads is what an ordinary policy for pods allows.
func workloads(s *v1alpha1.CertificatePolicySpec) {
	s.Allow.DNSNames = []string{
		"{service}.{namespace}.svc", "{service}.{namespace}.svc.{clusterDomain}",
		"{hostname}.{service}.{namespace}.svc", "{hostname}.{service}.{namespace}.svc.{clusterDomain}",
	}
	s.Allow.URIs = []string{"spiffe://{trustDomain}/ns/{namespace}/sa/{serviceAccount}"}
	s.Allow.IPAddresses = []string{"pod"}
	s.Allow.Usages = []certificatesv1.KeyUsage{"digital signature", "server auth", "client auth"}
}

func podRequest(b *testing.B) csr.Request {
	return plainRequest(askDNS("web.shop.svc", "web.shop.svc.cluster.local"), askIPs("10.1.2.3"), func(r *csr.Request) {
		r.URIs = append(r.URIs, mustURL(b, "spiffe://td.example/ns/shop/sa/web"))
	})
}

func benchmark(b *testing.B, want Verdict, req csr.Request, facts Facts, policies []*Policy) {
	b.ReportAllocs()
	for b.Loop() {
		if d := Decide(req, facts, policies); d.Verdict != want {
			b.Fatalf("got %v: %s", d.Verdict, d.Message())
		}
	}
}

// BenchmarkDecide decides about a pod's request with 20 policies, all of which select it.
func BenchmarkDecide(b *testing.B) {
	var policies []*Policy
	for i := range 20 {
		policies = append(policies, named(b, fmt.Sprintf("p%d", i), workloads))
	}
	var others []*Policy
	for i := range 19 {
		others = append(others, named(b, fmt.Sprintf("o%d", i), workloads, func(s *v1alpha1.CertificatePolicySpec) {
			s.Requesters.ServiceAccounts = []string{fmt.Sprintf("team-%d-*", i)}
		}))
	}
	b.Run("permit", func(b *testing.B) { benchmark(b, Permit, podRequest(b), plainFacts(), policies) })
	b.Run("deny", func(b *testing.B) {
		req := podRequest(b)
		req.DNSNames = append(req.DNSNames, "evil.example.com")
		benchmark(b, Deny, req, plainFacts(), policies)
	})
	b.Run("permit by the last", func(b *testing.B) {
		strict := []*Policy{}
		for i := range 19 {
			strict = append(strict, named(b, fmt.Sprintf("p%d", i), workloads, func(s *v1alpha1.CertificatePolicySpec) { s.Allow.Usages = nil }))
		}
		benchmark(b, Permit, podRequest(b), plainFacts(), append(strict, policies[19]))
	})
	b.Run("one of 20 selects", func(b *testing.B) {
		benchmark(b, Permit, podRequest(b), plainFacts(), append(others, policies[19]))
	})
	b.Run("with expressions", func(b *testing.B) {
		with := named(b, "with", workloads, func(s *v1alpha1.CertificatePolicySpec) {
			s.MatchConditions = []v1alpha1.MatchCondition{{Name: "pods", Expression: "has(requester.pod)"}}
			s.Validations = []v1alpha1.Validation{
				{Expression: "request.dnsNames.size() <= 10"},
				{Expression: "request.dnsNames.all(n, n.startsWith(services[0].name) || n.startsWith(services[1].name))"},
			}
		})
		benchmark(b, Permit, podRequest(b), plainFacts(), append(others, with))
	})
}

// BenchmarkDecideHostile decides about the largest request there can be, by a pod that very many Services select.
func BenchmarkDecideHostile(b *testing.B) {
	var names []string
	for i := range 1200 {
		names = append(names, fmt.Sprintf("n%d.svc", i))
	}
	for _, n := range []int{maxServices, 5000} {
		facts := plainFacts()
		facts.Services = nil
		for i := range n {
			facts.Services = append(facts.Services, Service{Name: fmt.Sprintf("s%d", i)})
		}
		b.Run(fmt.Sprintf("%d Services", n), func(b *testing.B) {
			benchmark(b, Deny, plainRequest(askDNS(names...)), facts, []*Policy{named(b, "p", workloads)})
		})
	}
}

// BenchmarkSet decides about a pod's request with one policy for each of so many namespaces.
func BenchmarkSet(b *testing.B) {
	for _, n := range []int{20, 1000} {
		var policies []*Policy
		for i := range n {
			namespace := fmt.Sprintf("ns-%d", i)
			if i == n/2 {
				namespace = "shop"
			}
			policies = append(policies, named(b, namespace, workloads, func(s *v1alpha1.CertificatePolicySpec) { s.Requesters.NamespaceSelector = pinned(namespace) }))
		}
		set := NewSet(signerName, policies)
		b.Run(fmt.Sprintf("%d policies", n), func(b *testing.B) {
			req, facts := podRequest(b), plainFacts()
			b.ReportAllocs()
			for b.Loop() {
				if d := set.Decide(req, facts); d.Policy != "shop" {
					b.Fatalf("got %+v", d)
				}
			}
		})
	}
}
