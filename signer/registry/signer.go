// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/limits"
	"github.com/certwright/certwright/signer/member"
	"github.com/certwright/certwright/signer/podcert/naming"
)

// Signer is a v1alpha1.Signer made ready to sign. It is shared, and not to be modified.
type Signer struct {
	// Name is the object's, SignerName its spec.signerName.
	Name       string
	SignerName string
	// Limits is what it signs at the most.
	Limits limits.Limits
	// Pods says what those get whose kubelets ask; nil if the Signer does not sign for them.
	Pods *naming.Template
	// Members are its backends, in the order in which they are asked. There is one at least.
	Members []*member.Member

	generation int64
}

// Expedite makes the Signer's backends due for a probe.
func (s *Signer) Expedite() {
	for _, m := range s.Members {
		m.Expedite()
	}
}

// next makes the object ready to sign, with those backends of s, which may be nil, that stay as they are. The error is a
// *CheckError that holds every mistake, with the reason of the first.
func (s *Signer) next(object *v1alpha1.Signer, by member.Maker) (*Signer, error) {
	var reason string
	var errs field.ErrorList
	wrong := func(why string, list ...*field.Error) {
		if len(list) > 0 {
			reason, errs = cmp.Or(reason, why), append(errs, list...)
		}
	}
	spec := field.NewPath("spec")
	if csr.IsKubernetesSigner(object.Spec.SignerName) {
		wrong(ReasonSignerNameReserved, field.Invalid(spec.Child("signerName"), object.Spec.SignerName, "belongs to Kubernetes and is never signed for"))
	}
	compiled, list := limits.Compile(object.Spec.Limits, spec.Child("limits"))
	wrong(ReasonLimitsInvalid, list...)
	pods, list := naming.Compile(object.Spec.PodCertificates, spec.Child("podCertificates"))
	wrong(ReasonPodCertificatesInvalid, list...)
	made := &Signer{Name: object.Name, SignerName: object.Spec.SignerName, Limits: compiled, Pods: pods, generation: object.Generation}
	if len(object.Spec.Backends) == 0 {
		wrong(ReasonBackendInvalid, field.Required(spec.Child("backends"), "at least one is needed"))
	}
	for i := range object.Spec.Backends {
		config := signer.BackendConfig{Signer: object.Name, SignerName: object.Spec.SignerName, IsCA: object.Spec.Limits.IsCA, Backend: object.Spec.Backends[i]}
		m := s.member(config)
		if m == nil {
			config.Backend = *config.Backend.DeepCopy()
			m, list = by.Make(config, spec.Child("backends").Index(i))
			wrong(ReasonBackendInvalid, list...)
		}
		made.Members = append(made.Members, m)
	}
	if err := errs.ToAggregate(); err != nil {
		made.close(s)
		return nil, &signer.CheckError{Reason: reason, Err: err}
	}
	return made, nil
}

// member returns the Signer's backend that was made from the same configuration, or nil.
func (s *Signer) member(config signer.BackendConfig) *member.Member {
	if s == nil {
		return nil
	}
	for _, m := range s.Members {
		if m.IsFor(config) {
			return m
		}
	}
	return nil
}

// close closes those backends of s that are not kept by the other one; each may be nil.
func (s *Signer) close(other *Signer) {
	if s == nil {
		return
	}
	for _, m := range s.Members {
		if other == nil || !slices.Contains(other.Members, m) {
			m.Close()
		}
	}
}
