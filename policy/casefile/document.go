// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package casefile reads from files what a decision needs when there is no cluster: policies, requests and facts. Nothing
// gets past the checks that hold in a cluster: a policy is held against the schema that the API server applies and then
// compiled, a request becomes real PKCS #10 bytes that only csr.Parse reads. Whatever is wrong is named with file, line and
// field, all of it at once.
package casefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// maxFileBytes bounds what is read of one file: no policy, request or facts come near.
const maxFileBytes = 8 << 20

// Document is one document of a YAML or JSON file.
type Document struct {
	// File is the name that the file was read by.
	File string

	first int    // line that the document starts at, from 1
	data  []byte // the document as JSON
	root  *yamlv3.Node
}

// Read takes a file apart into its documents; empty ones are left out. The error is a Problems.
func Read(file string, data []byte) ([]Document, error) {
	if len(data) > maxFileBytes {
		return nil, Problems{{File: file, Message: fmt.Sprintf("has %d bytes; at most %d are read", len(data), maxFileBytes)}}
	}
	var documents []Document
	var problems Problems
	for _, part := range split(data) {
		d := Document{File: file, first: part.line}
		// The empty lines in front make every line number that a parser tells one of the file.
		text := append(bytes.Repeat([]byte("\n"), part.line-1), part.text...)
		converted, err := yaml.YAMLToJSONStrict(text)
		if err != nil {
			problems = append(problems, syntaxProblems(file, part.line, err)...)
			continue
		}
		if string(converted) == "null" {
			continue
		}
		var root yamlv3.Node
		if err := yamlv3.Unmarshal(text, &root); err != nil {
			problems = append(problems, syntaxProblems(file, part.line, err)...)
			continue
		}
		d.data, d.root = converted, root.Content[0]
		documents = append(documents, d)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return documents, nil
}

// ReadPath reads a file, or all files of a directory and the directories in it that end in .yaml, .yml or .json, in order
// of their names.
func ReadPath(path string) ([]Document, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	files := []string{path}
	if info.IsDir() {
		files = nil
		err := filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) {
				files = append(files, name)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	var all []Document
	var problems Problems
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		documents, err := Read(file, data)
		var found Problems
		if errors.As(err, &found) {
			problems = append(problems, found...)
		}
		all = append(all, documents...)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return all, nil
}

// Kind returns the apiVersion and kind that the document says it has; empty where it says none.
func (d Document) Kind() (apiVersion, kind string) {
	return d.text("apiVersion"), d.text("kind")
}

func (d Document) text(key string) string {
	if n := child(d.root, key); n != nil && n.Kind == yamlv3.ScalarNode {
		return n.Value
	}
	return ""
}

// Decode fills in the value from the document, which must hold no field that the value lacks, and none twice. The error is
// a Problems.
func (d Document) Decode(into any) error {
	strict, err := kjson.UnmarshalStrict(d.data, into)
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrongType):
		return Problems{d.Problem(wrongType.Field, fmt.Sprintf("is %s; it must be %s", jsonTypes[strings.Fields(wrongType.Value)[0]], plainType(wrongType.Type.String())))}
	case err != nil:
		return Problems{d.Problem("", err.Error())}
	}
	var problems Problems
	for _, err := range strict {
		var at kjson.FieldError
		path := ""
		if errors.As(err, &at) {
			path = at.FieldPath()
		}
		problems = append(problems, d.Problem(path, "no such field: look for a slip of the pen, or for a wrong indentation"))
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}

// jsonTypes turns what encoding/json calls a kind of value into words.
var jsonTypes = map[string]string{"array": "a list", "object": "a mapping", "string": "text", "number": "a number", "bool": "true or false"}

// plainType turns the name of a Go type into words.
func plainType(name string) string {
	name = strings.TrimPrefix(name, "*")
	switch {
	case strings.HasPrefix(name, "[]"):
		return "a list"
	case strings.HasPrefix(name, "map["), strings.Contains(name, "."):
		return "a mapping"
	case strings.HasPrefix(name, "int"):
		return "a number"
	case name == "bool":
		return "true or false"
	}
	return "text"
}

// Problem returns a Problem with what the path names in this document.
func (d Document) Problem(path, message string) Problem {
	return Problem{File: d.File, Line: d.Line(path), Path: path, Message: message}
}

// problems gives errors their place in the document.
func (d Document) problems(list field.ErrorList) Problems {
	var problems Problems
	for _, err := range list {
		problems = append(problems, d.Problem(err.Field, err.ErrorBody()))
	}
	return problems
}

// Line returns the line, counted from 1, of the field at a path such as "spec.allow.dnsNames[1]"; if there is none, of the
// nearest field around it.
func (d Document) Line(path string) int {
	line := d.first
	if d.root != nil {
		line = d.root.Line
	}
	node := d.root
	for _, step := range steps(path) {
		key, next := find(node, step)
		if next == nil {
			break
		}
		line, node = key.Line, next
	}
	return line
}

var pathStep = regexp.MustCompile(`\[([^\]]*)\]|[^.\[]+`)

// steps takes a path apart into keys and indexes; a key in brackets, as in labels[example.com/team], is a key.
func steps(path string) []string {
	var all []string
	for _, m := range pathStep.FindAllStringSubmatch(path, -1) {
		if m[1] != "" {
			all = append(all, m[1])
		} else {
			all = append(all, m[0])
		}
	}
	return all
}

// find returns the node that a step leads to, and the one that stands where a reader looks for it.
func find(node *yamlv3.Node, step string) (at, value *yamlv3.Node) {
	if node != nil && node.Kind == yamlv3.AliasNode {
		node = node.Alias
	}
	switch {
	case node == nil:
	case node.Kind == yamlv3.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(node.Content) {
			return node.Content[i], node.Content[i]
		}
	case node.Kind == yamlv3.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == step {
				return node.Content[i], node.Content[i+1]
			}
		}
	}
	return nil, nil
}

func child(node *yamlv3.Node, key string) *yamlv3.Node {
	_, value := find(node, key)
	return value
}

type part struct {
	line int
	text []byte
}

// split cuts a file at the lines that separate documents. Such a line cannot be part of a value (YAML 1.2, section 9.1.2).
func split(data []byte) []part {
	parts := []part{{line: 1}}
	line := 0
	for text := range bytes.Lines(data) {
		line++
		if rest, ok := bytes.CutPrefix(text, []byte("---")); ok {
			if rest = bytes.TrimSpace(rest); len(rest) == 0 || rest[0] == '#' {
				parts = append(parts, part{line: line + 1})
				continue
			}
		}
		last := &parts[len(parts)-1]
		last.text = append(last.text, text...)
	}
	return parts
}
