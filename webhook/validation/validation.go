// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package validation tells at "kubectl apply" what the schemas of Signer and CertificatePolicy cannot say: it answers
// admission requests for both kinds.
//
// What it promises:
//
//   - It has no rules of its own. What is refused is what the approver and the signer would refuse to use, by the same code,
//     every mistake at once with its field.
//   - It is a help and no guard: what gets in all the same, they find when they load it. So trouble is never a refusal.
//   - What is legal but doubtful is admitted with a warning.
//   - An object that goes, or whose spec stays as it is, is always admitted.
package validation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
)

// Where the API server sends the objects, as the manifests say.
const (
	SignersPath  = "/validate-signers"
	PoliciesPath = "/validate-certificatepolicies"
)

// listTimeout bounds the look-up of Signers; the API server waits five seconds for the whole answer.
const listTimeout = 3 * time.Second

// Handlers returns what answers at each path. It lists Signers with the reader, which should not be a cache and whose scheme
// has them; newBackend is only asked whether it would make a backend.
func Handlers(scheme *runtime.Scheme, reader client.Reader, newBackend signer.NewBackend) map[string]admission.Handler {
	list := lister{reader}
	return map[string]admission.Handler{
		SignersPath: admission.WithValidator(scheme, validator[*v1alpha1.Signer]{
			kind:  v1alpha1.GroupVersion.WithKind("Signer").GroupKind(),
			spec:  func(s *v1alpha1.Signer) any { return s.Spec },
			check: signers{list, newBackend}.check,
		}).Handler,
		PoliciesPath: admission.WithValidator(scheme, validator[*v1alpha1.CertificatePolicy]{
			kind:  v1alpha1.GroupVersion.WithKind("CertificatePolicy").GroupKind(),
			spec:  func(p *v1alpha1.CertificatePolicy) any { return p.Spec },
			check: policies{list}.check,
		}).Handler,
	}
}

// findings are what there is to say about an object.
type findings struct {
	errors   field.ErrorList
	warnings admission.Warnings
}

func (f *findings) warn(path *field.Path, format string, args ...any) {
	f.warnings = append(f.warnings, path.String()+": "+fmt.Sprintf(format, args...))
}

// validator implements admission.Validator by one check.
type validator[T client.Object] struct {
	kind  schema.GroupKind
	spec  func(T) any
	check func(ctx context.Context, object T, created bool) findings
}

// ValidateCreate implements admission.Validator.
func (v validator[T]) ValidateCreate(ctx context.Context, object T) (admission.Warnings, error) {
	return v.validate(ctx, object, true)
}

// ValidateUpdate implements admission.Validator.
func (v validator[T]) ValidateUpdate(ctx context.Context, before, object T) (admission.Warnings, error) {
	if object.GetDeletionTimestamp() != nil || equality.Semantic.DeepEqual(v.spec(before), v.spec(object)) {
		return nil, nil
	}
	return v.validate(ctx, object, false)
}

// ValidateDelete implements admission.Validator.
func (v validator[T]) ValidateDelete(context.Context, T) (admission.Warnings, error) { return nil, nil }

func (v validator[T]) validate(ctx context.Context, object T, created bool) (admission.Warnings, error) {
	found := v.check(ctx, object, created)
	if len(found.errors) > 0 {
		return found.warnings, apierrors.NewInvalid(v.kind, object.GetName(), found.errors)
	}
	return found.warnings, nil
}

// fieldErrors takes an error apart into those about single fields. What names no field is said about otherwise.
func fieldErrors(err error, otherwise *field.Path) (list field.ErrorList) {
	var many utilerrors.Aggregate
	var one *field.Error
	switch {
	case err == nil:
	case errors.As(err, &many):
		for _, err := range many.Errors() {
			list = append(list, fieldErrors(err, otherwise)...)
		}
	case errors.As(err, &one):
		list = append(list, one)
	default:
		list = append(list, field.Invalid(otherwise, field.OmitValueType{}, err.Error()))
	}
	return list
}

// lister looks up the Signers of the cluster as they are now.
type lister struct{ reader client.Reader }

func (l lister) signers(ctx context.Context) ([]v1alpha1.Signer, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	var list v1alpha1.SignerList
	if err := l.reader.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing Signers: %w", err)
	}
	return list.Items, nil
}
