// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rights says which right somebody lacks for whom the API server did not do something.
package rights

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Right is one to do something to objects of a kind, as in a rule of an RBAC role.
type Right struct {
	Verb string
	// Group of the API, empty for that of pods.
	Group    string
	Resource string
	// Namespace in which; empty for all of them, and for objects that are in none.
	Namespace string
}

// Role returns the command that makes a role of this right, for whoever grants it.
func (r Right) Role() string {
	resource := r.Resource
	if r.Group != "" {
		resource += "." + r.Group
	}
	if r.Namespace == "" {
		return fmt.Sprintf("kubectl create clusterrole NAME --verb=%s --resource=%s", r.Verb, resource)
	}
	return fmt.Sprintf("kubectl create role NAME --verb=%s --resource=%s -n %s", r.Verb, resource, r.Namespace)
}

// Explain wraps the error of a call for which this right is needed. If it was refused for lack of it, the error says what to ask an
// administrator for.
func (r Right) Explain(doing string, err error) error {
	// Admission refuses with the same code, and other words.
	if err == nil || !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "cannot "+r.Verb+" resource") {
		return wrap(doing, err)
	}
	return fmt.Errorf("%s: %w: ask an administrator for a role with this right, made by: %s", doing, err, r.Role())
}

// ExplainWaiting is Explain for a call of somebody who waits for something: an error that comes of not waiting any longer is none.
func (r Right) ExplainWaiting(ctx context.Context, doing string, err error) error {
	if ctx.Err() == nil {
		return r.Explain(doing, err)
	}
	return nil
}

func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
