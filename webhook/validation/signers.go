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
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/registry"
)

// signers checks Signers.
type signers struct {
	lister
	newBackend signer.NewBackend
}

func (s signers) check(ctx context.Context, object *v1alpha1.Signer, created bool) (f findings) {
	spec := field.NewPath("spec")
	f.errors = fieldErrors(registry.Check(object, s.newBackend), spec)
	if created { // later the schema keeps it from changing
		s.checkSignerName(ctx, object, &f)
	}
	doubtfulLimits(object.Spec, spec, &f)
	doubtfulForKubelets(object.Spec, spec, &f)
	for i, backend := range object.Spec.Backends {
		if backend.CA != nil && backend.CA.Managed != nil {
			doubtfulDurations(*backend.CA.Managed, object.Spec.Limits, spec.Child("backends").Index(i).Child("ca", "managed"), &f)
		}
	}
	return f
}

func doubtfulLimits(s v1alpha1.SignerSpec, spec *field.Path, f *findings) {
	usages := spec.Child("limits", "usages")
	has := func(usage certificatesv1.KeyUsage) bool { return slices.Contains(s.Limits.Usages, usage) }
	if len(s.Limits.Usages) == 0 {
		f.warn(usages, "is empty, and every request asks for a usage: nothing is signed")
	}
	if has(certificatesv1.UsageAny) {
		f.warn(usages, `a certificate with the usage "any" is good for every purpose`)
	}
	if s.Limits.IsCA {
		f.warn(spec.Child("limits", "isCA"), "this Signer may sign CA certificates, which sign others without any policy")
	}
	if s.TrustBundle.PublicRoots && (has(certificatesv1.UsageClientAuth) || has(certificatesv1.UsageAny)) {
		f.warn(spec.Child("trustBundle", "publicRoots"), `servers that take this bundle for the roots of their clients let in whoever has a certificate of a public CA: `+
			`leave it out, and use the annotation certwright.dev/trust-env in pods that call public servers; or take "client auth" out of spec.limits.usages`)
	}
}

// doubtfulForKubelets finds why what kubelets ask for would wait or fail.
func doubtfulForKubelets(s v1alpha1.SignerSpec, spec *field.Path, f *findings) {
	if s.PodCertificates == nil {
		return
	}
	path := spec.Child("podCertificates")
	if !slices.ContainsFunc(s.Backends, func(b v1alpha1.Backend) bool { return b.CA != nil }) {
		f.warn(path, "no backend signs for kubelets, which ca does: what they ask for waits")
	}
	if longest := s.Limits.MaxDuration.Duration; 0 < longest && longest < csr.MinPodLifetime {
		f.warn(path, "kubelets take nothing shorter than %s, and spec.limits.maxDuration is %s: what they ask for waits", csr.MinPodLifetime, longest)
	}
	for i, usage := range s.PodCertificates.Usages {
		if len(s.Limits.Usages) > 0 && !slices.Contains(s.Limits.Usages, usage) {
			f.warn(path.Child("usages").Index(i), "spec.limits.usages lacks %q: what kubelets ask for fails, unless the pod asks for other usages", usage)
		}
	}
}

func doubtfulDurations(managed v1alpha1.ManagedCA, limits v1alpha1.Limits, path *field.Path, f *findings) {
	path = path.Child("intermediateDuration")
	if managed.IntermediateDuration.Duration > managed.RootDuration.Duration {
		f.warn(path, "%s is longer than rootDuration, %s, and ends with it", managed.IntermediateDuration.Duration, managed.RootDuration.Duration)
	}
	// It is replaced when two thirds have passed, and nothing that it signed lives longer.
	if third := managed.IntermediateDuration.Duration / 3; third > 0 && limits.MaxDuration.Duration > third {
		f.warn(path, "certificates may be cut short: spec.limits.maxDuration, %s, is more than a third of %s", limits.MaxDuration.Duration, managed.IntermediateDuration.Duration)
	}
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
