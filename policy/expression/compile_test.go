// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestCompileErrors(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"misspelled variable", "size(requst.dnsNames) < 3", "1:6: undeclared reference to 'requst'"},
		{"misspelled field", "request.dnsName.size() <= 10", "1:8: undefined field 'dnsName'"},
		{"misspelled nested field", "true &&\n  requester.pod.labls['x'] == 'y'", "2:16: undefined field 'labls'"},
		{"misspelled field of an element", "services.all(s, s.headles)", "1:18: undefined field 'headles'"},
		{"wrong type", "request.key.size > '2048'", "1:18: found no matching overload for '_>_' applied to '(int, string)'"},
		{"two mistakes", "a && b", "1:1: undeclared reference to 'a'\n1:6: undeclared reference to 'b'"},
		{"many mistakes", "a && b && c && d && e && f && g", "1:21: undeclared reference to 'e'\nand 2 more"},
		{"syntax", "request.dnsNames.size( <= 10", "1:24: Syntax error: "},
		{"reserved word", "namespace.name == 'x'", "1:1: reserved identifier: namespace"},
		{"empty", " \n", "is empty"},
		{"ends too early", "request.isCA &&", "1:16: Syntax error: mismatched input '<EOF>'"},
		{"not bool", "request.dnsNames", "must yield bool, yields list(string)"},
		{"not known to be bool", "dyn(true)", "must yield bool, yields dyn"},
		{"too long", strings.Repeat("x", maxLength+1), "has 4097 characters, at most 4096 are allowed"},
		{"too deep", strings.Repeat("(", 2000) + "true" + strings.Repeat(")", 2000), "expression recursion limit exceeded: 250"},
		{"too deep lists", strings.Repeat("[", 4000), "expression recursion limit exceeded: 250"},
		{"pattern made of the request", "request.dnsNames.all(n, n.matches(requester.serviceAccount + '.*'))", "1:34: the pattern of matches must be a literal"},
		{"pattern as argument", "matches('x', request.key.algorithm)", "1:8: the pattern of matches must be a literal"},
		{"pattern without closing", "'x'.matches('(')", "1:12: pattern: error parsing regexp: missing closing ): `(`"},
		{"pattern with too many steps", "'x'.matches('(a{100}b{100}){5}c{1000}')", "the pattern has 2005 steps, at most 1000 are allowed"},
		{"pattern missing", "'x'.matches()", "1:12: found no matching overload for 'matches'"},
		{"no duration", "request.duration < duration('1 day')", "1:29: invalid duration argument"},
		{"control characters", "request.\x00\n\x1b[31m", "1:9: Syntax error: token recognition error at: "},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			_, err := CompileBool(tc.text)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %s", err, tc.want)
			}
			if len(err.Error()) > 4096 || strings.Contains(err.Error(), "ERROR") || strings.Contains(err.Error(), "<input>") {
				t.Errorf("not for people: %v", err)
			}
			if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' && r != '\n' }) {
				t.Errorf("has control characters: %q", err)
			}
		})
	}
	if _, err := CompileString("true"); err == nil || err.Error() != "must yield string, yields bool" {
		t.Errorf("got %v", err)
	}
}

// TestHostileCompile holds texts that could take a compiler long against what compiling may take. Whether they compile does
// not matter.
func TestHostileCompile(t *testing.T) {
	for name, text := range map[string]string{
		"sum":       strings.Repeat("1+", maxLength/2-3) + "1 == 2",
		"or":        strings.Repeat("true||", maxLength/6-1) + "true",
		"ternary":   strings.Repeat("true?true:", maxLength/10-1) + "true",
		"fields":    "request" + strings.Repeat(".a", maxLength/2-10),
		"has":       strings.Repeat("has(request.key)&&", maxLength/18-1) + "true",
		"macros":    strings.Repeat("[1].all(x,", 1400) + "true" + strings.Repeat(")", 1400),
		"shallow":   strings.Repeat("[1].all(x,", 40) + "true" + strings.Repeat(")", 40),
		"chain":     "[1]" + strings.Repeat(".map(x,x)", 1800) + " == [1]",
		"not":       strings.Repeat("!", 16000) + "true",
		"minus":     strings.Repeat("-", 16000) + "1 == 1",
		"strings":   strings.Repeat("'\\u0041'+", 1800) + "'' == ''",
		"list":      "[" + strings.Repeat("1,", 8000) + "1] == []",
		"maps":      "{" + strings.Repeat("'a':{},", 2300) + "'b':{}} == {}",
		"garbage":   strings.Repeat("@#$%", 4000),
		"patterns":  strings.Repeat("''.matches('a{1000}')||", 700) + "true",
		"optionals": strings.Repeat("[?optional.of(1)]+", 900) + "[] == []",
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			program, err := CompileBool(text)
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("took %v", took)
			}
			if err != nil {
				return
			}
			if _, err := program.Bool(NewActivation(sample()), NewBudget()); err != nil && !isClassified(err) {
				t.Errorf("evaluating: %v", err)
			}
		})
	}
}

func isClassified(err error) bool {
	var overBudget *BudgetError
	var noValue *EvalError
	return errors.As(err, &overBudget) || errors.As(err, &noValue)
}
