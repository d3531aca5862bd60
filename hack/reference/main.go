// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command reference writes docs/reference.md from the CRDs: every field of every kind, with its default, its bounds and
// the words of its doc comment.
package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

func main() {
	crds := flag.String("crds", "manifests/crds", "folder of the CRDs")
	out := flag.String("out", "docs/reference.md", "file to write")
	flag.Parse()
	if err := run(*crds, *out); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

func run(crds, out string) error {
	files, err := filepath.Glob(filepath.Join(crds, "certwright.dev_*.yaml"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("%s holds no CRDs: run make generate", crds)
	}
	var b strings.Builder
	b.WriteString("<!-- Generated from api/v1alpha1 by make generate. Do not edit. -->\n\n# Reference\n\n" +
		"The two kinds of `certwright.dev/v1alpha1`, field by field. `kubectl explain` says the same.\n")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(text, &crd); err != nil {
			return fmt.Errorf("reading %s: %w", file, err)
		}
		kind(&b, &crd)
	}
	return os.WriteFile(out, []byte(b.String()), 0o644)
}

func kind(b *strings.Builder, crd *apiextensionsv1.CustomResourceDefinition) {
	schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	fmt.Fprintf(b, "\n## %s\n\n%s\n", crd.Spec.Names.Kind, schema.Description)
	for _, part := range []string{"spec", "status"} {
		top := schema.Properties[part]
		fmt.Fprintf(b, "\n### %s of a %s\n\n%s\n\n", part, crd.Spec.Names.Kind, top.Description)
		fields(b, part, &top, 0)
	}
}

// fields writes the properties of an object as a nested list, in order of their names.
func fields(b *strings.Builder, path string, object *apiextensionsv1.JSONSchemaProps, depth int) {
	indent := strings.Repeat("  ", depth)
	for _, rule := range object.XValidations {
		fmt.Fprintf(b, "%s- *Rule:* %s.\n", indent, strings.TrimSuffix(rule.Message, "."))
	}
	for _, name := range slices.Sorted(maps.Keys(object.Properties)) {
		property := object.Properties[name]
		fmt.Fprintf(b, "%s- **`%s`** (%s)", indent, name, facts(&property, slices.Contains(object.Required, name)))
		inner, text := &property, property.Description
		ofKubernetes := path == "status" && name == "conditions" || wellKnown(&property)
		if property.Items != nil {
			inner = property.Items.Schema
			if !ofKubernetes {
				text += "\n" + inner.Description
			}
		}
		if text = strings.TrimSpace(text); text != "" {
			fmt.Fprintf(b, ": %s", indented(text, indent+"  "))
		}
		b.WriteString("\n")
		if ofKubernetes {
			continue
		}
		fields(b, path+"."+name, inner, depth+1)
	}
}

// wellKnown reports whether this is a label selector.
func wellKnown(s *apiextensionsv1.JSONSchemaProps) bool {
	_, ok := s.Properties["matchExpressions"]
	return ok
}

// facts says in a few words what a field takes.
func facts(s *apiextensionsv1.JSONSchemaProps, required bool) string {
	item := s
	kind := s.Type
	if s.Items != nil {
		item = s.Items.Schema
		kind = "list of " + item.Type + "s"
	}
	if wellKnown(s) {
		kind = "label selector"
	}
	all := []string{kind}
	if required {
		all = append(all, "required")
	}
	if s.Default != nil && string(s.Default.Raw) != "{}" {
		all = append(all, "default `"+string(s.Default.Raw)+"`")
	}
	if len(item.Enum) > 0 {
		values := make([]string, 0, len(item.Enum))
		for _, v := range item.Enum {
			values = append(values, "`"+strings.Trim(string(v.Raw), `"`)+"`")
		}
		all = append(all, "one of "+strings.Join(values, ", "))
	}
	if s.Minimum != nil {
		all = append(all, fmt.Sprintf("at least %v", *s.Minimum))
	}
	if s.Maximum != nil {
		all = append(all, fmt.Sprintf("at most %v", *s.Maximum))
	}
	if s.MaxItems != nil {
		all = append(all, fmt.Sprintf("at most %d", *s.MaxItems))
	}
	if item.MaxLength != nil {
		all = append(all, fmt.Sprintf("up to %d characters", *item.MaxLength))
	}
	return strings.Join(all, ", ")
}

// indented keeps a description inside its list item: prose on one line, indented blocks as code.
func indented(text, indent string) string {
	var b strings.Builder
	code := false
	for i, line := range strings.Split(text, "\n") {
		if line == "" {
			continue
		}
		if block := strings.HasPrefix(line, "\t"); block != code {
			b.WriteString("\n" + indent + "```")
			code = block
		}
		switch {
		case code:
			b.WriteString("\n" + indent + strings.TrimSpace(line))
		case i > 0 && strings.HasSuffix(b.String(), "```"):
			b.WriteString("\n" + indent + line)
		case i > 0:
			b.WriteString(" " + line)
		default:
			b.WriteString(line)
		}
	}
	if code {
		b.WriteString("\n" + indent + "```")
	}
	return b.String()
}
