// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package explanation

import (
	"context"
	"errors"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/casefile"
)

func builder(t *testing.T, objects ...client.Object) *fake.ClientBuilder {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, authenticationv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...)
}

func workloads() *v1alpha1.CertificatePolicy {
	return &v1alpha1.CertificatePolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "workloads"},
		Spec: v1alpha1.CertificatePolicySpec{
			SignerNames: []string{"example.com/internal"},
			Requesters:  v1alpha1.Requesters{NamespaceSelector: &metav1.LabelSelector{}, ServiceAccounts: []string{"*"}},
			Allow: v1alpha1.Allow{
				DNSNames: []string{"{service}.{namespace}.svc.{clusterDomain}"}, Keys: []v1alpha1.Key{{Algorithm: v1alpha1.ECDSA}},
				IPAddresses: []string{"pod"}, Usages: []certificatesv1.KeyUsage{certificatesv1.UsageServerAuth},
			},
		},
	}
}

// shop is a namespace with a pod and the Service that selects it.
func shop() []client.Object {
	meta := func(name string, labels map[string]string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "shop", Name: name, UID: "u-1", Labels: labels}
	}
	return []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}},
		&corev1.Pod{ObjectMeta: meta("web-0", map[string]string{"app": "web"}), Spec: corev1.PodSpec{ServiceAccountName: "web", NodeName: "n1"}},
		&corev1.Service{ObjectMeta: meta("web", nil), Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}}},
	}
}

func config(data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "certwright-system", Name: "certwright"}, Data: data}
}

// podRequest is a request as the agent of pod web-0 makes it.
func podRequest(t *testing.T, in *Installation, change func(*casefile.Request)) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	requester, err := in.PodRequester(t.Context(), "shop", "web-0")
	if err != nil {
		t.Fatal(err)
	}
	object := request(t, change)
	casefile.Stamp(object, requester)
	return object
}

func TestExplainGathersFactsFromTheCluster(t *testing.T) {
	t.Parallel()
	in := &Installation{Namespace: "certwright-system", Reader: builder(t, append(shop(), workloads(), config(map[string]string{"clusterDomain": "example.org"}))...).Build()}
	e, err := in.Explain(t.Context(), podRequest(t, in, func(r *casefile.Request) { r.DNSNames = []string{"web.shop.svc.example.org"} }))
	if err != nil {
		t.Fatal(err)
	}
	if e.Decided() != policy.Permit || len(e.Notes) > 0 {
		t.Errorf("got %s: %s, notes %q", e.Verdict, e.Message, e.Notes)
	}
	// The flags have the last word.
	in.ClusterDomain = "example.net"
	if e, err = in.Explain(t.Context(), podRequest(t, in, func(r *casefile.Request) { r.DNSNames = []string{"web.shop.svc.example.net"} })); err != nil || e.Decided() != policy.Permit {
		t.Errorf("with a flag: got %+v and %v", e, err)
	}
}

func TestNotes(t *testing.T) {
	t.Parallel()
	broken := workloads()
	broken.Name, broken.Spec.Allow.DNSNames = "broken", []string{"{servcie}.svc"}
	in := &Installation{Namespace: "certwright-system", Reader: builder(t, append(shop(), workloads(), broken)...).Build()}
	e, err := in.Explain(t.Context(), podRequest(t, in, func(r *casefile.Request) { r.DNSNames, r.IPAddresses = nil, []string{"10.0.0.7"} }))
	if err != nil {
		t.Fatal(err)
	}
	notes := strings.Join(e.Notes, "\n")
	for _, want := range []string{
		"the API server does not know the addresses of pod web-0 yet",
		"policy broken is not looked at",
		"assumed to be cluster.local",
	} {
		if !strings.Contains(notes, want) {
			t.Errorf("%q is not in the notes:\n%s", want, notes)
		}
	}
	if e.Decided() != policy.Deny || len(e.Policies) != 1 {
		t.Errorf("got %s by %d policies", e.Verdict, len(e.Policies))
	}
}

func TestTroubleWithTheClusterIsAnError(t *testing.T) {
	t.Parallel()
	trouble := errors.New("trouble")
	b := builder(t, append(shop(), workloads())...)
	good := &Installation{Reader: b.Build()}
	object := podRequest(t, good, nil)
	for name, funcs := range map[string]interceptor.Funcs{
		"policies": {List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if _, ok := list.(*v1alpha1.CertificatePolicyList); ok {
				return trouble
			}
			return c.List(ctx, list, opts...)
		}},
		"pods": {Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, opts ...client.GetOption) error {
			if _, ok := object.(*corev1.Pod); ok {
				return trouble
			}
			return c.Get(ctx, key, object, opts...)
		}},
	} {
		in := &Installation{Reader: interceptor.NewClient(builder(t, append(shop(), workloads())...).Build(), funcs)}
		if _, err := in.Explain(t.Context(), object); !errors.Is(err, trouble) {
			t.Errorf("%s: got %v, want the trouble", name, err)
		}
	}
}

func TestRequesters(t *testing.T) {
	t.Parallel()
	in := &Installation{Reader: builder(t, shop()...).Build()}
	r, err := in.PodRequester(t.Context(), "shop", "web-0")
	if err != nil {
		t.Fatal(err)
	}
	if identity, bound := r.Pod(); !bound || identity.Name != "web-0" || identity.UID != "u-1" || identity.NodeName != "n1" || r.Username != "system:serviceaccount:shop:web" {
		t.Errorf("got %+v", r)
	}
	if _, err := in.PodRequester(t.Context(), "shop", "missing"); err == nil {
		t.Error("a pod that does not exist: got no error")
	}

	r, err = Impersonated("alice", "7", []string{"ops"}, []string{"a=1", "a=2", "b="})
	if err != nil || r.Username != "alice" || r.UID != "7" || len(r.Groups) != 1 || len(r.Extra["a"]) != 2 || r.Extra["b"][0] != "" {
		t.Errorf("got %+v and %v", r, err)
	}
	if _, err := Impersonated("alice", "", nil, []string{"a"}); err == nil || !strings.Contains(err.Error(), `--as-user-extra "a": must be key=value`) {
		t.Errorf("got %v", err)
	}

	c := interceptor.NewClient(builder(t).Build(), interceptor.Funcs{Create: func(_ context.Context, _ client.WithWatch, object client.Object, _ ...client.CreateOption) error {
		object.(*authenticationv1.SelfSubjectReview).Status.UserInfo = authenticationv1.UserInfo{Username: "me", Groups: []string{"ops"}, Extra: map[string]authenticationv1.ExtraValue{"a": {"1"}}}
		return nil
	}})
	if r, err := Myself(t.Context(), c); err != nil || r.Username != "me" || r.Extra["a"][0] != "1" {
		t.Errorf("got %+v and %v", r, err)
	}
}
