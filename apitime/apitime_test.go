// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package apitime

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

func TestNow(t *testing.T) {
	theirs := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	down := errors.New("connection refused")
	for name, c := range map[string]struct {
		says time.Time
		err  error
		text string // of the error; none if empty
	}{
		"it says":         {theirs, nil, ""},
		"it does not say": {time.Time{}, nil, "it does not say"},
		"it is down":      {theirs, down, "asking the API server for its time: connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			api := fake.NewClientBuilder().WithScheme(clientgoscheme.Scheme).WithInterceptorFuncs(interceptor.Funcs{
				Create: func(_ context.Context, _ client.WithWatch, o client.Object, _ ...client.CreateOption) error {
					o.(*authenticationv1.SelfSubjectReview).CreationTimestamp = metav1.NewTime(c.says)
					return c.err
				},
			}).Build()
			got, err := Now(t.Context(), api)
			if c.text == "" {
				if err != nil || !got.Equal(theirs) {
					t.Errorf("it is %s, error %v, want %s", got, err, theirs)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.text) || !errors.Is(err, c.err) && c.err != nil || !got.IsZero() {
				t.Errorf("it is %s, error %v, want %q and no time", got, err, c.text)
			}
		})
	}
}
