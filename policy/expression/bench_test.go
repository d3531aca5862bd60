// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package expression

import "testing"

const (
	simpleRule = "request.key.size >= 256 && request.dnsNames.size() <= 10"
	namesRule  = "request.dnsNames.all(n, n.matches('^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?[.])+(svc|svc[.]cluster[.]local)$') && " +
		"(n == requester.serviceAccount + '.' + requester.namespace + '.svc' || n.endsWith('.cluster.local')))"
)

func BenchmarkBool(b *testing.B) {
	for name, text := range map[string]string{"simple": simpleRule, "names": namesRule} {
		b.Run(name, func(b *testing.B) {
			program, a := mustCompile(b, CompileBool, text), NewActivation(sample())
			b.ReportAllocs()
			for b.Loop() {
				if yes, err := program.Bool(a, NewBudget()); !yes || err != nil {
					b.Fatalf("got %t, %v", yes, err)
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		mustCompile(b, CompileBool, namesRule)
	}
}

func BenchmarkActivation(b *testing.B) {
	v := sample()
	b.ReportAllocs()
	for b.Loop() {
		NewActivation(v)
	}
}
