// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"context"
	"errors"
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

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
	f.errors = s.load(ctx, object)
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

// load has the signer's own registry make the Signer ready.
func (s signers) load(ctx context.Context, object *v1alpha1.Signer) field.ErrorList {
	_, err := signer.NewRegistry(only{object}, s.newBackend).Lookup(ctx, object.Spec.SignerName)
	path := field.NewPath("spec")
	var known *signer.CheckError
	if errors.As(err, &known) {
		switch known.Reason {
		case signer.ReasonSignerNameReserved:
			path = path.Child("signerName")
		case signer.ReasonLimitsInvalid:
			path = path.Child("limits")
		case signer.ReasonBackendInvalid:
			path = path.Child("backends")
		}
	}
	return fieldErrors(err, path)
}

// only is a cluster with one Signer.
type only struct{ signer *v1alpha1.Signer }

func (o only) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return errors.New("there is nothing to get")
}

func (o only) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	list.(*v1alpha1.SignerList).Items = []v1alpha1.Signer{*o.signer}
	return nil
}
