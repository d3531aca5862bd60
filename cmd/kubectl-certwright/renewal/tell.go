// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package renewal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/apitime"
	"github.com/certwright/certwright/rights"
)

// Now returns the time of the API server: agents renew what was issued before a time, and the clock of whoever runs this may be wrong. If the
// API server does not say, that clock has to do.
func (r *Renewer) Now(ctx context.Context) time.Time {
	now, err := apitime.Now(ctx, r.Client)
	if err != nil {
		return r.Clock.Now().Truncate(time.Second)
	}
	return now
}

// Tell tells the agents of these pods to renew what was issued before a time. It goes on after one that it could not tell.
func (r *Renewer) Tell(ctx context.Context, steps []Step, before time.Time, options ...client.PatchOption) (told []Step, err error) {
	var errs []error
	for _, s := range steps {
		if err := r.tell(ctx, s, before, options); err != nil {
			errs = append(errs, err)
			continue
		}
		told = append(told, s)
	}
	return told, errors.Join(errs...)
}

// tell writes the annotation. The UID keeps it from another pod of the same name.
func (r *Renewer) tell(ctx context.Context, s Step, before time.Time, options []client.PatchOption) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid":         s.UID,
		"annotations": map[string]string{v1alpha1.AnnotationRenew: before.UTC().Format(time.RFC3339)},
	}})
	if err != nil {
		return err
	}
	pod := &corev1.Pod{}
	pod.Namespace, pod.Name = s.Namespace, s.Name
	err = r.Client.Patch(ctx, pod, client.RawPatch(types.MergePatchType, patch), options...)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return fmt.Errorf("pod %s/%s was replaced meanwhile: what took its place has a new certificate", s.Namespace, s.Name)
	}
	right := rights.Right{Verb: "patch", Resource: "pods", Namespace: s.Namespace}
	return right.Explain(fmt.Sprintf("annotating pod %s/%s", s.Namespace, s.Name), err)
}
