// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package renewal

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/certwright/certwright/fleet"
	"github.com/certwright/certwright/fleet/fleettest"
)

// request is one that a pod's agent made some time after now, in a state: "", Approved, Denied, Failed or Issued.
func request(name, podUID, signerName string, after time.Duration, state string) *certificatesv1.CertificateSigningRequest {
	object := &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: "uid", CreationTimestamp: metav1.NewTime(fleettest.Now.Add(after))},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			SignerName: signerName, Username: "system:serviceaccount:shop:default",
			Extra: map[string]certificatesv1.ExtraValue{
				"authentication.kubernetes.io/pod-name": {"web"}, "authentication.kubernetes.io/pod-uid": {podUID},
			},
		},
	}
	if state == "Issued" {
		object.Status.Certificate = []byte("a certificate")
		state = "Approved"
	}
	if state != "" {
		object.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{
			Type: certificatesv1.RequestConditionType(state), Status: corev1.ConditionTrue, Reason: "Because", Message: "of this",
		}}
	}
	return object
}

func TestWait(t *testing.T) {
	t.Parallel()
	const internal = "example.com/internal"
	for name, c := range map[string]struct {
		before []client.Object
		// later come while it waits.
		later []client.Object
		want  []string
	}{
		"there already":         {[]client.Object{request("r", "a", internal, 0, "Issued")}, nil, []string{"a r"}},
		"comes":                 {nil, []client.Object{request("r", "a", internal, time.Second, "Issued")}, []string{"a r"}},
		"denied":                {nil, []client.Object{request("r", "a", internal, time.Second, "Denied")}, []string{"a r denied: of this"}},
		"failed":                {nil, []client.Object{request("r", "a", internal, time.Second, "Failed")}, []string{"a r failed: of this"}},
		"of before":             {[]client.Object{request("old", "a", internal, -time.Second, "Issued")}, []client.Object{request("r", "a", internal, 0, "Issued")}, []string{"a r"}},
		"of another pod":        {nil, []client.Object{request("x", "b", internal, 0, "Issued"), request("r", "a", internal, 0, "Issued")}, []string{"a r"}},
		"for another signer":    {nil, []client.Object{request("x", "a", "example.com/other", 0, "Issued"), request("r", "a", internal, 0, "Issued")}, []string{"a r"}},
		"not yet, and then yes": {[]client.Object{request("x", "a", internal, 0, "")}, []client.Object{request("y", "a", internal, 0, "Approved"), request("r", "a", internal, 0, "Issued")}, []string{"a r"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRenewer(t, interceptor.Funcs{Watch: func(ctx context.Context, k client.WithWatch, list client.ObjectList, opts ...client.ListOption) (watch.Interface, error) {
				w, err := k.Watch(ctx, list, opts...)
				for _, o := range c.later {
					if err := k.Create(ctx, o); err != nil {
						t.Error(err)
					}
				}
				return w, err
			}}, c.before...)
			var got []string
			step := Step{Member: fleet.Member{Namespace: "shop", Name: "a", UID: "a", SignerName: internal}}
			err := r.Wait(t.Context(), []Step{step}, fleettest.Now, time.Minute, func(result Result) {
				got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s", result.Name, result.Request, result.Trouble)))
			})
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestWaitGivesUp(t *testing.T) {
	t.Parallel()
	const internal = "example.com/internal"
	clock := clocktesting.NewFakeClock(fleettest.Now)
	r := newRenewer(t, interceptor.Funcs{Watch: func(ctx context.Context, k client.WithWatch, list client.ObjectList, opts ...client.ListOption) (watch.Interface, error) {
		defer clock.Step(time.Minute)
		return k.Watch(ctx, list, opts...)
	}}, request("r", "b", internal, 0, ""))
	r.Clock = clock
	waited := []Step{
		{Member: fleet.Member{Namespace: "shop", Name: "a", UID: "a", SignerName: internal}},
		{Member: fleet.Member{Namespace: "shop", Name: "b", UID: "b", SignerName: internal}},
	}
	err := r.Wait(t.Context(), waited, fleettest.Now, time.Minute, func(result Result) { t.Errorf("got %v", result) })
	const want = `after 1m0s these have not renewed:
  shop/a: its agent has made no request: kubectl logs a -n shop -c certwright-agent
  shop/b: its request r is pending`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// A watch that breaks is begun again; a person who stops waiting is told nothing else.
func TestWaitBeginsAgain(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(fleettest.Now)
	watches := 0
	var r *Renewer
	ctx, cancel := context.WithCancel(t.Context())
	r = newRenewer(t, interceptor.Funcs{Watch: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) (watch.Interface, error) {
		if watches++; watches == 3 {
			cancel()
		}
		broken := watch.NewFake()
		broken.Stop()
		go func() {
			for clock.Waiters() < 2 { // the timeout, and the pause
				if ctx.Err() != nil {
					return
				}
				goruntime.Gosched()
			}
			clock.Step(rewatch)
		}()
		return broken, nil
	}})
	r.Clock = clock
	step := Step{Member: fleet.Member{Namespace: "shop", Name: "a", UID: "a", SignerName: "example.com/internal"}}
	err := r.Wait(ctx, []Step{step}, fleettest.Now, time.Hour, func(Result) {})
	if !errors.Is(err, context.Canceled) || watches != 3 {
		t.Errorf("got %v after %d watches", err, watches)
	}
}
