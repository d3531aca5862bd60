// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/clock"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/breaker"
	"github.com/certwright/certwright/signer/member"
)

// Check checks what can be known of a Signer without a cluster: its signerName, its limits, the configuration of its backends, and
// the trust anchors that it adds. The error holds a *field.Error for each field that is wrong.
func Check(object *v1alpha1.Signer, newBackend signer.NewBackend) error {
	s, err := (*Signer)(nil).next(object, member.Maker{NewBackend: newBackend, Clock: clock.RealClock{}, OnChange: func(string, breaker.State) {}})
	s.close(nil)
	if added := checkAdded(object.Spec.TrustBundle, field.NewPath("spec", "trustBundle")); err == nil && added != nil {
		err = &signer.CheckError{Reason: ReasonTrustIncomplete, Err: added}
	} else if added != nil {
		err = &signer.CheckError{Reason: member.ReasonOf(err), Err: utilerrors.NewAggregate([]error{err, added})}
	}
	return err
}

// checkAdded checks what a Signer says about its trust bundle. Such a mistake keeps nobody from signing.
func checkAdded(b v1alpha1.TrustBundle, path *field.Path) error {
	var errs field.ErrorList
	if b.ConfigMap != nil {
		if _, err := metav1.LabelSelectorAsSelector(&b.ConfigMap.NamespaceSelector); err != nil {
			errs = append(errs, field.Invalid(path.Child("configMap", "namespaceSelector"), field.OmitValueType{}, err.Error()))
		}
	}
	for i, s := range b.Additional {
		if s.PEM == "" {
			continue
		}
		if _, err := member.ParseAnchors(s.PEM); err != nil {
			errs = append(errs, field.Invalid(path.Child("additional").Index(i).Child("pem"), field.OmitValueType{}, err.Error()))
		}
	}
	return errs.ToAggregate()
}
