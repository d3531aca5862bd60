// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package casefile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certwright/certwright/api/v1alpha1"
)

const goodPolicy = `apiVersion: certwright.dev/v1alpha1
kind: CertificatePolicy
metadata:
  name: workloads
spec:
  signerNames: [example.com/internal]
  requesters:
    namespaceSelector: {}
    serviceAccounts: ["*"]
  allow:
    dnsNames:
    - "{service}.{namespace}.svc"
    usages: [server auth]
`

func TestPolicyGetsTheDefaultsOfTheAPIServer(t *testing.T) {
	t.Parallel()
	documents, err := Read("p.yaml", []byte(goodPolicy+"  quotas: [{per: Pod, requests: 3}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := documents[0].Policy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	spec := p.Object.Spec
	if len(spec.Allow.Keys) != 3 || spec.Approval != v1alpha1.ApprovalAutomatic || spec.Mode != v1alpha1.ModeEnforce {
		t.Errorf("defaults: got keys %v, approval %q, mode %q", spec.Allow.Keys, spec.Approval, spec.Mode)
	}
	if got := spec.Quotas[0].Period.Duration.String(); got != "1h0m0s" {
		t.Errorf("period: got %s, want 1h0m0s", got)
	}
	if p.Compiled.Name != "workloads" || !p.Compiled.SpeaksOf("example.com/internal") {
		t.Errorf("compiled: got %q", p.Compiled.Name)
	}
}

// What kubectl apply would refuse, and what Certwright refuses after it, is refused here, at its line.
func TestPolicyRefusals(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ old, new, want string }{
		"unknown field":        {"usages:", "usage:", "p.yaml:13: spec.allow.usage: no such field"},
		"unknown metadata":     {"name: workloads", "name: workloads\n  nick: x", "p.yaml:5: metadata.nick: no such field"},
		"required field":       {"  signerNames: [example.com/internal]\n", "", "p.yaml:5: spec.signerNames: Required value"},
		"wrong type":           {"[server auth]", "server auth", "p.yaml:13: spec.allow.usages: is text; it must be a list"},
		"value of an enum":     {"  allow:", "  approval: Later\n  allow:", `p.yaml:10: spec.approval: Unsupported value: "Later"`},
		"length of a list":     {"[example.com/internal]", "[]", "p.yaml:6: spec.signerNames: Invalid value"},
		"duplicate in a set":   {"[server auth]", "[server auth, server auth]", `p.yaml:13: spec.allow.usages[1]: Duplicate value: "server auth"`},
		"rule of the schema":   {`    serviceAccounts: ["*"]` + "\n", "", "p.yaml:7: spec.requesters: Invalid value: namespaceSelector and serviceAccounts select service accounts together"},
		"signer of Kubernetes": {"example.com/internal", "kubernetes.io/kubelet-serving", "p.yaml:6: spec.signerNames: Invalid value: signerNames under kubernetes.io belong to Kubernetes"},
		"pattern":              {"{service}.{namespace}.svc", "{servcie}.svc", "p.yaml:12: spec.allow.dnsNames[0]: Invalid value"},
		"duration":             {"    usages:", "    maxDuration: soon\n    usages:", "p.yaml:13: spec.allow.maxDuration: "},
		"name":                 {"name: workloads", "name: Work_loads", `p.yaml:4: metadata.name: is "Work_loads"; a lowercase RFC 1123 subdomain`},
		"no name":              {"name: workloads", "labels: {}", `p.yaml:3: metadata.name: is ""`},
		"another version":      {"v1alpha1", "v1beta7", `p.yaml:1: apiVersion: is "certwright.dev/v1beta7"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(goodPolicy, tc.old, tc.new, 1)
			if text == goodPolicy {
				t.Fatalf("%q is not in the policy", tc.old)
			}
			documents, err := Read("p.yaml", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			_, err = Policies(t.Context(), documents)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v\nwant %s", err, tc.want)
			}
		})
	}
}

func TestPoliciesPassesOverOtherKindsAndRefusesTwins(t *testing.T) {
	t.Parallel()
	documents, err := Read("p.yaml", []byte("kind: ClusterRole\napiVersion: rbac.authorization.k8s.io/v1\n---\n"+goodPolicy))
	if err != nil {
		t.Fatal(err)
	}
	policies, err := Policies(t.Context(), documents)
	if err != nil || len(policies) != 1 {
		t.Fatalf("got %d policies and %v, want one", len(policies), err)
	}
	twins := append(documents, documents[1])
	if _, err := Policies(t.Context(), twins); err == nil || !strings.Contains(err.Error(), "p.yaml:7: metadata.name: \"workloads\" is the name of the policy at p.yaml:4 already") {
		t.Errorf("twins: got %v", err)
	}
}

func TestLoadPolicies(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := LoadPolicies(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "holds no CertificatePolicy") {
		t.Errorf("an empty directory: got %v", err)
	}
	for name, text := range map[string]string{"a.yaml": goodPolicy, "b.yaml": strings.ReplaceAll(goodPolicy, "workloads", "other")} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	policies, err := LoadPolicies(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	compiled := Compiled(policies)
	if len(compiled) != 2 || compiled[0].Name != "workloads" || compiled[1].Name != "other" {
		t.Errorf("got %v", compiled)
	}
}

// The examples that are shipped must pass what they are held against here.
func TestExamplesAreGood(t *testing.T) {
	t.Parallel()
	policies, err := LoadPolicies(t.Context(), filepath.Join("..", "..", "manifests", "examples"))
	if err != nil {
		t.Fatal(err)
	}
	if len(policies) == 0 {
		t.Error("no policy among the examples")
	}
}
