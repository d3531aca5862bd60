// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package apitime reads the clock of the API server. What one process writes down and another one compares must be told by one clock, and the
// API server's is the one that they share, and by which it names the creation of every object.
package apitime

import (
	"context"
	"errors"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Now returns the time of the API server, to the second. It asks for a SelfSubjectReview, which nobody keeps, and which everybody who is
// logged in may ask for unless the cluster's basic rights were taken away.
func Now(ctx context.Context, api client.Client) (time.Time, error) {
	var review authenticationv1.SelfSubjectReview
	if err := api.Create(ctx, &review); err != nil {
		return time.Time{}, fmt.Errorf("asking the API server for its time: %w", err)
	}
	if review.CreationTimestamp.IsZero() {
		return time.Time{}, errors.New("asking the API server for its time: it does not say")
	}
	return review.CreationTimestamp.Time, nil
}
