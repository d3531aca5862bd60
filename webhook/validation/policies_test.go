// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
)

func newPolicy(change func(*v1alpha1.CertificatePolicySpec)) *v1alpha1.CertificatePolicy {
	p := &v1alpha1.CertificatePolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "workloads"},
		Spec: v1alpha1.CertificatePolicySpec{
			SignerNames: []string{"example.com/s"},
			Requesters:  v1alpha1.Requesters{NamespaceSelector: &metav1.LabelSelector{}, ServiceAccounts: []string{"*"}},
			Allow: v1alpha1.Allow{
				DNSNames: []string{"{service}.{namespace}.svc"},
				Usages:   []certificatesv1.KeyUsage{"digital signature", "server auth"},
				Keys:     []v1alpha1.Key{{Algorithm: v1alpha1.ECDSA}},
			},
		},
	}
	if change != nil {
		change(&p.Spec)
	}
	return p
}

func TestPolicy(t *testing.T) {
	for name, test := range map[string]struct {
		change   func(*v1alpha1.CertificatePolicySpec)
		causes   []string
		warnings []string
	}{
		"good":        {},
		"only users":  {change: func(s *v1alpha1.CertificatePolicySpec) { s.Requesters = v1alpha1.Requesters{Users: []string{"jane"}} }},
		"only groups": {change: func(s *v1alpha1.CertificatePolicySpec) { s.Requesters = v1alpha1.Requesters{Groups: []string{"ops"}} }},
		"only an email": {change: func(s *v1alpha1.CertificatePolicySpec) {
			s.Allow.DNSNames, s.Allow.EmailAddresses = nil, []string{"*@example.com"}
		}},
		"everything wrong": {
			change: func(s *v1alpha1.CertificatePolicySpec) {
				s.Requesters.NamespaceSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}}
				s.Allow.DNSNames = []string{"ok.example.com", "{nothing}.example.com"}
				s.Allow.IPAddresses = []string{"10.0.0.1/8"}
				s.Allow.Usages = []certificatesv1.KeyUsage{"spying"}
			},
			causes: []string{
				"* spec.requesters.namespaceSelector: Invalid value: ",
				`* spec.allow.dnsNames[1]: Invalid value: "{nothing}.example.com": `,
				`* spec.allow.ipAddresses[0]: Invalid value: "10.0.0.1/8": has bits set behind its prefix: write 10.0.0.0/8`,
				`* spec.allow.usages[0]: Invalid value: "spying": `,
			},
		},
		"CEL": {
			change: func(s *v1alpha1.CertificatePolicySpec) {
				s.MatchConditions = []v1alpha1.MatchCondition{{Name: "typed", Expression: "request.dnsNames.size()"}}
				s.Validations = []v1alpha1.Validation{
					{Expression: "request.dnsNames.size() <= 10"},
					{Expression: "request.dnsNames.all(n,\n  n.startsWith(reqester.namespace))", MessageExpression: "1 +"},
				}
			},
			causes: []string{
				`* spec.matchConditions[0].expression: Invalid value: "request.dnsNames.size()": must yield bool, yields int`,
				`* spec.validations[1].expression: Invalid value: "request.dnsNames.all(n,\n  n.startsWith(reqester.namespace))": 2:16: undeclared reference to 'reqester'`,
				`* spec.validations[1].messageExpression: Invalid value: "1 +": 1:4: `,
			},
		},
		"selects nobody": {
			change:   func(s *v1alpha1.CertificatePolicySpec) { s.Requesters = v1alpha1.Requesters{} },
			warnings: []string{"spec.requesters: selects nobody: set namespaceSelector and serviceAccounts, users or groups"},
		},
		"selects no service account": {
			change:   func(s *v1alpha1.CertificatePolicySpec) { s.Requesters.ServiceAccounts = nil },
			warnings: []string{"spec.requesters: selects nobody"},
		},
		"permits nothing": {
			change:   func(s *v1alpha1.CertificatePolicySpec) { s.Allow = v1alpha1.Allow{} },
			warnings: []string{"spec.allow: allows no name of any kind", "spec.allow.usages: is empty, and every request asks for a usage"},
		},
		"without a Signer": {
			change:   func(s *v1alpha1.CertificatePolicySpec) { s.SignerNames = []string{"example.com/s", "example.com/t"} },
			warnings: []string{"spec.signerNames[1]: no Signer signs for example.com/t yet"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHook(t, nil, newSigner("s", "example.com/s", nil))
			h.assert(h.send(PoliciesPath, nil, newPolicy(test.change)), test.causes, test.warnings)
		})
	}
}

func TestPolicyUpdate(t *testing.T) {
	bad := func(s *v1alpha1.CertificatePolicySpec) { s.Allow.DNSNames = []string{"{nothing}.example.com"} }
	h := newHook(t, nil, newSigner("s", "example.com/s", nil))
	h.assert(h.send(PoliciesPath, newPolicy(nil), newPolicy(bad)), []string{"* spec.allow.dnsNames[0]: "}, nil)
	h.assert(h.send(PoliciesPath, newPolicy(bad), newPolicy(bad)), nil, nil)
	going := newPolicy(bad)
	going.DeletionTimestamp = &metav1.Time{Time: time.Unix(0, 0)}
	h.assert(h.send(PoliciesPath, newPolicy(nil), going), nil, nil)
}
