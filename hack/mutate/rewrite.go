// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"slices"
	"strings"
)

// mutant is one small change to the code of a package.
type mutant struct {
	id   int
	file string // as the user names the package, such as csr/key.go
	line int
	code string // the line before the change, without the space around it
	// change says what becomes of which expression.
	change string
}

func (m mutant) String() string {
	return fmt.Sprintf("%s:%d: %s\n    %s", m.file, m.line, m.code, m.change)
}

// rewriter puts all mutants of a file into it, each behind a question whether it is switched on. So a package is compiled
// once, not once for each mutant. Only operands that Go evaluates in the original are evaluated, and each once.
type rewriter struct {
	fset *token.FileSet
	info *types.Info
	name string
	src  []byte
	next *int // the next free id

	edits   []edit
	mutants []mutant
}

// edit puts text at an offset, in place of what is up to offset until. Of those at one offset, a closing one comes first;
// among them the one around less; and of opening ones that around more.
type edit struct {
	offset, until int
	closing       bool
	width         int
	text          string
}

// rewrite returns the file with its mutants.
func (r *rewriter) rewrite(file *ast.File) []byte {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GenDecl:
			return n.Tok != token.CONST
		case *ast.BinaryExpr:
			if r.isConstant(n) {
				return false
			}
			r.binary(n)
		case *ast.UnaryExpr:
			if n.Op == token.NOT {
				r.negate(n, "without !")
			}
		case *ast.Ident:
			r.literal(n)
		case *ast.IfStmt:
			r.condition(n.Cond)
			if n.Else == nil && leaves(n.Body.List) {
				r.never(n.Cond)
			}
		case *ast.ForStmt:
			r.condition(n.Cond)
		case *ast.SwitchStmt:
			if n.Tag == nil {
				r.cases(n.Body.List)
			}
		case *ast.ReturnStmt:
			for _, result := range n.Results {
				r.condition(result)
			}
		}
		return true
	})
	slices.SortStableFunc(r.edits, func(a, b edit) int {
		switch {
		case a.offset != b.offset:
			return cmp.Compare(a.offset, b.offset)
		case a.closing != b.closing:
			if a.closing {
				return -1
			}
			return 1
		case a.closing:
			return cmp.Compare(a.width, b.width)
		default:
			return cmp.Compare(b.width, a.width)
		}
	})
	var out strings.Builder
	done := 0
	for _, e := range r.edits {
		out.Write(r.src[done:e.offset])
		out.WriteString(e.text)
		done = e.until
	}
	out.Write(r.src[done:])
	return []byte(out.String())
}

func (r *rewriter) cases(list []ast.Stmt) {
	for _, statement := range list {
		for _, e := range statement.(*ast.CaseClause).List {
			r.condition(e)
			r.never(e)
		}
	}
}

// leaves reports whether the last statement of a block leaves it.
func leaves(list []ast.Stmt) bool {
	if len(list) == 0 {
		return false
	}
	switch list[len(list)-1].(type) {
	case *ast.ReturnStmt, *ast.BranchStmt:
		return true
	}
	return false
}

// symbols are the ordered comparisons and what mutantOrder calls them.
var symbols = map[token.Token]struct {
	symbol   string
	boundary token.Token
	negated  token.Token
	// shift moves a constant on the right into the direction that the other boundary does not.
	shift int
}{
	token.LSS: {"<", token.LEQ, token.GEQ, -1},
	token.LEQ: {"≤", token.LSS, token.GTR, 1},
	token.GTR: {">", token.GEQ, token.LEQ, 1},
	token.GEQ: {"≥", token.GTR, token.LSS, -1},
}

func (r *rewriter) binary(n *ast.BinaryExpr) {
	switch n.Op {
	case token.LAND, token.LOR:
		other := map[token.Token]token.Token{token.LAND: token.LOR, token.LOR: token.LAND}[n.Op]
		id := r.add(n, n.OpPos, fmt.Sprintf("%s for %s", other, n.Op))
		// De Morgan: with all three negated, one operator is the other.
		for _, e := range []ast.Expr{n, n.X, n.Y} {
			r.wrap(e, "((", fmt.Sprintf(") != mutantOn(%d))", id))
		}
		r.condition(n.X)
		r.condition(n.Y)
	case token.EQL, token.NEQ:
		r.equality(n)
	case token.LSS, token.LEQ, token.GTR, token.GEQ:
		r.ordered(n)
	}
}

func (r *rewriter) equality(n *ast.BinaryExpr) {
	other := map[token.Token]token.Token{token.EQL: token.NEQ, token.NEQ: token.EQL}[n.Op]
	id := r.add(n, n.OpPos, fmt.Sprintf("%s for %s", other, n.Op))
	limit := n.Y
	if r.isInteger(n.X) {
		limit = n.X
	}
	more, less := r.shifted(limit, 1), r.shifted(limit, -1)
	if more == "" || less == "" {
		r.wrap(n, "((", fmt.Sprintf(") != mutantOn(%d))", id))
		return
	}
	r.add(n, n.OpPos, more)
	r.add(n, n.OpPos, less)
	before := fmt.Sprintf("mutantEqual(%d, ", id)
	if n.Op == token.NEQ {
		before = "!" + before
	}
	r.wrap(n, before, fmt.Sprintf(", %s, %s)", more, less))
	r.replace(n.OpPos, n.Op.String(), ",")
}

func (r *rewriter) ordered(n *ast.BinaryExpr) {
	s := symbols[n.Op]
	id := r.add(n, n.OpPos, fmt.Sprintf("%s for %s", s.boundary, n.Op))
	r.add(n, n.OpPos, fmt.Sprintf("%s for %s", s.negated, n.Op))
	name, shifted := "Ordered", ""
	if r.isInteger(n.Y) {
		name, shifted = "ShiftedRight", r.shifted(n.Y, s.shift)
	} else if r.isInteger(n.X) {
		name, shifted = "ShiftedLeft", r.shifted(n.X, -s.shift)
	}
	after := ")"
	if shifted == "" {
		name = "Ordered"
	} else {
		r.add(n, n.OpPos, shifted)
		after = ", " + shifted + ")"
	}
	r.wrap(n, fmt.Sprintf("mutant%s(%d, '%s', ", name, id, s.symbol), after)
	r.replace(n.OpPos, n.Op.String(), ",")
}

// condition negates what is true or false without an operator of its own.
func (r *rewriter) condition(e ast.Expr) {
	switch e := e.(type) {
	case *ast.Ident:
		if e.Name != "true" && e.Name != "false" {
			r.negate(e, "negated")
		}
	case *ast.CallExpr, *ast.SelectorExpr, *ast.IndexExpr:
		r.negate(e, "negated")
	}
}

func (r *rewriter) negate(e ast.Expr, what string) {
	if basic, ok := r.info.TypeOf(e).(*types.Basic); !ok || basic.Info()&types.IsBoolean == 0 {
		return
	}
	r.wrap(e, "(", fmt.Sprintf(" != mutantOn(%d))", r.add(e, e.Pos(), what)))
}

// never evaluates a condition and takes it for false.
func (r *rewriter) never(e ast.Expr) {
	if r.isConstant(e) {
		return
	}
	r.wrap(e, "((", fmt.Sprintf(") && !mutantOn(%d))", r.add(e, e.Pos(), "never")))
}

func (r *rewriter) literal(n *ast.Ident) {
	switch r.info.Uses[n] {
	case types.Universe.Lookup("true"):
		r.replace(n.Pos(), n.Name, fmt.Sprintf("(!mutantOn(%d))", r.add(n, n.Pos(), "false for true")))
	case types.Universe.Lookup("false"):
		r.replace(n.Pos(), n.Name, fmt.Sprintf("mutantOn(%d)", r.add(n, n.Pos(), "true for false")))
	}
}

func (r *rewriter) isConstant(e ast.Expr) bool { return r.info.Types[e].Value != nil }

func (r *rewriter) isInteger(e ast.Expr) bool {
	return r.isConstant(e) && r.info.Types[e].Value.Kind() == constant.Int
}

// shifted is the text of an integer constant and one more or less; empty if e is no such constant, or has no less.
func (r *rewriter) shifted(e ast.Expr, by int) string {
	if !r.isInteger(e) {
		return ""
	}
	basic, ok := r.info.TypeOf(e).Underlying().(*types.Basic)
	if !ok || by < 0 && basic.Info()&types.IsUnsigned != 0 && constant.Sign(r.info.Types[e].Value) == 0 {
		return ""
	}
	return fmt.Sprintf("%s%+d", r.text(e), by)
}

// add notes a mutant, and returns its id.
func (r *rewriter) add(n ast.Node, at token.Pos, change string) int {
	position := r.fset.Position(at)
	line := strings.Split(string(r.src), "\n")[position.Line-1]
	id := *r.next
	*r.next++
	r.mutants = append(r.mutants, mutant{id: id, file: r.name, line: position.Line, code: strings.TrimSpace(line), change: short(r.text(n)) + ": " + change})
	return id
}

func (r *rewriter) text(n ast.Node) string {
	text := string(r.src[r.offset(n.Pos()):r.offset(n.End())])
	return strings.Join(strings.Fields(text), " ")
}

// short shortens what a person needs to recognise only.
func short(text string) string {
	const most = 80
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most/2]) + "…" + string(runes[len(runes)-most/2:])
	}
	return text
}

func (r *rewriter) offset(pos token.Pos) int { return r.fset.Position(pos).Offset }

func (r *rewriter) wrap(n ast.Node, before, after string) {
	start, end := r.offset(n.Pos()), r.offset(n.End())
	r.edits = append(r.edits, edit{offset: start, until: start, width: end - start, text: before})
	// Of two around the same, the one that came first is the outer one, and so closes last.
	r.edits = slices.Insert(r.edits, 0, edit{offset: end, until: end, closing: true, width: end - start, text: after})
}

func (r *rewriter) replace(pos token.Pos, old, text string) {
	start := r.offset(pos)
	r.edits = append(r.edits, edit{offset: start, until: start + len(old), text: text})
}
