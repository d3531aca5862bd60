// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/policy/pattern"
)

// grants finds what allows more than single names.
func (l *linter) grants() {
	a := &l.spec.Allow
	for i, group := range l.spec.Requesters.Groups {
		switch path := at("spec.requesters.groups", i); group {
		case user.AllAuthenticated, user.AllUnauthenticated:
			l.find(Error, "everybody", path, "name the groups or service accounts that need it", "%q selects whoever can reach the API server", group)
		case serviceaccount.AllServiceAccountsGroup:
			l.find(Warning, "everybody", path, `use namespaceSelector: {} and serviceAccounts: ["*"], which can be narrowed down`, "%q selects every service account of the cluster", group)
		}
	}
	if a.IsCA {
		l.find(Warning, "ca", "spec.allow.isCA", "allow it to as few as can be, with approval: Manual and permittedDNSDomains at the Signer",
			"allows certificates that issue certificates of their own, which no policy looks at")
	}
	if a.Wildcards && slices.ContainsFunc(a.DNSNames, startsWithWildcard) {
		l.find(Warning, "wildcard-certificate", "spec.allow.wildcards", "allow the names that are needed", "allows certificates for every name below a domain")
	}
	const advice = "name what is needed, or use placeholders; if a validation bounds it, say so in the annotation " + IgnoreAnnotation
	for _, f := range l.fields() {
		for i, text := range f.patterns {
			if what := f.kind.wildcard(text); what != "" {
				l.find(Warning, "wildcard", at(f.path, i), advice, "%q allows %s", text, what)
			}
		}
	}
	for i, text := range a.IPAddresses {
		if p, ok := prefix(text); ok && p.Bits() == 0 {
			l.find(Error, "any-address", at("spec.allow.ipAddresses", i), `allow "pod", or the ranges that are needed`, "%q allows every address", text)
		}
	}
}

// wildcard says what a pattern with a * in it allows; empty if that is a closed set, as of the people of a domain.
func (k kind) wildcard(value string) string {
	switch {
	case k == dnsName && slices.Contains(strings.Split(value, "."), "*"):
		return "any label in the place of *"
	case k == uri && slices.Contains(strings.Split(value, "/"), "*"):
		return "any path segment in the place of *"
	case k == text && value != "" && strings.Trim(value, "*") == "":
		return "any text"
	}
	return ""
}

// names finds patterns that give one name to several requesters.
func (l *linter) names() {
	everybody := l.everyServiceAccount()
	for _, f := range l.identities() {
		for i, text := range f.patterns {
			path := at(f.path, i)
			switch {
			case everybody && !uses(text, aboutRequester...) && f.kind.wildcard(text) == "":
				l.find(Error, "shared-name", path, "use a placeholder, such as {service}.{namespace}.svc, or select single service accounts",
					"every service account of the cluster may have %q", text)
			case uses(text, pattern.Pod) && freePodName(f.kind, text):
				l.find(Warning, "pod-name", path, "put {pod} where no other name can stand, such as {pod}.pods.{namespace}.svc",
					"whoever creates a pod chooses its name: by %q it can be that of a Service or of a pod elsewhere", text)
			case l.severalNamespaces() && uses(text, pattern.ServiceAccount, pattern.Service, pattern.Pod) && !uses(text, pattern.Namespace):
				l.find(Warning, "no-namespace", path, "add {namespace}, or let in one namespace only",
					"%q is the same name in each namespace that the policy selects", text)
			case l.severalNamespaces() && strings.HasPrefix(strings.ToLower(text), "spiffe://") && !uses(text, pattern.Namespace):
				l.find(Warning, "no-namespace", path, "add {namespace}, as in spiffe://{trustDomain}/ns/{namespace}/sa/{serviceAccount}",
					"the SPIFFE ID %q does not depend on the requester's namespace", text)
			}
		}
	}
}

// freePodName reports whether a pod's name stands where that of a Service, or of a pod of another namespace, could.
func freePodName(k kind, text string) bool {
	if !uses(text, pattern.Namespace) {
		return true
	}
	return k == dnsName && (text == "{pod}.{namespace}" || strings.HasPrefix(text, "{pod}.{namespace}.svc"))
}

// everyServiceAccount reports whether the policy selects all service accounts there are.
func (l *linter) everyServiceAccount() bool {
	r := &l.spec.Requesters
	return r.NamespaceSelector != nil && len(positive(r.NamespaceSelector)) == 0 && slices.Contains(r.ServiceAccounts, "*") && len(positive(r.PodSelector)) == 0
}

// severalNamespaces reports whether the policy selects service accounts of more than one namespace.
func (l *linter) severalNamespaces() bool {
	if l.spec.Requesters.NamespaceSelector == nil {
		return false
	}
	return !slices.ContainsFunc(positive(l.spec.Requesters.NamespaceSelector), func(r labels.Requirement) bool {
		return r.Key() == corev1.LabelMetadataName && len(r.ValuesUnsorted()) == 1
	})
}

// positive are the requirements of a selector that want a label to be there.
func positive(s *metav1.LabelSelector) []labels.Requirement {
	if s == nil {
		return nil
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return nil
	}
	requirements, _ := selector.Requirements()
	return slices.DeleteFunc(slices.Clone(requirements), func(r labels.Requirement) bool {
		return r.Operator() == selection.NotIn || r.Operator() == selection.DoesNotExist
	})
}

// bounds finds bounds that are missing.
func (l *linter) bounds() {
	if l.spec.Allow.MaxDuration == nil {
		l.find(Warning, "no-max-duration", "spec.allow", "set maxDuration", "lifetimes are bounded by the Signer alone")
	}
	wide := l.everyServiceAccount() || slices.ContainsFunc(l.spec.Requesters.Groups, func(g string) bool {
		return g == user.AllAuthenticated || g == serviceaccount.AllServiceAccountsGroup
	})
	if wide && len(l.spec.Quotas) == 0 && l.spec.Approval != v1alpha1.ApprovalManual {
		l.find(Warning, "no-quota", "spec", "set quotas, such as {per: Namespace, requests: 600, period: 1h}",
			"every service account of the cluster may ask as often as it likes, and is approved at once")
	}
	for i, key := range l.spec.Allow.Keys {
		if key.Algorithm == v1alpha1.RSA && key.MinSize == 0 {
			l.find(Info, "rsa-size", at("spec.allow.keys", i), "set minSize, such as 3072", "RSA keys of every size that can be read are allowed, from 2048 bits")
		}
	}
}
