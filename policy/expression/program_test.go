// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types/ref"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
)

func mustCompile(t testing.TB, compile func(string) (*Program, error), text string) *Program {
	t.Helper()
	program, err := compile(text)
	if err != nil {
		t.Fatalf("compiling %s: %v", text, err)
	}
	return program
}

func TestBool(t *testing.T) {
	nobody := Variables{Requester: Requester{Username: "admin"}}
	tests := []struct {
		name, text string
		vars       Variables
		want       bool
		err        string // of the EvalError
	}{
		{"true", "request.dnsNames.size() <= 10", sample(), true, ""},
		{"false", "request.dnsNames.size() > 10", sample(), false, ""},
		{"label that is not there", "requester.pod.labels['team'] == 'a'", sample(), false, "evaluating: no such key: team"},
		{"negated label that is not there", "requester.pod.labels['team'] != 'a'", sample(), false, "evaluating: no such key: team"},
		{"no pod", "requester.pod.name != 'a'", nobody, false, "evaluating: no such key: pod"},
		{"no pod under a negation", "!(requester.pod.name == 'a')", nobody, false, "evaluating: no such key: pod"},
		{"no pod does not matter", "requester.pod.name == 'a' || requester.username == 'admin'", nobody, true, ""},
		{"no namespace", "namespaceObject.labels['env'] == 'prod'", nobody, false, "evaluating: no such key: labels"},
		{"beyond a list", "request.dnsNames[7] == ''", sample(), false, "evaluating: index out of bounds: 7"},
		{"division", "request.key.size / (request.key.size - 256) == 0", sample(), false, "evaluating: division by zero"},
		{"not a URL", "url(request.dnsNames[0]).getHost() == ''", sample(), false, "evaluating: "},
		{"quotes what cannot be printed", "{'a': 1}['\\u001b[31m'] == 1", sample(), false, "evaluating: no such key: \uFFFD[31m"},
		{
			"quotes what is long", "lists.range(1000).map(i, 'a').join() in {'a': 1} || {'a': 1}[lists.range(1000).map(i, 'b').join()] == 1",
			sample(), false, "evaluating: no such key: " + strings.Repeat("b", 512-len("no such key: ")-len("…")) + "…",
		},
		{"dyn", "dyn(request.key.size) == 256 ? true : dyn(false) == 1", sample(), true, ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, err := mustCompile(t, CompileBool, tc.text).Bool(NewActivation(tc.vars), NewBudget())
			if got != tc.want {
				t.Errorf("got %t, want %t", got, tc.want)
			}
			var evalErr *EvalError
			if tc.err == "" && err != nil || tc.err != "" && (!errors.As(err, &evalErr) || !strings.HasPrefix(err.Error(), tc.err)) {
				t.Errorf("got %v, want %s", err, tc.err)
			}
		})
	}
}

func TestString(t *testing.T) {
	tests := []struct{ name, text, want, err string }{
		{"plain", "'at most ' + string(10) + ' names, not ' + string(request.dnsNames.size())", "at most 10 names, not 2", ""},
		{"joined", "'not allowed: ' + request.dnsNames.filter(n, !n.endsWith('.local')).join(', ')", "not allowed: web.shop.svc", ""},
		{"trimmed", "' a b\\n'", "a b", ""},
		{"not ASCII", "'für 日本'", "für 日本", ""},
		{"longest", "lists.range(512).map(i, '0123456789').join()", strings.Repeat("0123456789", 512), ""},
		{"empty", "' \\t'", "", "the text is empty"},
		{"two lines", "'a\\nb'", "", "the text has line breaks"},
		{"carriage return", "'a\\rb'", "", "the text has line breaks"},
		{"escape", "'a\\u001b[31mb'", "", "other characters that cannot be printed"},
		{"turned around", "'a\\u202eb'", "", "other characters that cannot be printed"},
		{"too long", "lists.range(512).map(i, '0123456789').join() + '1'", "", "the text has 5121 bytes, at most 5120 are allowed"},
		{"fails", "requester.pod.labels['x']", "", "no such key: x"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, err := mustCompile(t, CompileString, tc.text).String(NewActivation(sample()), NewBudget())
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			var evalErr *EvalError
			if tc.err == "" && err != nil || tc.err != "" && (!errors.As(err, &evalErr) || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("got %v, want %s", err, tc.err)
			}
		})
	}
}

// TestBudget spends a budget, and holds the budget of another policy against it.
func TestBudget(t *testing.T) {
	a, budget := NewActivation(sample()), NewBudget()
	simple := mustCompile(t, CompileBool, "request.key.size == 256")
	dear := mustCompile(t, CompileBool, "lists.range(1000).all(a, lists.range(1000).all(b, a + b >= 0))")
	if yes, err := simple.Bool(a, budget); err != nil || !yes {
		t.Fatalf("got %t, %v", yes, err)
	}
	if spent := celconfig.RuntimeCELCostBudget - budget.left; spent == 0 || spent > 10 {
		t.Errorf("a simple expression costs %d", spent)
	}
	var overBudget *BudgetError
	budget.left = celconfig.PerCallLimit * 3 / 2
	for i := range 2 {
		if _, err := dear.Bool(a, budget); !errors.As(err, &overBudget) {
			t.Fatalf("expression %d: got %v, want a BudgetError", i, err)
		}
	}
	_, err := simple.Bool(a, budget)
	if !errors.As(err, &overBudget) || err.Error() != "the expressions of the policy cost more than 10000000 together; make the expression simpler, or its lists and texts shorter" {
		t.Errorf("got %v, want the budget to be spent", err)
	}
	budget.left = 1
	if _, err := simple.Bool(a, budget); !errors.As(err, &overBudget) {
		t.Errorf("got %v, want the budget not to suffice", err)
	}
	if yes, err := simple.Bool(a, NewBudget()); err != nil || !yes {
		t.Errorf("the budget of another policy: got %t, %v", yes, err)
	}
}

// TestBudgetIsNotAbsorbed: || takes what is true for an error of the other side, but not for being stopped.
func TestBudgetIsNotAbsorbed(t *testing.T) {
	var overBudget *BudgetError
	for _, text := range []string{
		"lists.range(9000000).size() == 0 || true",
		"lists.range(1000).all(a, lists.range(1000).all(b, a + b >= 0)) || true",
	} {
		if yes, err := mustCompile(t, CompileBool, text).Bool(NewActivation(sample()), NewBudget()); yes || !errors.As(err, &overBudget) {
			t.Errorf("%s: got %t, %v", text, yes, err)
		}
	}
}

func TestPanics(t *testing.T) {
	extended, err := env()
	if err != nil {
		t.Fatal(err)
	}
	extended, err = extended.Extend(cel.Function("boom", cel.Overload("boom_string", []*cel.Type{cel.StringType}, cel.BoolType,
		cel.UnaryBinding(func(ref.Val) ref.Val { panic("boom") }))))
	if err != nil {
		t.Fatal(err)
	}
	checked, issues := extended.Compile("boom('')")
	if issues.Err() != nil {
		t.Fatal(issues.Err())
	}
	program, err := extended.Program(checked)
	if err != nil {
		t.Fatal(err)
	}
	var evalErr *EvalError
	if yes, err := (&Program{program}).Bool(NewActivation(Variables{}), NewBudget()); yes || !errors.As(err, &evalErr) {
		t.Errorf("got %t, %v", yes, err)
	}
	panics := func() (err error) {
		defer recovered(&err)
		panic("boom")
	}
	if err := panics(); err == nil || err.Error() != "the CEL compiler panicked: boom" {
		t.Errorf("got %v", err)
	}
}

// TestConcurrent runs one program on one activation in many goroutines, each with a budget of its own.
func TestConcurrent(t *testing.T) {
	program := mustCompile(t, CompileBool, "request.dnsNames.all(n, n.matches('^[a-z.]+$') && n in request.dnsNames) && has(requester.pod)")
	a := NewActivation(sample())
	errs := make(chan error, 8)
	var group sync.WaitGroup
	for range cap(errs) {
		group.Go(func() {
			for range 100 {
				if yes, err := program.Bool(a, NewBudget()); !yes || err != nil {
					errs <- fmt.Errorf("got %t: %w", yes, err)
					return
				}
			}
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
}
