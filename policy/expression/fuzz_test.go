// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"testing"
	"time"
)

// FuzzCompile holds any text against: no panic, and errors of the two classes only, within a time.
func FuzzCompile(f *testing.F) {
	for _, text := range []string{
		"request.dnsNames.all(n, n.matches('^[a-z]{1,63}$'))", "has(requester.pod) && requester.pod.labels['a'] == 'b'",
		"'%s %d %.3f'.format(['a', 1, 1.5]) == ''", "services.map(s, s.name).join(',') != ''", "[1,2].sum() > duration('1h').getHours()",
		"{'a': 1}.transformMap(k, v, v + 1) == {}", "url('x://y').getHost() == ''", "quantity('1e3').asInteger() == 1000",
		"request.?subject.orValue(request.subject).commonName == ''", "certwright.Pod{name: 'a'}.name == 'a'", "type(request) == map",
		"namespaceObject == null", "b'a' + b'\\xff' == bytes('')", "timestamp('2020-01-01T00:00:00Z').getFullYear('Europe/Berlin') == 1",
	} {
		f.Add(text)
	}
	full, empty := NewActivation(sample()), NewActivation(Variables{})
	f.Fuzz(func(t *testing.T, text string) {
		start := time.Now()
		for _, a := range []*Activation{full, empty} {
			if program, err := CompileBool(text); err == nil {
				if _, err := program.Bool(a, NewBudget()); err != nil && !isClassified(err) {
					t.Errorf("%s: %v", text, err)
				}
			}
			if program, err := CompileString(text); err == nil {
				if _, err := program.String(a, NewBudget()); err != nil && !isClassified(err) {
					t.Errorf("%s: %v", text, err)
				}
			}
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%s: took %v", text, took)
		}
	})
}
