// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package casefile

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/policy"
)

// Policy is a CertificatePolicy that was read from a file.
type Policy struct {
	// Object is the policy with the defaults that the API server fills in.
	Object *v1alpha1.CertificatePolicy
	// Compiled is what decides.
	Compiled *policy.Policy
	// Document is where the policy stands, for messages about its fields.
	Document Document
}

// IsPolicy reports whether the document says that it is a CertificatePolicy of any version.
func (d Document) IsPolicy() bool {
	apiVersion, kind := d.Kind()
	return kind == "CertificatePolicy" && strings.HasPrefix(apiVersion, v1alpha1.GroupVersion.Group+"/")
}

// Policy reads the document as a CertificatePolicy. The error is a Problems with all that the API server, or Certwright
// after it, has against the policy.
func (d Document) Policy(ctx context.Context) (Policy, error) {
	apiVersion, kind := d.Kind()
	if want := v1alpha1.GroupVersion.String(); apiVersion != want || kind != "CertificatePolicy" {
		return Policy{}, Problems{d.Problem("apiVersion", fmt.Sprintf("is %q with kind %q; it must be %s with kind CertificatePolicy", apiVersion, kind, want))}
	}
	// What the types say without naming the field, as of a malformed duration, the schema says better.
	var decoding Problems
	if err := d.Decode(&v1alpha1.CertificatePolicy{}); errors.As(err, &decoding) && decoding[0].Path != "" {
		return Policy{}, decoding
	}
	var object map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(d.data, &object); err != nil {
		return Policy{}, Problems{d.Problem("", err.Error())}
	}
	s, err := policySchema()
	if err != nil {
		return Policy{}, err
	}
	if errs := s.admit(ctx, object); len(errs) > 0 {
		return Policy{}, d.problems(errs)
	}
	if len(decoding) > 0 {
		return Policy{}, decoding
	}
	result := Policy{Object: &v1alpha1.CertificatePolicy{}, Document: d}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object, result.Object); err != nil {
		return Policy{}, Problems{d.Problem("", err.Error())}
	}
	if reasons := validation.IsDNS1123Subdomain(result.Object.Name); len(reasons) > 0 {
		return Policy{}, Problems{d.Problem("metadata.name", fmt.Sprintf("is %q; %s", result.Object.Name, strings.Join(reasons, "; ")))}
	}
	if result.Compiled, err = policy.Compile(result.Object); err != nil {
		return Policy{}, d.problems(fieldErrors(err))
	}
	return result, nil
}

// fieldErrors returns the single errors of an aggregate.
func fieldErrors(err error) field.ErrorList {
	errs := []error{err}
	var aggregate utilerrors.Aggregate
	if errors.As(err, &aggregate) {
		errs = utilerrors.Flatten(aggregate).Errors()
	}
	var list field.ErrorList
	for _, err := range errs {
		var fieldError *field.Error
		if !errors.As(err, &fieldError) {
			fieldError = &field.Error{Type: field.ErrorTypeInternal, Detail: err.Error()}
		}
		list = append(list, fieldError)
	}
	return list
}

// Policies reads every CertificatePolicy among the documents and passes over documents of other kinds. Two of one name are
// refused, as in a cluster the second would replace the first.
func Policies(ctx context.Context, documents []Document) ([]Policy, error) {
	var policies []Policy
	var problems Problems
	seen := map[string]Document{}
	for _, d := range documents {
		if !d.IsPolicy() {
			continue
		}
		p, err := d.Policy(ctx)
		var found Problems
		if errors.As(err, &found) {
			problems = append(problems, found...)
			continue
		}
		if err != nil {
			return nil, err
		}
		if before, ok := seen[p.Object.Name]; ok {
			problems = append(problems, d.Problem("metadata.name", fmt.Sprintf("%q is the name of the policy at %s:%d already", p.Object.Name, before.File, before.Line(""))))
			continue
		}
		seen[p.Object.Name] = d
		policies = append(policies, p)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return policies, nil
}

// LoadPolicies reads the CertificatePolicies of a file, or of a directory as ReadPath does. It is an error if there is none.
func LoadPolicies(ctx context.Context, path string) ([]Policy, error) {
	documents, err := ReadPath(path)
	if err != nil {
		return nil, err
	}
	policies, err := Policies(ctx, documents)
	if err != nil {
		return nil, err
	}
	if len(policies) == 0 {
		return nil, Problems{{File: path, Message: "holds no CertificatePolicy: give a file or directory with at least one (apiVersion " + v1alpha1.GroupVersion.String() + ")"}}
	}
	return policies, nil
}

// Compiled returns what decides of each policy.
func Compiled(policies []Policy) []*policy.Policy {
	compiled := make([]*policy.Policy, 0, len(policies))
	for _, p := range policies {
		compiled = append(compiled, p.Compiled)
	}
	return compiled
}
