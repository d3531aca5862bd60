// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/certwright/certwright/policy/casefile"
	"github.com/certwright/certwright/terminal"
)

// read reads policies as the command does.
func read(t *testing.T, text string) []Policy {
	t.Helper()
	documents, err := casefile.Read("policy.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	files, err := casefile.Policies(t.Context(), documents)
	if err != nil {
		t.Fatal(err)
	}
	var policies []Policy
	for _, p := range files {
		policies = append(policies, Policy{Object: p.Object, File: p.Document.File, Line: p.Document.Line})
	}
	return policies
}

// policyOf is a policy of which nothing is to be said but for what is given.
func policyOf(name, requesters, allow, rest string) string {
	if rest != "" {
		rest = ", " + rest
	}
	return fmt.Sprintf("{apiVersion: certwright.dev/v1alpha1, kind: CertificatePolicy, metadata: {name: %s}, spec: {signerNames: [example.com/a], requesters: {%s}, allow: {maxDuration: 1h, usages: [server auth], %s}%s}}\n",
		name, requesters, allow, rest)
}

const (
	oneTeam    = `namespaceSelector: {matchLabels: {team: a}}, serviceAccounts: [web]`
	everywhere = `namespaceSelector: {}, serviceAccounts: ["*"]`
	people     = `groups: [people]`
	limited    = `quotas: [{per: Namespace, requests: 1}]`
)

func TestLint(t *testing.T) {
	for name, c := range map[string]struct {
		requesters, allow, rest string
		want                    []string
	}{
		"nothing":  {oneTeam, `dnsNames: ["{service}.{namespace}.svc"]`, "", nil},
		"nobody":   {"", `dnsNames: [a.example.com]`, "", []string{"error selects-nobody spec.requesters"}},
		"no usage": {oneTeam, `usages: []`, "", []string{"error permits-nothing spec.allow"}},
		"no key":   {oneTeam, `keys: []`, "", []string{"error permits-nothing spec.allow.keys"}},

		"placeholders of nobody": {people, `dnsNames: ["{service}.{namespace}.svc", "a.{clusterDomain}"], uris: ["spiffe://{trustDomain}/{serviceAccount}"], ipAddresses: [10.0.0.0/8, pod]`, "", []string{
			"error dead-pattern spec.allow.dnsNames[0]", "error dead-pattern spec.allow.uris[0]", "error dead-pattern spec.allow.ipAddresses[1]",
		}},
		"placeholders of a user who is a service account": {`users: ["system:serviceaccount:a:b"]`, `dnsNames: ["{service}.{namespace}.svc"], ipAddresses: [pod]`, "", nil},
		"placeholders of a group of service accounts":     {`groups: ["system:serviceaccounts:shop"]`, `dnsNames: ["{service}.{namespace}.svc"]`, "", nil},
		"wildcards without a pattern":                     {oneTeam, `wildcards: true, dnsNames: ["a.example.com"]`, "", []string{"warning dead-pattern spec.allow.wildcards"}},
		"a label that is there and not there":             {`namespaceSelector: {matchLabels: {a: b}, matchExpressions: [{key: a, operator: DoesNotExist}]}, serviceAccounts: [web]`, `dnsNames: []`, "", []string{"error dead-selector spec.requesters.namespaceSelector"}},
		"a label with two values":                         {`namespaceSelector: {}, serviceAccounts: [web], podSelector: {matchLabels: {a: b}, matchExpressions: [{key: a, operator: In, values: [c, d]}]}`, `dnsNames: []`, "", []string{"error dead-selector spec.requesters.podSelector"}},
		"a label with one of two values":                  {`namespaceSelector: {matchLabels: {a: b}, matchExpressions: [{key: a, operator: In, values: [c, b]}]}, serviceAccounts: [web]`, `dnsNames: []`, "", nil},

		"subsumed names": {oneTeam, `dnsNames: ["a.{namespace}.example.com", "*.{namespace}.example.com", "*.b.example.com", "*.{clusterDomain}", "a.{clusterDomain}", "{clusterDomain}.{namespace}.example.com"]`, "", []string{
			"warning subsumed spec.allow.dnsNames[0]", "warning subsumed spec.allow.dnsNames[4]",
			"warning wildcard spec.allow.dnsNames[1]", "warning wildcard spec.allow.dnsNames[2]", "warning wildcard spec.allow.dnsNames[3]",
		}},
		"subsumed URIs": {oneTeam, `uris: ["spiffe://a/ns/{namespace}/sa/*", "spiffe://a/ns/{namespace}/sa/{serviceAccount}", "spiffe://a/NS/{namespace}/sa/{serviceAccount}"]`, "", []string{
			"warning subsumed spec.allow.uris[1]", "warning wildcard spec.allow.uris[0]",
		}},
		"subsumed texts": {oneTeam, `commonNames: ["a-*", "a-b*c", "{namespace}", "*name*"], emailAddresses: ["*@example.com", "ops@example.com"], ipAddresses: [10.0.0.0/8, 10.1.0.0/16, 10.2.3.4, pod, "fd00::/8"]`, "", []string{
			"warning subsumed spec.allow.emailAddresses[1]", "warning subsumed spec.allow.commonNames[1]",
			"warning subsumed spec.allow.ipAddresses[1]", "warning subsumed spec.allow.ipAddresses[2]",
		}},
		"subsumed service accounts": {`namespaceSelector: {matchLabels: {a: b}}, serviceAccounts: ["w*", "web"]`, `dnsNames: []`, "", []string{"warning subsumed spec.requesters.serviceAccounts[1]"}},

		"everybody":             {`groups: ["system:authenticated"]`, `commonNames: [a]`, limited, []string{"error everybody spec.requesters.groups[0]"}},
		"all service accounts":  {`groups: ["system:serviceaccounts"]`, `dnsNames: ["{service}.{namespace}.svc"]`, "", []string{"warning everybody spec.requesters.groups[0]", "warning no-quota spec"}},
		"a CA":                  {oneTeam, `isCA: true`, "", []string{"warning ca spec.allow.isCA"}},
		"wildcard certificates": {oneTeam, `wildcards: true, dnsNames: ["*.example.com"]`, "", []string{"warning wildcard-certificate spec.allow.wildcards", "warning wildcard spec.allow.dnsNames[0]"}},
		"any text":              {oneTeam, `commonNames: ["*"], subject: {organizations: ["**"]}`, "", []string{"warning wildcard spec.allow.commonNames[0]", "warning wildcard spec.allow.subject.organizations[0]"}},
		"any address":           {oneTeam, `ipAddresses: [0.0.0.0/0, "::/0"]`, "", []string{"error any-address spec.allow.ipAddresses[0]", "error any-address spec.allow.ipAddresses[1]"}},

		"one name for all": {everywhere, `dnsNames: ["web.{clusterDomain}", "{service}.{namespace}.svc"], commonNames: [web]`, limited, []string{
			"error shared-name spec.allow.dnsNames[0]", "error shared-name spec.allow.commonNames[0]",
		}},
		"one name for all but some": {`namespaceSelector: {matchExpressions: [{key: a, operator: DoesNotExist}]}, serviceAccounts: ["*"], podSelector: {}`, `emailAddresses: [a@example.com]`, limited, []string{"error shared-name spec.allow.emailAddresses[0]"}},
		"one name for a team":       {oneTeam, `dnsNames: [web.example.com]`, "", nil},
		"names of pods": {oneTeam, `dnsNames: ["{pod}.{namespace}.svc", "{pod}.example.com", "{pod}.pods.{namespace}.svc", "{pod}.{namespace}"], commonNames: ["{pod}", "{namespace}/{pod}"]`, "", []string{
			"warning pod-name spec.allow.dnsNames[0]", "warning pod-name spec.allow.dnsNames[1]", "warning pod-name spec.allow.dnsNames[3]", "warning pod-name spec.allow.commonNames[0]",
		}},
		"no namespace": {oneTeam, `commonNames: ["{serviceAccount}"], uris: ["spiffe://{trustDomain}/sa/{serviceAccount}", "spiffe://{trustDomain}/web"], dnsNames: ["{service}.example.com"]`, "", []string{
			"warning no-namespace spec.allow.dnsNames[0]", "warning no-namespace spec.allow.uris[0]", "warning no-namespace spec.allow.uris[1]", "warning no-namespace spec.allow.commonNames[0]",
		}},
		"no namespace where there is one": {`namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}, serviceAccounts: [web]`, `commonNames: ["{serviceAccount}"]`, "", nil},
		"no namespace of a user":          {`users: ["system:serviceaccount:a:b"]`, `commonNames: ["{serviceAccount}"], uris: ["spiffe://a/b"]`, "", nil},

		"no quota":                 {everywhere, `dnsNames: ["{service}.{namespace}.svc"]`, "", []string{"warning no-quota spec"}},
		"no quota before a person": {everywhere, `dnsNames: ["{service}.{namespace}.svc"]`, "approval: Manual", nil},
		"RSA keys of any size":     {oneTeam, `keys: [{algorithm: ECDSA}, {algorithm: RSA}]`, "", []string{"info rsa-size spec.allow.keys[1]"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, f := range Lint(read(t, override(policyOf("x", c.requesters, c.allow, c.rest), c.allow))) {
				got = append(got, fmt.Sprintf("%s %s %s", f.Severity, f.ID, f.Path))
				if f.Message == "" || f.Advice == "" || f.Policy != "x" || f.File != "policy.yaml" || f.Line != 1 {
					t.Errorf("finding %+v does not say all", f)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// override keeps a field that allow sets from being there twice.
func override(text, allow string) string {
	if strings.HasPrefix(allow, "usages:") {
		return strings.Replace(text, "usages: [server auth], ", "", 1)
	}
	return text
}

func TestNoMaxDuration(t *testing.T) {
	text := strings.Replace(policyOf("x", oneTeam, `dnsNames: []`, ""), "maxDuration: 1h, ", "", 1)
	if got := Lint(read(t, text)); len(got) != 1 || got[0].ID != "no-max-duration" {
		t.Errorf("got %+v", got)
	}
}

func TestShadowed(t *testing.T) {
	const names = `dnsNames: ["a.example.com", "b.example.com"], ipAddresses: [10.1.0.0/16]`
	for name, c := range map[string]struct {
		wide, narrow string
		want         bool
	}{
		"the same":                  {policyOf("wide", oneTeam, names, ""), policyOf("narrow", oneTeam, names, ""), true},
		"fewer names":               {policyOf("wide", oneTeam, names, ""), policyOf("narrow", oneTeam, `dnsNames: [a.example.com]`, ""), true},
		"another name":              {policyOf("wide", oneTeam, names, ""), policyOf("narrow", oneTeam, `dnsNames: [c.example.com]`, ""), false},
		"another address":           {policyOf("wide", oneTeam, names, ""), policyOf("narrow", oneTeam, `ipAddresses: [10.0.0.0/8]`, ""), false},
		"an address of the pod":     {policyOf("wide", oneTeam, names, ""), policyOf("narrow", oneTeam, `ipAddresses: [pod]`, ""), false},
		"fewer service accounts":    {policyOf("wide", everywhere, names, ""), policyOf("narrow", oneTeam, names, ""), true},
		"more service accounts":     {policyOf("wide", oneTeam, names, ""), policyOf("narrow", everywhere, names, ""), false},
		"other labels":              {policyOf("wide", oneTeam, names, ""), policyOf("narrow", strings.Replace(oneTeam, "team: a", "team: b", 1), names, ""), false},
		"pods only":                 {policyOf("wide", oneTeam, names, ""), policyOf("narrow", oneTeam+", podSelector: {}", names, ""), true},
		"not pods only":             {policyOf("wide", oneTeam+", podSelector: {}", names, ""), policyOf("narrow", oneTeam, names, ""), false},
		"fewer pods":                {policyOf("wide", oneTeam+", podSelector: {}", names, ""), policyOf("narrow", oneTeam+", podSelector: {matchLabels: {a: b}}", names, ""), true},
		"somebody else":             {policyOf("wide", oneTeam, names, ""), policyOf("narrow", oneTeam+", users: [alice]", names, ""), false},
		"a group more":              {policyOf("wide", oneTeam, names, ""), policyOf("narrow", oneTeam+", groups: [people]", names, ""), false},
		"somebody of everybody":     {policyOf("wide", `groups: ["system:authenticated"]`, names, ""), policyOf("narrow", oneTeam+", users: [alice]", names, ""), true},
		"a person first":            {policyOf("wide", oneTeam, names, "approval: Manual"), policyOf("narrow", oneTeam, names, ""), false},
		"a person needlessly":       {policyOf("wide", oneTeam, names, ""), policyOf("narrow", oneTeam, names, "approval: Manual"), true},
		"longer":                    {policyOf("wide", oneTeam, names, ""), strings.Replace(policyOf("narrow", oneTeam, names, ""), "1h", "2h", 1), false},
		"without end":               {policyOf("wide", oneTeam, names, ""), strings.Replace(policyOf("narrow", oneTeam, names, ""), "maxDuration: 1h, ", "", 1), false},
		"shorter":                   {strings.Replace(policyOf("wide", oneTeam, names, ""), "maxDuration: 1h, ", "", 1), policyOf("narrow", oneTeam, names, ""), true},
		"another usage":             {policyOf("wide", oneTeam, names, ""), strings.Replace(policyOf("narrow", oneTeam, names, ""), "server auth", "client auth", 1), false},
		"another signerName":        {policyOf("wide", oneTeam, names, ""), strings.Replace(policyOf("narrow", oneTeam, names, ""), "example.com/a", "example.com/b", 1), false},
		"smaller keys":              {policyOf("wide", oneTeam, names+", keys: [{algorithm: ECDSA, minSize: 384}]", ""), policyOf("narrow", oneTeam, names+", keys: [{algorithm: ECDSA}]", ""), false},
		"larger keys":               {policyOf("wide", oneTeam, names+", keys: [{algorithm: ECDSA}]", ""), policyOf("narrow", oneTeam, names+", keys: [{algorithm: ECDSA, minSize: 384}]", ""), true},
		"a CA":                      {policyOf("wide", oneTeam, names, ""), policyOf("narrow", oneTeam, names+", isCA: true", ""), false},
		"wildcards":                 {policyOf("wide", oneTeam, names, ""), policyOf("narrow", oneTeam, names+", wildcards: true", ""), false},
		"a validation":              {policyOf("wide", oneTeam, names, ""), policyOf("narrow", oneTeam, names, "validations: [{expression: 'true'}]"), true},
		"a validation less":         {policyOf("wide", oneTeam, names, "validations: [{expression: 'true'}]"), policyOf("narrow", oneTeam, names, ""), false},
		"the same validation":       {policyOf("wide", oneTeam, names, "validations: [{expression: 'true'}]"), policyOf("narrow", oneTeam, names, "validations: [{expression: 'false'}, {expression: 'true'}]"), true},
		"a condition":               {policyOf("wide", oneTeam, names, ""), policyOf("narrow", oneTeam, names, "matchConditions: [{name: a, expression: 'true'}]"), true},
		"a condition less":          {policyOf("wide", oneTeam, names, "matchConditions: [{name: a, expression: 'true'}]"), policyOf("narrow", oneTeam, names, ""), false},
		"a quota":                   {policyOf("wide", oneTeam, names, ""), policyOf("narrow", oneTeam, names, limited), true},
		"a quota less":              {policyOf("wide", oneTeam, names, limited), policyOf("narrow", oneTeam, names, ""), false},
		"one that only reports":     {policyOf("wide", oneTeam, names, ""), policyOf("narrow", oneTeam, names, "mode: Audit"), false},
		"by one that only reports":  {policyOf("wide", oneTeam, names, "mode: Audit"), policyOf("narrow", oneTeam, names, ""), false},
		"another organization":      {policyOf("wide", oneTeam, names, ""), policyOf("narrow", oneTeam, names+", subject: {organizations: [a]}", ""), false},
		"an organization of many":   {policyOf("wide", oneTeam, names+", subject: {organizations: ['a*']}", ""), policyOf("narrow", oneTeam, names+", subject: {organizations: [ab]}", ""), true},
		"a name of another pattern": {policyOf("wide", oneTeam, `commonNames: ["*name*"]`, ""), policyOf("narrow", oneTeam, `commonNames: ["{namespace}"]`, ""), false},
	} {
		t.Run(name, func(t *testing.T) {
			for order, text := range map[string]string{"wide first": c.wide + "---\n" + c.narrow, "narrow first": c.narrow + "---\n" + c.wide} {
				var got []string
				for _, f := range Lint(read(t, text)) {
					if f.ID == "shadowed" {
						got = append(got, f.Policy)
					}
				}
				want := []string{"narrow"}
				switch {
				case !c.want:
					want = nil
				case name == "the same" && order == "narrow first":
					want = []string{"wide"}
				}
				if !slices.Equal(got, want) && (c.want || slices.Contains(got, "narrow")) {
					t.Errorf("%s: shadowed are %q, want %q", order, got, want)
				}
			}
		})
	}
}

func TestIgnore(t *testing.T) {
	text := strings.Replace(policyOf("x", everywhere, `dnsNames: [web.example.com], commonNames: [web]`, ""), "metadata: {name: x}",
		`metadata: {name: x, annotations: {certwright.dev/lint-ignore: "shared-name, rsa-size,ignores-nothing"}}`, 1)
	var got []string
	for _, f := range Lint(read(t, text)) {
		got = append(got, f.ID+": "+f.Message)
	}
	want := []string{
		"no-quota: every service account of the cluster may ask as often as it likes, and is approved at once",
		`ignores-nothing: there is no finding "rsa-size" to ignore`, `ignores-nothing: there is no finding "ignores-nothing" to ignore`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestSeverities(t *testing.T) {
	if !Error.AtLeast(Warning) || !Warning.AtLeast(Warning) || Info.AtLeast(Warning) {
		t.Error("severities are out of order")
	}
}

func TestText(t *testing.T) {
	findings := []Finding{
		{Severity: Error, ID: "a", File: "p.yaml", Line: 7, Policy: "x", Path: "spec.allow", Message: "is \x1b[31mred", Advice: "do this"},
		{Severity: Warning, ID: "b", File: "certificatepolicy/x", Policy: "x", Path: "spec", Message: "m", Advice: "n"},
		{Severity: Info, ID: "c", File: "p.yaml", Line: 1, Policy: "x", Path: "spec", Message: "m", Advice: "n"},
	}
	var b bytes.Buffer
	if err := WriteText(&b, terminal.Palette{}, findings); err != nil {
		t.Fatal(err)
	}
	want := `p.yaml:7: error: policy x: spec.allow: is \x1b[31mred [a]
    do this
certificatepolicy/x: warning: policy x: spec: m [b]
    n
p.yaml:1: info: policy x: spec: m [c]
    n
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &b, want)
	}
	b.Reset()
	if err := WriteText(&b, terminal.NewPalette("always", &b, os.Getenv), findings); err != nil || !strings.Contains(b.String(), "\x1b[31merror") {
		t.Errorf("got %q, error %v", b.String(), err)
	}
}
