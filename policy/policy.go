// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package policy decides whether a certificate request is permitted: a parsed request, the facts about who made it and
// compiled policies go in, and a Decision comes out. It has no client, no clock and no I/O, so that what it decides can be
// tried, tested and explained without a cluster. The zero value of its Verdict is the harmless one.
package policy

import (
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/certwright/certwright/api/v1alpha1"
)

// Policy is a compiled CertificatePolicy. It is safe for concurrent use, as it never changes.
type Policy struct {
	// Name of the CertificatePolicy.
	Name string

	signerNames     []string
	requesters      requesters
	allow           allow
	matchConditions []matchCondition
	validations     []validation
	approval        v1alpha1.Approval
	quotas          []v1alpha1.Quota
	mode            v1alpha1.Mode
}

// requesters is the compiled form of v1alpha1.Requesters.
type requesters struct {
	namespaces      labels.Selector // nil selects none
	serviceAccounts []string
	pods            labels.Selector // nil selects all, and requesters without a pod
	users           []string
	groups          []string
}

// Compile checks all of a CertificatePolicy and turns it into a Policy. The error is a field.ErrorList that names every
// field that is wrong, its value and what is allowed, as an aggregate.
func Compile(p *v1alpha1.CertificatePolicy) (*Policy, error) {
	p = p.DeepCopy()
	c := compiler{}
	spec := field.NewPath("spec")
	compiled := &Policy{
		Name:            p.Name,
		signerNames:     p.Spec.SignerNames,
		requesters:      c.requesters(spec.Child("requesters"), p.Spec.Requesters),
		allow:           c.allow(spec.Child("allow"), p.Spec.Allow),
		matchConditions: c.matchConditions(spec.Child("matchConditions"), p.Spec.MatchConditions),
		validations:     c.validations(spec.Child("validations"), p.Spec.Validations),
		approval:        oneOf(&c, spec.Child("approval"), p.Spec.Approval, v1alpha1.ApprovalAutomatic, v1alpha1.ApprovalManual),
		quotas:          c.quotas(spec.Child("quotas"), p.Spec.Quotas),
		mode:            oneOf(&c, spec.Child("mode"), p.Spec.Mode, v1alpha1.ModeEnforce, v1alpha1.ModeAudit),
	}
	if len(c.errs) > 0 {
		return nil, c.errs.ToAggregate()
	}
	return compiled, nil
}

// SpeaksOf reports whether the policy speaks of this signerName.
func (p *Policy) SpeaksOf(signerName string) bool { return slices.Contains(p.signerNames, signerName) }

// compiler collects what is wrong with a policy.
type compiler struct{ errs field.ErrorList }

func (c *compiler) invalid(path *field.Path, value any, err error) {
	c.errs = append(c.errs, field.Invalid(path, value, err.Error()))
}

// oneOf checks a value that must be one of those known; the first of them is the default.
func oneOf[T ~string](c *compiler, path *field.Path, value T, known ...T) T {
	if value == "" {
		return known[0]
	}
	if !slices.Contains(known, value) {
		c.errs = append(c.errs, field.NotSupported(path, value, known))
	}
	return value
}

func (c *compiler) requesters(path *field.Path, r v1alpha1.Requesters) requesters {
	return requesters{
		namespaces:      c.selector(path.Child("namespaceSelector"), r.NamespaceSelector),
		serviceAccounts: r.ServiceAccounts,
		pods:            c.selector(path.Child("podSelector"), r.PodSelector),
		users:           r.Users,
		groups:          r.Groups,
	}
}

func (c *compiler) selector(path *field.Path, s *metav1.LabelSelector) labels.Selector {
	if s == nil {
		return nil
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		c.invalid(path, metav1.FormatLabelSelector(s), err)
	}
	return selector
}

// quotas checks the quotas and fills in their defaults.
func (c *compiler) quotas(path *field.Path, quotas []v1alpha1.Quota) []v1alpha1.Quota {
	const shortest, longest = time.Second, 720 * time.Hour
	seen := map[v1alpha1.QuotaSubject]bool{}
	for i := range quotas {
		q, path := &quotas[i], path.Index(i)
		subjects := []v1alpha1.QuotaSubject{v1alpha1.PerPolicy, v1alpha1.PerNamespace, v1alpha1.PerServiceAccount, v1alpha1.PerPod}
		if !slices.Contains(subjects, q.Per) {
			c.errs = append(c.errs, field.NotSupported(path.Child("per"), q.Per, subjects))
		} else if seen[q.Per] {
			c.errs = append(c.errs, field.Duplicate(path.Child("per"), q.Per))
		}
		seen[q.Per] = true
		c.count(path.Child("requests"), q.Requests)
		c.count(path.Child("burst"), q.Burst)
		c.count(path.Child("maxPending"), q.MaxPending)
		if q.Requests == 0 && q.MaxPending == 0 {
			c.errs = append(c.errs, field.Required(path.Child("requests"), "set requests, maxPending or both: a quota without either bounds nothing"))
		}
		if q.Requests == 0 && q.Burst != 0 {
			c.invalid(path.Child("burst"), q.Burst, fmt.Errorf("goes with requests: set requests, or leave burst out"))
		}
		if q.Burst == 0 {
			q.Burst = q.Requests
		}
		if q.Period.Duration == 0 {
			q.Period.Duration = time.Hour
		}
		if q.Period.Duration < shortest || q.Period.Duration > longest {
			c.invalid(path.Child("period"), q.Period.Duration.String(), fmt.Errorf("must be from %s to %s", shortest, longest))
		}
	}
	return quotas
}

// count checks a number that is 0 if it is left out.
func (c *compiler) count(path *field.Path, n int32) {
	if n < 0 {
		c.invalid(path, n, fmt.Errorf("must be at least 1"))
	}
}
