// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// nested chains a macro that binds the list before it to x, n times.
func nested(start, step string, n int) string { return start + strings.Repeat(step, n) }

// TestHostile holds expressions that try to take all memory or time against what one may take.
func TestHostile(t *testing.T) {
	const maxBytes, maxTime = 256 << 20, 30 * time.Second
	long := "'" + strings.Repeat("a", 1000) + "'"
	doubled := func(n int) string { return nested("['aaaaaaaa']", ".map(x, x+x)", n) + "[0]" }
	for name, text := range map[string]string{
		"comprehensions":         "lists.range(1000).all(a, lists.range(1000).all(b, lists.range(1000).all(c, a+b+c >= 0)))",
		"nested over names":      "request.dnsNames.all(a, request.dnsNames.all(b, request.dnsNames.all(c, a+b+c != '')))",
		"doubled text":           doubled(60) + " != ''",
		"replaced text":          nested("["+long+"]", ".map(x, x.replace('', x))", 5) + "[0] == ''",
		"replaced n times":       nested("["+long+"]", ".map(x, x.replace('', x, 100000))", 5) + "[0] == ''",
		"many replaced":          "lists.range(4000).map(i, " + long + ".replace('a', '" + strings.Repeat("b", 500) + "')).size() == 0",
		"joined":                 "lists.range(4000).map(i, 'a').join(" + doubled(16) + ") == ''",
		"joined same":            "[" + doubled(14) + "].all(x, lists.range(4000).map(i, x).join() == '')",
		"formatted":              nested("['a']", ".map(x, '%s%s'.format([x,x]))", 60) + "[0] == ''",
		"wide precision":         "'" + strings.Repeat("%.999999f", 300) + "'.format([" + strings.Repeat("1.0,", 299) + "1.0]) == ''",
		"wide dynamic precision": "('%.1000' + '000000e').format([1.0]) == ''",
		"shared lists compared":  "[" + nested("[[1]]", ".map(x, [x,x])", 60) + "].all(x, x == x)",
		"shared lists built":     "[[1]].all(x, " + nested("", "[[x,x]].all(x, ", 60) + "x == x" + strings.Repeat(")", 61),
		"shared maps":            "[{'a':[1]}].all(x, " + nested("", "[{'a':[x],'b':[x]}].all(y, y==y && [x].all(x, ", 1) + "true" + strings.Repeat(")", 3) + " && " + nested("[[1]]", ".map(x, [x,x])", 50) + " == [[]]",
		"shared lists printed":   "'%s'.format([" + nested("[[1]]", ".map(x, [x,x])", 60) + "]) == ''",
		"concatenated lists":     nested("[[1]]", ".map(x, x+x)", 60) + "[0].size() == 0",
		"concatenated bound":     "[[1]].all(x, " + nested("", "[x+x].all(x, ", 60) + "x.size() > 0" + strings.Repeat(")", 61),
		"two variable maps":      nested("{'a':[1]}", ".transformMap(k, x, [x, x])", 60) + " == {}",
		"flattened many":         "lists.range(1000).map(i, lists.range(1000)).flatten().all(x, x >= 0)",
		"optionals":              nested("[optional.of([1])]", ".map(x, optional.of([x.value(), x.value()]))", 1) + " == [optional.of([[1],[1]])] && " + nested("[[optional.of(1)]]", ".map(x, x+x)", 60) + "[0] == []",
		"flattened":              nested("[[1]]", ".map(x, [x,x].flatten())", 60) + "[0].size() == 0",
		"range":                  "lists.range(9000000).size() == 0",
		"distinct":               "lists.range(4000).distinct().size() == 0",
		"sets":                   "[lists.range(4000)].all(x, sets.equivalent(x, x.reverse()))",
		"sorted":                 "lists.range(4000).reverse().sort()[0] == 0",
		"indexOf":                "[" + doubled(14) + "].all(x, (x + x).lastIndexOf('b' + x) == -1 && (x + x).indexOf(x + 'b') == -1)",
		"large quantity":         "quantity('1e1000000000').isGreaterThan(quantity('1'))",
		"large quantity added":   "quantity('1e-999999999').add(quantity('1e9')).isGreaterThan(quantity('1'))",
		"steps of a pattern":     doubled(16) + ".matches('(a|b|c|ab|ac){100}d')",
		"steps found":            doubled(16) + ".findAll('(a|b|c|ab|ac){100}d').size() > 0",
		"found everywhere":       doubled(16) + ".findAll('').size() == 0",
		"split":                  "lists.range(1000).all(i, " + doubled(12) + ".split('').size() > 0)",
		"characters":             "[" + doubled(14) + "].all(x, lists.range(4000).all(i, x.charAt(i) == 'a'))",
		"lengths":                "[" + doubled(14) + "].all(x, lists.range(4000).all(i, x.size() > i))",
		"keys":                   "[" + doubled(14) + "].all(x, lists.range(4000).all(i, !(x in requester.pod.labels)))",
		"long version":           "[" + doubled(14) + "].all(x, lists.range(4000).all(i, isSemver('1.2.3-' + x)))",
		"long URL":               "url('http://a/' + " + doubled(14) + ").getHost() == ''",
		"queries":                "[url('http://a?' + " + doubled(9) + ")].all(u, lists.range(4000).all(i, u.getQuery().size() == 1))",
		"in a list of long":      "lists.range(4000).all(i, [" + doubled(12) + "].map(x, [x,x,x])[0] != [])",
		"compared maps":          "lists.range(1000).all(i, requester.pod.annotations == requester.pod.annotations)",
		"a long or":              "lists.range(4000).exists(x, " + strings.Repeat("x == -1 || ", 360) + "false)",
		"bytes":                  nested("[b'aaaaaaaa']", ".map(x, x+x)", 60) + "[0] == b''",
		"quoted":                 nested("['\"\"\"\"']", ".map(x, strings.quote(x))", 60) + "[0] == ''",
		"sorted by":              nested("[lists.range(4000)]", ".map(x, x.sortBy(y, -y))", 3) + "[0].size() == 0",
		"joined nothing":         nested("['']", ".map(x, lists.range(4000).map(i, '').join(''))", 85) + "[0] == 'a'",
	} {
		t.Run(name, func(t *testing.T) {
			program, err := CompileBool(text)
			if err != nil {
				t.Fatal(err)
			}
			v := sample()
			v.Request.DNSNames = nil
			for i := range 1000 {
				v.Request.DNSNames = append(v.Request.DNSNames, fmt.Sprintf("host-%d.example.com", i))
			}
			v.Requester.Pod.Annotations = map[string]string{"big": strings.Repeat("a", 256<<10)}
			a, budget := NewActivation(v), NewBudget()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			yes, err := program.Bool(a, budget)
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			allocated := after.TotalAlloc - before.TotalAlloc
			t.Logf("%v %v: %v, %d MiB", yes, err, took, allocated>>20)
			if budgetErr := (*BudgetError)(nil); !errors.As(err, &budgetErr) {
				t.Errorf("yielded %t, %v, want a BudgetError", yes, err)
			}
			if took > maxTime || allocated > maxBytes {
				t.Errorf("took %v and %d MiB", took, allocated>>20)
			}
		})
	}
}
