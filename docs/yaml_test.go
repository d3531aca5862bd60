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
	if checked < 25 {
		t.Errorf("found only %d objects: has the form changed?", checked)
	}
}

// object makes a whole one of what a block shows, and says as which kinds it may be read; none if it is not for Certwright.
func object(text string) (whole string, kinds []any) {
	text = dedent(text)
	first, _, _ := strings.Cut(text, ":")
	switch first {
	case "apiVersion":
		switch {
		case !strings.Contains(text, "certwright.dev/v1alpha1"):
		case strings.Contains(text, "kind: Signer"):
			return text, []any{&v1alpha1.Signer{}}
		case strings.Contains(text, "kind: CertificatePolicy\n"):
			return text, []any{&v1alpha1.CertificatePolicy{}}
		}
		return "", nil
	case "spec":
		return text, []any{&v1alpha1.Signer{}, &v1alpha1.CertificatePolicy{}}
	case "backends", "podCertificates", "trustBundle", "limits", "requesters", "allow", "quotas", "validations", "matchConditions", "variables":
		return "spec:\n  " + strings.ReplaceAll(text, "\n", "\n  "), []any{&v1alpha1.Signer{}, &v1alpha1.CertificatePolicy{}}
	}
	return "", nil
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
