// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/policy"
)

// policies checks CertificatePolicies.
type policies struct{ lister }

func (p policies) check(ctx context.Context, object *v1alpha1.CertificatePolicy, _ bool) (f findings) {
	spec := field.NewPath("spec")
	_, err := policy.Compile(object)
	f.errors = fieldErrors(err, spec)

	requesters := object.Spec.Requesters
	if (requesters.NamespaceSelector == nil || len(requesters.ServiceAccounts) == 0) && len(requesters.Users) == 0 && len(requesters.Groups) == 0 {
		f.warn(spec.Child("requesters"), "selects nobody: set namespaceSelector and serviceAccounts, users or groups")
	}
	allow := object.Spec.Allow
	if len(allow.DNSNames)+len(allow.URIs)+len(allow.IPAddresses)+len(allow.EmailAddresses)+len(allow.CommonNames) == 0 {
		f.warn(spec.Child("allow"), "allows no name of any kind")
	}
	if len(allow.Usages) == 0 {
		f.warn(spec.Child("allow", "usages"), "is empty, and every request asks for a usage: nothing is permitted")
	}
	p.checkSignerNames(ctx, object.Spec.SignerNames, &f)
	return f
}

func (p policies) checkSignerNames(ctx context.Context, signerNames []string, f *findings) {
	path := field.NewPath("spec", "signerNames")
	signers, err := p.signers(ctx)
	if err != nil {
		f.warn(path, "not known whether they have Signers: %v", err)
		return
	}
	for i, name := range signerNames {
		if !slices.ContainsFunc(signers, func(s v1alpha1.Signer) bool { return s.Spec.SignerName == name }) {
			f.warn(path.Index(i), "no Signer signs for %s yet", name)
		}
	}
}
