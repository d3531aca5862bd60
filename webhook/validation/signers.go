// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"context"
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
)

// signers checks Signers.
type signers struct {
	lister
	newBackend signer.NewBackend
}

func (s signers) check(ctx context.Context, object *v1alpha1.Signer, created bool) (f findings) {
	spec := field.NewPath("spec")
	f.errors = fieldErrors(signer.Check(object, s.newBackend), spec)
	if created { // later the schema keeps it from changing
		s.checkSignerName(ctx, object, &f)
	}
	limits := object.Spec.Limits
	if limits.IsCA {
		f.warn(spec.Child("limits", "isCA"), "this Signer may sign CA certificates, which sign others without any policy")
	}
	if slices.Contains(limits.Usages, certificatesv1.UsageAny) {
		f.warn(spec.Child("limits", "usages"), `a certificate with the usage "any" is good for every purpose`)
	}
	for i, backend := range object.Spec.Backends {
		if backend.CA == nil || backend.CA.Managed == nil {
			continue
		}
		managed, path := backend.CA.Managed, spec.Child("backends").Index(i).Child("ca", "managed", "intermediateDuration")
		if managed.IntermediateDuration.Duration > managed.RootDuration.Duration {
			f.warn(path, "%s is longer than rootDuration, %s, and ends with it", managed.IntermediateDuration.Duration, managed.RootDuration.Duration)
		}
		// It is replaced when two thirds have passed, and nothing that it signed lives longer.
		if third := managed.IntermediateDuration.Duration / 3; third > 0 && limits.MaxDuration.Duration > third {
			f.warn(path, "certificates may be cut short: spec.limits.maxDuration, %s, is more than a third of %s", limits.MaxDuration.Duration, managed.IntermediateDuration.Duration)
		}
	}
	return f
}

func (s signers) checkSignerName(ctx context.Context, object *v1alpha1.Signer, f *findings) {
	path := field.NewPath("spec", "signerName")
	others, err := s.signers(ctx)
	if err != nil {
		f.warn(path, "not known whether another Signer has it: %v", err)
		return
	}
	for _, other := range others {
		if other.Name != object.Name && other.Spec.SignerName == object.Spec.SignerName {
			f.errors = append(f.errors, field.Invalid(path, object.Spec.SignerName, fmt.Sprintf("belongs to Signer %q: change that one, or use another signerName", other.Name)))
		}
	}
}
