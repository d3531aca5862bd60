// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/certwright/certwright/api/v1alpha1"
)

var yamlBlock = regexp.MustCompile("(?ms)^ *```yaml\n(.*?)^ *```")

// TestObjectsInGuidesHaveTheFieldsThatThereAre reads the Signers and policies in the guides, and the parts of them that are shown alone,
// and refuses fields that there are not.
func TestObjectsInGuidesHaveTheFieldsThatThereAre(t *testing.T) {
	guides := []string{"../README.md"}
	for _, pattern := range []string{"*.md", "backends/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		guides = append(guides, found...)
	}
	checked := 0
	for _, guide := range guides {
		for _, block := range yamlBlock.FindAllStringSubmatch(read(t, guide), -1) {
			for document := range strings.SplitSeq(block[1], "\n---\n") {
				text, kinds := object(document)
				if kinds == nil {
					continue
				}
				checked++
				var problems error
				for _, kind := range kinds {
					err := yaml.UnmarshalStrict([]byte(text), kind)
					if err == nil {
						problems = nil
						break
					}
					problems = errors.Join(problems, err)
				}
				if problems != nil {
					t.Errorf("%s: %v:\n%s", guide, problems, document)
				}
			}
		}
	}
	if checked < 15 {
		t.Errorf("found only %d objects: has the form changed?", checked)
	}
}

var (
	kind = regexp.MustCompile(`(?m)^kind: (Signer|CertificatePolicy)\b`)
	// within says where a part belongs that is shown alone.
	within = map[string]string{
		"spec": "", "solvers": "spec: backends: acme:", "dns01": "spec: backends: acme: solvers:",
		"backends": "spec:", "podCertificates": "spec:", "trustBundle": "spec:", "limits": "spec:", "validations": "spec:", "quotas": "spec:",
		"venafi": "spec: backends:", "external": "spec: backends:", "vault": "spec: backends:", "acme": "spec: backends:", "ca": "spec: backends:",
	}
)

// object makes a whole one of what a block shows, and says as which kinds it may be read; none if it is not for Certwright.
func object(text string) (whole string, kinds []any) {
	text = dedent(text)
	switch of := kind.FindStringSubmatch(text); {
	case of == nil:
	case of[1] == "Signer":
		return text, []any{&v1alpha1.Signer{}}
	default:
		return text, []any{&v1alpha1.CertificatePolicy{}}
	}
	first, _, _ := strings.Cut(text, ":")
	path, ok := within[first]
	if !ok {
		return "", nil
	}
	fields := strings.Fields(path)
	for i := len(fields) - 1; i >= 0; i-- {
		begin := "  "
		if fields[i] == "backends:" || fields[i] == "solvers:" { // lists
			begin = "- "
		}
		text = fields[i] + "\n" + begin + strings.ReplaceAll(text, "\n", "\n  ")
	}
	return text, []any{&v1alpha1.Signer{}, &v1alpha1.CertificatePolicy{}}
}

// dedent takes away the spaces that all lines begin with.
func dedent(text string) string {
	indent := len(text) - len(strings.TrimLeft(text, " "))
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, strings.Repeat(" ", indent))
	}
	return strings.Join(lines, "\n")
}
