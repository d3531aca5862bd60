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
	b.Run("permit", func(b *testing.B) { benchmark(b, Permit, podRequest(b), plainFacts(), policies) })
	b.Run("deny", func(b *testing.B) {
		req := podRequest(b)
		req.DNSNames = append(req.DNSNames, "evil.example.com")
		benchmark(b, Deny, req, plainFacts(), policies)
	})
	b.Run("one of 20 selects", func(b *testing.B) {
		mixed := []*Policy{policies[0]}
		for i := range 19 {
			mixed = append(mixed, named(b, fmt.Sprintf("p%d", i), workloads, func(s *v1alpha1.CertificatePolicySpec) {
				s.Requesters.ServiceAccounts = []string{fmt.Sprintf("team-%d-*", i)}
			}))
		}
		benchmark(b, Permit, podRequest(b), plainFacts(), mixed)
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
