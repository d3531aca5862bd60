// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package judge_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/policy/judge"
)

func TestRequeue(t *testing.T) {
	requestFor := func(name, signerName string) *certificatesv1.CertificateSigningRequest {
		return &certificatesv1.CertificateSigningRequest{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: certificatesv1.CertificateSigningRequestSpec{SignerName: signerName},
		}
	}
	var down error
	cached := fake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(
		requestFor("waiting", "example.com/a"), requestFor("finished", "example.com/a"),
		requestFor("second", "example.com/b"), requestFor("other", "example.com/other"),
	).WithInterceptorFuncs(interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if down != nil {
				return down
			}
			return c.List(ctx, list, opts...)
		},
	}).Build()
	h := judge.Requeue(cached, func(o *certificatesv1.CertificateSigningRequest) bool { return o.Name != "finished" })
	signer := &v1alpha1.Signer{Spec: v1alpha1.SignerSpec{SignerName: "example.com/a"}}
	policy := &v1alpha1.CertificatePolicy{Spec: v1alpha1.CertificatePolicySpec{SignerNames: []string{"example.com/a", "example.com/b"}}}
	for name, c := range map[string]struct {
		change func(queue workqueue.TypedRateLimitingInterface[reconcile.Request])
		down   error
		want   []string
	}{
		"a Signer": {func(q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			h.Create(t.Context(), event.CreateEvent{Object: signer}, q)
		}, nil, []string{"waiting"}},
		"a policy": {func(q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			h.Delete(t.Context(), event.DeleteEvent{Object: policy}, q)
		}, nil, []string{"second", "waiting"}},
		"a policy that names fewer now": {func(q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			h.Update(t.Context(), event.UpdateEvent{ObjectOld: policy, ObjectNew: &v1alpha1.CertificatePolicy{}}, q)
		}, nil, []string{"second", "waiting"}},
		"a cache in trouble": {func(q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			h.Create(t.Context(), event.CreateEvent{Object: signer}, q)
		}, errors.New("connection refused"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
			defer queue.ShutDown()
			down = c.down
			c.change(queue)
			var got []string
			for queue.Len() > 0 {
				request, _ := queue.Get()
				queue.Done(request)
				got = append(got, request.Name)
			}
			if slices.Sort(got); !slices.Equal(got, c.want) {
				t.Errorf("looks again at %q, want %q", got, c.want)
			}
		})
	}
}
