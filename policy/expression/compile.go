// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"

	"github.com/certwright/certwright/excerpt"
)

const (
	// maxLength of an expression in characters, as in the schema of CertificatePolicy.
	maxLength = 4096
	// maxIssues is how many mistakes of an expression are told at once, and maxMessage how many bytes each may take.
	maxIssues, maxMessage = 5, 512
	// maxPattern is the size of a compiled regular expression, in instructions. A text is held against that many at each of its
	// characters.
	maxPattern = 1000
)

// Program is an expression that was compiled. It is safe for concurrent use.
type Program struct{ program cel.Program }

// CompileBool compiles an expression that must yield a bool. The error has one line for each mistake: line:column: message.
func CompileBool(text string) (*Program, error) { return compile(text, cel.BoolType) }

// CompileString compiles an expression that must yield a string, such as a message.
func CompileString(text string) (*Program, error) { return compile(text, cel.StringType) }

func compile(text string, yields *cel.Type) (_ *Program, err error) {
	defer recovered(&err)
	if n := utf8.RuneCountInString(text); n > maxLength {
		return nil, fmt.Errorf("has %d characters, at most %d are allowed", n, maxLength)
	}
	if strings.TrimSpace(text) == "" {
		return nil, errors.New("is empty")
	}
	env, err := env()
	if err != nil {
		return nil, fmt.Errorf("building the CEL environment: %w", err)
	}
	parsed, issues := env.Parse(text)
	if issues.Err() != nil {
		return nil, mistakes(issues)
	}
	// Before Check, which compiles patterns whatever their size.
	tracker := &estimator{patterns: map[string]uint64{}}
	if err := tracker.measurePatterns(parsed.NativeRep()); err != nil {
		return nil, err
	}
	compiled, issues := env.Check(parsed)
	if issues.Err() != nil {
		return nil, mistakes(issues)
	}
	if !compiled.OutputType().IsExactType(yields) {
		return nil, fmt.Errorf("must yield %s, yields %s", yields, compiled.OutputType())
	}
	program, err := env.Program(compiled, cel.CostTracking(tracker), cel.CustomDecoratorV2(chargeConstruction))
	if err != nil {
		return nil, fmt.Errorf("planning: %w", err)
	}
	return &Program{program}, nil
}

// recovered makes an error of a panic in the compiler. At evaluation CEL does that itself.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the CEL compiler panicked: %v", r)
	}
}

// mistakes says for people what the compiler found.
func mistakes(issues *cel.Issues) error {
	found := issues.Errors()
	var lines []string
	for _, issue := range found[:min(len(found), maxIssues)] {
		lines = append(lines, mistake(issue))
	}
	if more := len(found) - len(lines); more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return errors.New(strings.Join(lines, "\n"))
}

// noise is what the parser adds: all that it would have taken instead, and the name of a container that there is not.
var noise = regexp.MustCompile(` expecting \{.*\}$| \(in container ''\)`)

func mistake(issue *cel.Error) string {
	message := printable(noise.ReplaceAllString(strings.Join(strings.Fields(issue.Message), " "), ""))
	if issue.Location.Line() < 1 { // of the whole expression
		return message
	}
	return fmt.Sprintf("%d:%d: %s", issue.Location.Line(), issue.Location.Column()+1, message)
}

// printable bounds what CEL says, which may quote the expression and the request.
func printable(message string) string {
	message = excerpt.Of(message, maxMessage)
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, message)
}

// measurePatterns refuses regular expressions that are not literal or too large. A pattern that is put together from the
// request would let who asks write a part of the rule: already the dot of a name matches everything.
func (e *estimator) measurePatterns(parsed *ast.AST) error {
	for _, call := range ast.MatchDescendants(ast.NavigateAST(parsed), func(n ast.NavigableExpr) bool {
		return n.Kind() == ast.CallKind && takesPattern(n.AsCall().FunctionName())
	}) {
		at := parsed.SourceInfo().GetStartLocation(call.ID())
		args := call.AsCall().Args()
		if !call.AsCall().IsMemberFunction() { // matches(text, pattern)
			args = args[min(1, len(args)):]
		}
		if len(args) == 0 {
			continue // Check tells
		}
		pattern := args[0]
		if pattern.Kind() != ast.LiteralKind {
			return fmt.Errorf("%d:%d: the pattern of %s must be a literal; compare with ==, startsWith or endsWith what depends on the request",
				at.Line(), at.Column()+1, call.AsCall().FunctionName())
		}
		text, _ := pattern.AsLiteral().Value().(string)
		size, err := patternSize(text)
		if err != nil {
			return fmt.Errorf("%d:%d: %w", at.Line(), at.Column()+1, err)
		}
		e.patterns[text] = size
	}
	return nil
}

func takesPattern(function string) bool {
	return function == "matches" || function == "find" || function == "findAll"
}

func patternSize(pattern string) (uint64, error) {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0, fmt.Errorf("pattern: %w", err)
	}
	n := steps(parsed)
	if n > maxPattern {
		return 0, fmt.Errorf("the pattern has %d steps, at most %d are allowed; repeat less, such as {1,63}", n, maxPattern)
	}
	return n, nil
}

// steps is about how many instructions a pattern compiles to: what is repeated n times counts n times.
func steps(re *syntax.Regexp) uint64 {
	var n uint64
	for _, sub := range re.Sub {
		n += steps(sub)
	}
	switch re.Op {
	case syntax.OpConcat:
	case syntax.OpLiteral:
		n = uint64(len(re.Rune))
	case syntax.OpRepeat:
		n *= uint64(max(1, re.Min, re.Max))
		n += uint64(max(0, re.Max-re.Min)) // each of these may be skipped
	default:
		n++
	}
	return n
}
