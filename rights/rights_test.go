// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rights

import (
	"context"
	"errors"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	pods := schema.GroupResource{Resource: "pods"}
	lacking := apierrors.NewForbidden(pods, "web", errors.New(`User "bob" cannot patch resource "pods" in API group "" in the namespace "shop"`))
	for name, c := range map[string]struct {
		right Right
		err   error
		want  string
	}{
		"nothing wrong":        {Right{Verb: "patch", Resource: "pods"}, nil, ""},
		"in a namespace":       {Right{Verb: "patch", Resource: "pods", Namespace: "shop"}, lacking, "kubectl create role NAME --verb=patch --resource=pods -n shop"},
		"of the cluster":       {Right{Verb: "patch", Group: "certwright.dev", Resource: "signers"}, lacking, "kubectl create clusterrole NAME --verb=patch --resource=signers.certwright.dev"},
		"refused by admission": {Right{Verb: "patch", Resource: "pods"}, apierrors.NewForbidden(pods, "web", errors.New("ValidatingAdmissionPolicy says no")), "says no"},
		"something else":       {Right{Verb: "patch", Resource: "pods"}, errors.New("connection refused"), "annotating: connection refused"},
	} {
		err := c.right.Explain("annotating", c.err)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !errors.Is(err, c.err)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		if told := err != nil && strings.Contains(err.Error(), "administrator"); told != (c.err == lacking) { //nolint:errorlint // the same one
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestExplainWaiting(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	trouble := errors.New("connection refused")
	if err := (Right{}).ExplainWaiting(ctx, "watching pods", trouble); !errors.Is(err, trouble) || !strings.HasPrefix(err.Error(), "watching pods: ") {
		t.Errorf("got %v while it is waited for", err)
	}
	cancel()
	if err := (Right{}).ExplainWaiting(ctx, "watching pods", trouble); err != nil {
		t.Errorf("got %v after nobody waited any more", err)
	}
}
