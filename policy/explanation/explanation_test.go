// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package explanation

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/casefile"
	"github.com/certwright/certwright/terminal"
)

func request(t *testing.T, change func(*casefile.Request)) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	r := casefile.Request{
		Name: "web", SignerName: "example.com/internal", Requester: casefile.Requester{Username: "alice", Groups: []string{"ops"}},
		DNSNames: []string{"web.example.com"}, Usages: []certificatesv1.KeyUsage{certificatesv1.UsageServerAuth},
	}
	if change != nil {
		change(&r)
	}
	object, err := r.Object()
	if err != nil {
		t.Fatal(err)
	}
	return object
}

func compiled(t *testing.T, name string, change func(*v1alpha1.CertificatePolicySpec)) *policy.Policy {
	t.Helper()
	p := &v1alpha1.CertificatePolicy{}
	p.Name = name
	p.Spec = v1alpha1.CertificatePolicySpec{
		SignerNames: []string{"example.com/internal"},
		Requesters:  v1alpha1.Requesters{Groups: []string{"ops"}},
		Allow: v1alpha1.Allow{
			DNSNames: []string{"*.example.com"}, Usages: []certificatesv1.KeyUsage{certificatesv1.UsageServerAuth},
			Keys: []v1alpha1.Key{{Algorithm: v1alpha1.ECDSA}}, MaxDuration: &metav1.Duration{Duration: time.Hour},
		},
	}
	if change != nil {
		change(&p.Spec)
	}
	result, err := policy.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func noFacts(csr.Request) (policy.Facts, error) { return policy.Facts{}, nil }

func explain(t *testing.T, object *certificatesv1.CertificateSigningRequest, policies ...*policy.Policy) *Explanation {
	t.Helper()
	e, err := New(object, noFacts, policies)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func written(t *testing.T, e *Explanation) string {
	t.Helper()
	var out strings.Builder
	if err := e.WriteText(&out, terminal.Palette{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	good := compiled(t, "good", nil)
	for name, tc := range map[string]struct {
		object   *certificatesv1.CertificateSigningRequest
		policies []*policy.Policy
		verdict  policy.Verdict
		message  string
	}{
		"permitted":              {request(t, nil), []*policy.Policy{good}, policy.Permit, `Permitted by CertificatePolicy "good".`},
		"denied":                 {request(t, func(r *casefile.Request) { r.DNSNames = []string{"example.org"} }), []*policy.Policy{good}, policy.Deny, `"example.org" not allowed`},
		"nobody speaks of it":    {request(t, func(r *casefile.Request) { r.Requester.Groups = nil }), []*policy.Policy{good}, policy.NoOpinion, "No CertificatePolicy selects this requester"},
		"no policies":            {request(t, nil), nil, policy.NoOpinion, "No CertificatePolicy selects this requester"},
		"cannot be read":         {request(t, func(r *casefile.Request) { r.DNSNames = []string{"a."} }), []*policy.Policy{good}, policy.Deny, "The request cannot be read and is denied whatever policies say: "},
		"a signer of Kubernetes": {request(t, func(r *casefile.Request) { r.SignerName = "kubernetes.io/kube-apiserver-client" }), []*policy.Policy{good}, policy.NoOpinion, "belongs to Kubernetes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := explain(t, tc.object, tc.policies...)
			if e.Decided() != tc.verdict || e.Verdict != tc.verdict.String() || !strings.Contains(e.Message, tc.message) {
				t.Errorf("got %s: %s; want %s: %s", e.Verdict, e.Message, tc.verdict, tc.message)
			}
		})
	}
}

func TestTroubleIsNoVerdict(t *testing.T) {
	t.Parallel()
	trouble := errors.New("trouble")
	_, err := New(request(t, nil), func(csr.Request) (policy.Facts, error) { return policy.Facts{}, trouble }, nil)
	if !errors.Is(err, trouble) {
		t.Errorf("got %v, want the trouble", err)
	}
}

// The explanation must say of each policy what the decision rests on, and so must its text.
func TestEveryPolicyIsExplained(t *testing.T) {
	t.Parallel()
	object := request(t, nil)
	e := explain(t, object,
		compiled(t, "permits", func(s *v1alpha1.CertificatePolicySpec) {
			s.Approval = v1alpha1.ApprovalManual
			s.Quotas = []v1alpha1.Quota{{Per: v1alpha1.PerPolicy, Requests: 3}}
		}),
		compiled(t, "denies", func(s *v1alpha1.CertificatePolicySpec) { s.Allow.DNSNames = []string{"db.example.com"} }),
		compiled(t, "others", func(s *v1alpha1.CertificatePolicySpec) { s.Requesters.Groups = []string{"people"} }),
		compiled(t, "tries", func(s *v1alpha1.CertificatePolicySpec) { s.Mode = v1alpha1.ModeAudit }),
	)
	if e.Policy != "permits" || e.Approval != v1alpha1.ApprovalManual || e.MaxDuration != "1h0m0s" || len(e.Quotas) != 1 {
		t.Errorf("got policy %q, approval %q, at most %q, %d quotas", e.Policy, e.Approval, e.MaxDuration, len(e.Quotas))
	}
	for i, want := range []struct {
		name                string
		selected, permitted bool
	}{{"permits", true, true}, {"denies", true, false}, {"others", false, false}, {"tries", true, true}} {
		p := e.Policies[i]
		if p.Name != want.name || p.Selected != want.selected || p.Permitted != want.permitted {
			t.Errorf("got policy %s selected %v permitted %v, want %+v", p.Name, p.Selected, p.Permitted, want)
		}
		if p.Selected != (len(p.Rules) > 0) || len(p.Selection) == 0 {
			t.Errorf("policy %s: got %d rules and %d checks of selection", p.Name, len(p.Rules), len(p.Selection))
		}
		failed := slices.ContainsFunc(p.Rules, func(c Check) bool { return !c.Passed })
		if p.Selected && failed == p.Permitted {
			t.Errorf("policy %s: permitted %v, but a rule failed: %v", p.Name, p.Permitted, failed)
		}
	}
	text := written(t, e)
	for _, want := range []string{
		"✓ policy permits permits this request: a person must approve it, for at most 1h0m0s\n",
		"✗ policy denies selects this request and does not permit it\n",
		"· policy others does not select this request\n",
		"✓ policy tries permits this request: approved at once, for at most 1h0m0s; in mode Audit it decides nothing\n",
		"    ✗ spec.requesters.groups  \"ops\", \"system:authenticated\"\n        wants one of \"people\"\n",
		"    ✗ spec.allow.dnsNames  \"web.example.com\"\n        ",
		"    ✓ spec.allow.dnsNames  \"web.example.com\"  by spec.allow.dnsNames[0]\n",
		"\nPermit: Permitted by CertificatePolicy \"permits\".\n  a person must approve it, for at most 1h0m0s\n  within the quota per Policy",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the text:\n%s", want, text)
		}
	}
}

func TestTextIsFitForATerminal(t *testing.T) {
	t.Parallel()
	object := request(t, func(r *casefile.Request) {
		r.Requester.Username = "alice\x1b[2J"
		r.Requester.Groups = []string{"ops", "\u202eevil\x07"}
	})
	object.Name = "a\x1b]0;title\x07"
	text := written(t, explain(t, object, compiled(t, "p", func(s *v1alpha1.CertificatePolicySpec) { s.Requesters.Groups = []string{"x"} })))
	if strings.ContainsAny(text, "\x1b\x07\u202e") {
		t.Errorf("control characters in the text: %q", text)
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(explain(t, request(t, nil), compiled(t, "p", nil)))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"verdict":"Permit"`, `"policy":"p"`, `"requester":"alice"`, `"path":"spec.allow.dnsNames","passed":true`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is not in %s", want, text)
		}
	}
}
