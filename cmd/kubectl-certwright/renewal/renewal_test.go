// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package renewal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/fleet/fleettest"
	"github.com/certwright/certwright/terminal"
)

func newRenewer(t *testing.T, funcs interceptor.Funcs, more ...client.Object) *Renewer {
	t.Helper()
	return &Renewer{Client: fleettest.NewClient(t, funcs, more...), Clock: clocktesting.NewFakeClock(fleettest.Now)}
}

func TestParseArguments(t *testing.T) {
	t.Parallel()
	for arguments, want := range map[string]string{
		"pod web-0":         "pod [web-0]",
		"po web-0 web-1":    "pod [web-0 web-1]",
		"pods/web-0":        "pod [web-0]",
		"deploy web":        "deployment [web]",
		"Deployment/web":    "deployment [web]",
		"deployment.apps a": "deployment [a]",
		"sts/db":            "statefulset [db]",
		"ds mail":           "daemonset [mail]",
		"job nightly":       `"job" is not a kind of pods: must be pod, deployment, statefulset or daemonset`,
		"web":               `"web" is not a kind`,
		"pod":               "say which pod: renew pod NAME",
		"pod/":              "say which pod",
		"pod/a pod/b":       `"pod/b": name further ones of the same kind without it`,
		"":                  " []",
	} {
		var s Selection
		got := ""
		if err := s.ParseArguments(strings.Fields(arguments)); err != nil {
			got = err.Error()
		} else {
			got = fmt.Sprintf("%s %v", s.Kind, s.Names)
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%q: got %q, want %q", arguments, got, want)
		}
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	r := newRenewer(t, interceptor.Funcs{})
	const internal = "example.com/internal"
	for name, c := range map[string]struct {
		Selection
		want []string
		err  string
	}{
		"a pod":                          {Selection{"shop", "pod", []string{"old"}, ""}, []string{"old"}, ""},
		"two pods":                       {Selection{"shop", "pod", []string{"old", "cart-0"}, ""}, []string{"old", "cart-0"}, ""},
		"a deployment, and no lookalike": {Selection{"shop", "deployment", []string{"web"}, ""}, []string{"web-5d8f-a", "web-5d8f-b"}, ""},
		"a statefulset":                  {Selection{"shop", "statefulset", []string{"cart"}, internal}, []string{"cart-0"}, ""},
		"a daemonset":                    {Selection{"shop", "daemonset", []string{"mail"}, ""}, []string{"mail-x"}, ""},
		"a signerName":                   {Selection{"shop", "", nil, internal}, []string{"cart-0", "lookalike-c", "mail-x", "old", "web-5d8f-a", "web-5d8f-b"}, ""},
		"a signerName everywhere":        {Selection{"", "", nil, "example.com/other"}, []string{"both", "teller"}, ""},
		"one of two certificates":        {Selection{"bank", "pod", []string{"both"}, internal}, []string{"both"}, ""},
		"both certificates":              {Selection{"bank", "pod", []string{"both"}, ""}, []string{"both", "both"}, ""},
		"a pod that is not there":        {Selection{"shop", "pod", []string{"gone"}, ""}, nil, "reading pod shop/gone"},
		"a deployment that is not there": {Selection{"bank", "deployment", []string{"web"}, ""}, nil, "reading deployment bank/web"},
		"a pod without":                  {Selection{"shop", "pod", []string{"plain"}, ""}, nil, "pod shop/plain has no running pod with a certificate of Certwright's"},
		"a pod that only verifies":       {Selection{"bank", "pod", []string{"verifier"}, ""}, nil, "with a certificate of Certwright's"},
		"a pod that has ended":           {Selection{"shop", "pod", []string{"ended"}, ""}, nil, "no running pod"},
		"one of another signerName":      {Selection{"shop", "pod", []string{"old"}, "example.com/other"}, nil, "with a certificate of example.com/other"},
		"a signerName that nobody has":   {Selection{"", "", nil, "example.com/none"}, nil, "no running pod in any namespace has a certificate of example.com/none"},
		"not in this namespace":          {Selection{"shop", "", nil, "example.com/other"}, nil, "no running pod in namespace shop"},
	} {
		members, err := r.Find(t.Context(), c.Selection)
		var got []string
		for _, m := range members {
			got = append(got, m.Name)
		}
		if !slices.Equal(got, c.want) || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: got %q, %v; want %q, %q", name, got, err, c.want, c.err)
		}
	}
}

func text(t *testing.T, r *Renewer, s Selection) string {
	t.Helper()
	members, err := r.Find(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := r.Plan(t.Context(), members).WriteText(&out, terminal.Palette{}, fleettest.Now); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestPlan(t *testing.T) {
	t.Parallel()
	everywhere := Selection{SignerName: "example.com/internal"}
	fleettest.Golden(t, "plan", text(t, newRenewer(t, interceptor.Funcs{}), everywhere))

	forbidden := interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
		if _, ok := list.(*certificatesv1.PodCertificateRequestList); ok {
			return apierrors.NewForbidden(certificatesv1.Resource("podcertificaterequests"), "", errors.New(`User "bob" cannot list resource "podcertificaterequests"`))
		}
		return c.List(ctx, list, opts...)
	}}
	fleettest.Golden(t, "plan-forbidden", text(t, newRenewer(t, forbidden), Selection{Namespace: "shop", Kind: "statefulset", Names: []string{"cart"}}))
}

// What programs get says the same as the text, and what came of it.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	r := newRenewer(t, interceptor.Funcs{})
	members, err := r.Find(t.Context(), Selection{SignerName: "example.com/internal"})
	if err != nil {
		t.Fatal(err)
	}
	plan := r.Plan(t.Context(), members)
	outcomes := plan.Outcomes(fleettest.Now)
	told := plan.Told()
	outcomes.Tell(told[:2])
	outcomes.End(Result{Step: told[0], Request: "certwright-1"})
	outcomes.End(Result{Step: told[1], Request: "certwright-2", Trouble: "denied: not allowed"})
	text, err := json.MarshalIndent(outcomes, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	fleettest.Golden(t, "outcomes.json", string(text)+"\n")
}

// The API server of a release before serves the requests of kubelets in an older version only.
func TestPlanReadsOlderRequests(t *testing.T) {
	t.Parallel()
	older := interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
		if _, ok := list.(*certificatesv1.PodCertificateRequestList); ok {
			return &meta.NoKindMatchError{GroupKind: certificatesv1.SchemeGroupVersion.WithKind("PodCertificateRequest").GroupKind()}
		}
		return c.List(ctx, list, opts...)
	}}
	request := &certificatesv1beta1.PodCertificateRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: "bank", Name: "both-1"},
		Spec:       certificatesv1beta1.PodCertificateRequestSpec{PodUID: "pod-both", SignerName: "example.com/internal"},
		Status:     certificatesv1beta1.PodCertificateRequestStatus{BeginRefreshAt: &metav1.Time{Time: fleettest.Now}},
	}
	got := text(t, newRenewer(t, older, request), Selection{Namespace: "bank", SignerName: "example.com/internal"})
	if !strings.Contains(got, "kubelet    its kubelet is renewing it\n") {
		t.Errorf("got\n%s", got)
	}
}

func TestTell(t *testing.T) {
	t.Parallel()
	replaced := map[string]bool{}
	r := newRenewer(t, interceptor.Funcs{
		Create: func(_ context.Context, _ client.WithWatch, object client.Object, _ ...client.CreateOption) error {
			object.(*authenticationv1.SelfSubjectReview).CreationTimestamp = metav1.NewTime(fleettest.Now.Add(-70e9))
			return nil
		},
		Patch: func(ctx context.Context, c client.WithWatch, object client.Object, patch client.Patch, opts ...client.PatchOption) error {
			data, err := patch.Data(object)
			if replaced[object.GetName()] {
				return apierrors.NewConflict(corev1.Resource("pods"), object.GetName(), fmt.Errorf("uid mismatch: %s, %w", data, err))
			}
			return c.Patch(ctx, object, patch, opts...)
		},
	})
	replaced["web-5d8f-b"] = true
	members, err := r.Find(t.Context(), Selection{Namespace: "shop", SignerName: "example.com/internal"})
	if err != nil {
		t.Fatal(err)
	}
	plan := r.Plan(t.Context(), members)
	told, err := r.Tell(t.Context(), plan.Told(), r.Now(t.Context()))
	if len(told) != 2 || err == nil || !strings.Contains(err.Error(), "pod shop/web-5d8f-b was replaced meanwhile") {
		t.Errorf("told %d, error %v", len(told), err)
	}
	var pods corev1.PodList
	if err := r.Client.List(t.Context(), &pods); err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods.Items {
		want := ""
		if pod.Name == "web-5d8f-a" || pod.Name == "lookalike-c" {
			want = "2026-05-01T11:58:50Z" // the API server's clock
		}
		if got := pod.Annotations[v1alpha1.AnnotationRenew]; got != want {
			t.Errorf("pod %s: annotation %q, want %q", pod.Name, got, want)
		}
	}
}

// Where the API server does not say what time it is, the clock of whoever runs this has to do.
func TestNowWithoutTheAPIServers(t *testing.T) {
	t.Parallel()
	r := newRenewer(t, interceptor.Funcs{Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error {
		return errors.New("forbidden")
	}})
	if got := r.Now(t.Context()); !got.Equal(fleettest.Now) {
		t.Errorf("got %s", got)
	}
}

func TestTellSaysWhichRightIsMissing(t *testing.T) {
	t.Parallel()
	r := newRenewer(t, interceptor.Funcs{Patch: func(_ context.Context, _ client.WithWatch, o client.Object, _ client.Patch, _ ...client.PatchOption) error {
		return apierrors.NewForbidden(corev1.Resource("pods"), o.GetName(), errors.New(`User "bob" cannot patch resource "pods" in API group "" in the namespace "shop"`))
	}})
	members, err := r.Find(t.Context(), Selection{"shop", "deployment", []string{"web"}, ""})
	if err != nil {
		t.Fatal(err)
	}
	told, err := r.Tell(t.Context(), r.Plan(t.Context(), members).Told(), fleettest.Now)
	if len(told) != 0 || err == nil || !strings.Contains(err.Error(), "kubectl create role NAME --verb=patch --resource=pods -n shop") {
		t.Errorf("told %d, error %v", len(told), err)
	}
}
