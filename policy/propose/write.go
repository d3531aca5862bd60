// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package propose

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	yamlv3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"

	"github.com/certwright/certwright/api/v1alpha1"
)

// maxValues and maxSubjectValues are how many values a list of a CertificatePolicy may have.
const (
	maxValues        = 256
	maxSubjectValues = 64
)

// write writes a policy for each group.
func write(groups []group) ([]byte, error) {
	var b bytes.Buffer
	encoder := yamlv3.NewEncoder(&b)
	encoder.SetIndent(2)
	encoder.CompactSeqIndent()
	policyNames := names(groups)
	for i, g := range groups {
		if err := encoder.Encode(g.policy(policyNames[i])); err != nil {
			return nil, fmt.Errorf("writing a policy: %w", err)
		}
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("writing policies: %w", err)
	}
	return b.Bytes(), nil
}

func (g *group) policy(name string) *yamlv3.Node {
	spec := mapping()
	add(spec, "signerNames", list([]string{g.signerName}, nil))
	add(spec, "requesters", g.requesters())
	add(spec, "allow", g.shape.allow())
	approval := v1alpha1.ApprovalAutomatic
	if len(g.users) > 0 {
		approval = v1alpha1.ApprovalManual
		add(spec, "approval", comment(scalar(string(approval)), "not asked for by a workload: a person looks at each request"))
	} else {
		add(spec, "approval", scalar(string(approval)))
	}
	metadata := mapping()
	add(metadata, "name", scalar(name))
	document := mapping()
	add(document, "apiVersion", scalar(v1alpha1.GroupVersion.String()))
	add(document, "kind", scalar("CertificatePolicy"))
	add(document, "metadata", metadata)
	add(document, "spec", spec)
	head := []string{"# Rests on " + requests(g.shape.requests) + "."}
	if g.shape.guessed > 0 {
		head = append(head, fmt.Sprintf("# The pods of %d of them are gone: their Services are a guess by the names that were asked for.", g.shape.guessed))
	}
	document.Content[0].HeadComment = strings.Join(head, "\n")
	return document
}

func (g *group) requesters() *yamlv3.Node {
	node := mapping()
	if len(g.users) > 0 {
		add(node, "users", list(g.users, nil))
		return node
	}
	in, expression, selector := mapping(), &yamlv3.Node{Kind: yamlv3.SequenceNode}, mapping()
	add(in, "key", scalar("kubernetes.io/metadata.name"))
	add(in, "operator", scalar("In"))
	add(in, "values", list(g.namespaces, nil))
	expression.Content = append(expression.Content, in)
	add(selector, "matchExpressions", expression)
	add(node, "namespaceSelector", selector)
	add(node, "serviceAccounts", list(g.serviceAccounts, nil))
	if g.shape.fromPods() {
		empty := mapping()
		empty.Style = yamlv3.FlowStyle
		add(node, "podSelector", comment(empty, "all came from pods: live ones only"))
	}
	return node
}

func (s *shape) allow() *yamlv3.Node {
	node := mapping()
	counted := func(into *yamlv3.Node, key, path string) {
		if values := s.values[path]; len(values) > 0 {
			add(into, key, list(s.ordered(path), func(value string) string { return requests(values[value]) }))
		}
	}
	counted(node, dnsNames, dnsNames)
	if s.wildcards > 0 {
		add(node, "wildcards", comment(boolean(), requests(s.wildcards)))
	}
	for _, path := range []string{uris, ipAddresses, emailAddresses, commonNames} {
		counted(node, path, path)
	}
	subject := mapping()
	for _, path := range slices.Sorted(maps.Keys(s.values)) {
		if attribute, ok := strings.CutPrefix(path, "subject."); ok {
			counted(subject, attribute, path)
		}
	}
	if len(subject.Content) > 0 {
		add(node, "subject", subject)
	}
	counted(node, usages, usages)
	algorithms := &yamlv3.Node{Kind: yamlv3.SequenceNode}
	for _, algorithm := range slices.Sorted(maps.Keys(s.keys)) {
		key := mapping()
		add(key, "algorithm", comment(scalar(algorithm), requests(s.keys[algorithm].requests)))
		if algorithm != string(v1alpha1.Ed25519) {
			add(key, "minSize", &yamlv3.Node{Kind: yamlv3.ScalarNode, Tag: "!!int", Value: strconv.Itoa(s.keys[algorithm].minSize)})
		}
		algorithms.Content = append(algorithms.Content, key)
	}
	add(node, "keys", algorithms)
	if s.isCA > 0 {
		add(node, "isCA", comment(boolean(), requests(s.isCA)))
	}
	if s.longest > 0 {
		// A certificate begins a little after its request. No policy may say less than half a minute.
		longest := max(s.longest.Truncate(time.Second), 30*time.Second)
		if longest > 10*time.Minute {
			longest = longest.Truncate(time.Minute)
		}
		add(node, "maxDuration", comment(scalar(plainDuration(longest)), "the longest seen"))
	}
	return node
}

// ordered returns the values of a list, those that most requests ask for first, and no more than a policy may have.
func (s *shape) ordered(path string) []string {
	values := slices.SortedFunc(maps.Keys(s.values[path]), func(a, b string) int {
		return cmp.Or(cmp.Compare(s.values[path][b], s.values[path][a]), cmp.Compare(a, b))
	})
	most := maxValues
	if strings.HasPrefix(path, "subject.") {
		most = maxSubjectValues
	}
	return values[:min(len(values), most)]
}

func requests(n int) string {
	if n == 1 {
		return "1 request"
	}
	return fmt.Sprintf("%d requests", n)
}

// plainDuration leaves out the zeros that Go writes at the end.
func plainDuration(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

func mapping() *yamlv3.Node { return &yamlv3.Node{Kind: yamlv3.MappingNode} }

// scalar is a text, in quotes where Kubernetes, which reads YAML 1.1, would take it for something else, such as yes for true.
func scalar(text string) *yamlv3.Node {
	node := &yamlv3.Node{Kind: yamlv3.ScalarNode, Tag: "!!str", Value: text}
	var read any
	if err := yaml.Unmarshal([]byte(text), &read); err != nil || read != any(text) {
		node.Style = yamlv3.DoubleQuotedStyle
	}
	return node
}

func boolean() *yamlv3.Node {
	return &yamlv3.Node{Kind: yamlv3.ScalarNode, Tag: "!!bool", Value: "true"}
}

func comment(node *yamlv3.Node, text string) *yamlv3.Node {
	node.LineComment = "# " + text
	return node
}

func add(to *yamlv3.Node, key string, value *yamlv3.Node) {
	to.Content = append(to.Content, scalar(key), value)
}

// list is a list of texts, with what there is to say about each.
func list(values []string, about func(string) string) *yamlv3.Node {
	node := &yamlv3.Node{Kind: yamlv3.SequenceNode}
	if about == nil {
		node.Style = yamlv3.FlowStyle
	}
	for _, value := range values {
		item := scalar(value)
		if about != nil {
			comment(item, about(value))
		}
		node.Content = append(node.Content, item)
	}
	return node
}
