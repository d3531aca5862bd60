// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package explanation tells people what becomes of a request, and why: what each policy looked at, what passed and what
// would have to change. It asks the code that decides, and has no opinion of its own.
package explanation

import (
	"errors"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/inspect"
	"github.com/certwright/certwright/policy"
)

// Explanation is a decision about a request and how it came about.
type Explanation struct {
	// Request is what is asked for, and by whom.
	Request *inspect.Request `json:"request"`
	// Verdict is Permit, Deny or NoOpinion.
	Verdict string `json:"verdict"`
	// Message is what the approver says to it.
	Message string `json:"message"`
	// Policy is the name of the policy that permits. Empty unless the verdict is Permit.
	Policy string `json:"policy,omitempty"`
	// Approval says who approves what is permitted: Automatic or Manual.
	Approval v1alpha1.Approval `json:"approval,omitempty"`
	// Quotas of the policy that permits: over them the request waits.
	Quotas []v1alpha1.Quota `json:"quotas,omitempty"`
	// MaxDuration is the longest lifetime that the policy permits, such as "24h0m0s"; empty if it sets none.
	MaxDuration string `json:"maxDuration,omitempty"`
	// Policies are all that were asked, in order.
	Policies []Policy `json:"policies,omitempty"`
	// Notes say what may make the decision in the cluster another one.
	Notes []string `json:"notes,omitempty"`

	verdict policy.Verdict
}

// Policy is what one policy has to say.
type Policy struct {
	Name string `json:"name"`
	// Mode is Enforce or Audit.
	Mode v1alpha1.Mode `json:"mode"`
	// Approval is Automatic or Manual.
	Approval    v1alpha1.Approval `json:"approval"`
	MaxDuration string            `json:"maxDuration,omitempty"`
	// Selected is true if the policy speaks of the request.
	Selected bool `json:"selected"`
	// Permitted is true if the policy permits all of it.
	Permitted bool `json:"permitted"`
	// Selection are the checks that make it speak of the request or not.
	Selection []Check `json:"selection,omitempty"`
	// Rules are the checks of what is asked for. Empty unless the request is selected.
	Rules []Check `json:"rules,omitempty"`
}

// Check is one thing that a policy looked at.
type Check struct {
	// Path of the field in the CertificatePolicy.
	Path   string `json:"path"`
	Passed bool   `json:"passed"`
	// Asked are the values of the request that it was about, quoted where they are text.
	Asked []string `json:"asked,omitempty"`
	// Message says why it passed, or what would have to change.
	Message string `json:"message,omitempty"`
	// Used are the paths of the rules that matched.
	Used []string `json:"used,omitempty"`
}

// Decided returns what became of the request, for programs.
func (e *Explanation) Decided() policy.Verdict { return e.verdict }

// New explains what policies decide about a request on these facts. An object that csr.Parse refuses is denied, as the
// approver does; other errors are returned.
func New(object *certificatesv1.CertificateSigningRequest, facts func(csr.Request) (policy.Facts, error), policies []*policy.Policy) (*Explanation, error) {
	e := &Explanation{Request: inspect.NewRequest(object)}
	req, err := csr.Parse(object)
	var refusal *csr.Refusal
	switch {
	case csr.IsKubernetesSigner(object.Spec.SignerName):
		e.decided(policy.Decision{})
		e.Message = fmt.Sprintf("%s belongs to Kubernetes: Certwright never handles it.", object.Spec.SignerName)
		return e, nil
	case errors.As(err, &refusal):
		e.decided(policy.Decision{Verdict: policy.Deny})
		e.Message = fmt.Sprintf("The request cannot be read and is denied whatever policies say: %s.", refusal)
		return e, nil
	case err != nil:
		return nil, err
	}
	known, err := facts(req)
	if err != nil {
		return nil, err
	}
	decision := policy.Decide(req, known, policies)
	e.decided(decision)
	for _, evaluation := range policy.Explain(req, known, policies) {
		e.Policies = append(e.Policies, newPolicy(evaluation))
	}
	if decision.AwaitsAddresses(known) {
		e.Notes = append(e.Notes, fmt.Sprintf("the API server does not know the addresses of pod %s yet: the approver waits for them before it refuses", known.Pod.Name))
	}
	return e, nil
}

func (e *Explanation) decided(d policy.Decision) {
	e.verdict, e.Verdict, e.Message, e.Policy = d.Verdict, d.Verdict.String(), d.Message(), d.Policy
	e.Approval, e.MaxDuration, e.Quotas = d.Approval, lifetime(d.MaxDuration), d.Quotas
}

func newPolicy(e policy.Evaluation) Policy {
	return Policy{
		Name: e.Policy, Mode: e.Mode, Approval: e.Approval, MaxDuration: lifetime(e.MaxDuration),
		Selected: e.Selected, Permitted: e.Permitted,
		Selection: checks(e.Selection), Rules: checks(e.Rules),
	}
}

func checks(from []policy.Check) []Check {
	all := make([]Check, 0, len(from))
	for _, c := range from {
		all = append(all, Check(c))
	}
	return all
}

func lifetime(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}
