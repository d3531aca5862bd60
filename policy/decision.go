// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/excerpt"
)

// Verdict is what policies say to a request.
type Verdict int

const (
	// NoOpinion means that no policy selects the request: it is neither approved nor denied.
	NoOpinion Verdict = iota
	// Deny means that policies select the request and none permits all of it.
	Deny
	// Permit means that one policy permits all of the request.
	Permit
)

func (v Verdict) String() string {
	switch v {
	case Deny:
		return "Deny"
	case Permit:
		return "Permit"
	default:
		return "NoOpinion"
	}
}

// Decision is a verdict and what follows from it.
type Decision struct {
	Verdict Verdict

	// Policy is the name of the policy that permits the request. Empty unless the verdict is Permit.
	Policy string
	// Approval says who approves what is permitted.
	Approval v1alpha1.Approval
	// MaxDuration is the longest lifetime that is permitted; 0 if policies set none.
	MaxDuration time.Duration
	// Quotas of the policy that permits, with their defaults filled in. Do not modify them.
	Quotas []v1alpha1.Quota

	// Denials hold the violations of each policy that selects the request. Empty unless the verdict is Deny.
	Denials []Denial

	// Audits tell what each policy in mode Audit that selects the request would have decided. They decide nothing.
	Audits []Audit
}

// Audit is what one policy in mode Audit says; without violations it would permit.
type Audit struct {
	Policy     string
	Violations []Violation
}

// Denial is all that one policy has against a request.
type Denial struct {
	Policy     string
	Violations []Violation
}

// Violation is one field of a request that holds what a policy does not allow.
type Violation struct {
	// Field of the request, named as in CertificatePolicy, such as "dnsNames"; or the expression that refuses the whole request,
	// such as "validations[0]".
	Field string
	// Values that are not allowed, quoted where they are text. Empty where an expression refuses.
	Values []string
	// Allowed says in words what would be.
	Allowed string
}

func (v Violation) String() string { return v.Field + ": " + v.reason() }

func (v Violation) reason() string {
	if len(v.Values) == 0 {
		return v.Allowed
	}
	return fmt.Sprintf("%s not allowed (%s)", list(v.Values), v.Allowed)
}

// AwaitsAddresses reports whether a refusal may rest on addresses of the requester's pod that are not known yet: one of an
// address, or by an expression, which may speak of them.
func (d Decision) AwaitsAddresses(facts Facts) bool {
	return facts.Pod != nil && facts.Pod.IPsPending && slices.ContainsFunc(d.Denials, func(denial Denial) bool {
		return slices.ContainsFunc(denial.Violations, func(v Violation) bool { return v.Field == "ipAddresses" || len(v.Values) == 0 })
	})
}

// maxListed bounds a list in a message, so that one field's many values leave room for the other fields.
const maxListed = 20

func list(values []string) string {
	if more := len(values) - maxListed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(values[:maxListed], ", "), more)
	}
	return strings.Join(values, ", ")
}

// Message explains the decision to the person who made the request, as it fits into a condition: a request may hold hundreds of names, and
// policies may allow as many.
func (d Decision) Message() string {
	switch d.Verdict {
	case Permit:
		return fmt.Sprintf("Permitted by CertificatePolicy %q.", d.Policy)
	case Deny:
		parts := make([]string, 0, len(d.Denials))
		for _, denial := range d.Denials {
			violations := make([]string, 0, len(denial.Violations))
			for _, v := range denial.Violations {
				violations = append(violations, v.String())
			}
			parts = append(parts, fmt.Sprintf("CertificatePolicy %q: %s.", denial.Policy, strings.Join(violations, "; ")))
		}
		return excerpt.Condition(strings.Join(parts, " "))
	default:
		message := "No CertificatePolicy selects this requester for this signerName"
		if len(d.Audits) > 0 {
			message += ", but for those in mode Audit, which decide nothing: " + list(each(d.Audits, func(a Audit) string { return strconv.Quote(a.Policy) }))
		}
		return message + "."
	}
}

// Decide asks the policies about a request. One policy must permit all of it: what one allows and what another allows are
// never combined within a request. Where several permit it, those with automatic approval come first, so that a longer
// lifetime behind a manual gate is not had without a person; among equals the longest lifetime holds, then the first name.
// Policies in mode Audit have no say in any of this.
func Decide(req csr.Request, facts Facts, policies []*Policy) Decision {
	var d Decision
	var audits []Audit
	q := newInquiry(req, facts)
	for _, p := range policies {
		permit := p.permit()
		if p.mode != v1alpha1.ModeAudit && d.Verdict == Permit && !permit.outranks(d) {
			continue
		}
		selected, violations := p.evaluate(&q, nil)
		switch {
		case !selected:
		case p.mode == v1alpha1.ModeAudit:
			audits = append(audits, Audit{Policy: p.Name, Violations: violations})
		case len(violations) == 0:
			d = permit
		case d.Verdict != Permit:
			d.Verdict = Deny
			d.Denials = append(d.Denials, Denial{Policy: p.Name, Violations: violations})
		}
	}
	d.Audits = audits
	return d
}

func (p *Policy) permit() Decision {
	return Decision{Verdict: Permit, Policy: p.Name, Approval: p.approval, MaxDuration: p.allow.maxDuration, Quotas: p.quotas}
}

// outranks reports whether permit d is used rather than permit other.
func (d Decision) outranks(other Decision) bool {
	if d.Approval != other.Approval {
		return d.Approval == v1alpha1.ApprovalAutomatic
	}
	if d.MaxDuration != other.MaxDuration {
		return d.MaxDuration == 0 || other.MaxDuration != 0 && d.MaxDuration > other.MaxDuration
	}
	return d.Policy < other.Policy
}
