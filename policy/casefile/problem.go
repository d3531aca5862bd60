// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package casefile

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Problem is something wrong at one place of a file.
type Problem struct {
	File string
	// Line counts from 1; 0 if the whole file is meant.
	Line int
	// Path of the field, such as "spec.allow.dnsNames[1]"; empty if the whole document is meant.
	Path string
	// Message says what is wrong and what is allowed.
	Message string
}

// Error returns the place, as editors and compilers write it, and the message.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if p.Path != "" {
		b.WriteString(": " + p.Path)
	}
	return b.String() + ": " + p.Message
}

// Problems are all that is wrong with what was read.
type Problems []Problem

// Error returns one line for each problem.
func (p Problems) Error() string {
	lines := make([]string, 0, len(p))
	for _, problem := range p {
		lines = append(lines, problem.Error())
	}
	return strings.Join(lines, "\n")
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

// syntaxProblems finds the lines in what a YAML parser says.
func syntaxProblems(file string, line int, err error) Problems {
	message := err.Error()
	for _, noise := range []string{"error converting YAML to JSON: ", "yaml: ", "unmarshal errors:\n  "} {
		message = strings.TrimPrefix(message, noise)
	}
	var problems Problems
	for text := range strings.SplitSeq(message, "\n") {
		p := Problem{File: file, Line: line, Message: strings.TrimSpace(text)}
		if m := yamlLine.FindStringSubmatchIndex(p.Message); m != nil {
			p.Line, _ = strconv.Atoi(p.Message[m[2]:m[3]])
			p.Message = p.Message[:m[0]] + p.Message[m[1]:]
		}
		problems = append(problems, p)
	}
	return problems
}
