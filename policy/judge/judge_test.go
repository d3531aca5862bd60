// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy"
)

const signerName = "example.com/internal"

// builderIndex lets Index add its indices to a fake client.
type builderIndex struct{ *fake.ClientBuilder }

func (b builderIndex) IndexField(_ context.Context, o client.Object, field string, values client.IndexerFunc) error {
	b.WithIndex(o, field, values)
	return nil
}

// store is a cluster, or what a cache knows of it, that counts how often its policies are listed and can be in trouble.
type store struct {
	client.Client
	lists   atomic.Int32
	trouble error
}

func newStore(t testing.TB, objects ...client.Object) *store {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...)
	if err := Index(context.Background(), builderIndex{builder}); err != nil {
		t.Fatal(err)
	}
	s := &store{}
	s.Client = interceptor.NewClient(builder.Build(), interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if _, ok := list.(*v1alpha1.CertificatePolicyList); ok {
				s.lists.Add(1)
			}
			if s.trouble != nil {
				return s.trouble
			}
			return c.List(ctx, list, opts...)
		},
	})
	return s
}

// cluster is the namespace, pod and Service that every request here comes from, and more.
func cluster(more ...client.Object) []client.Object {
	return append([]client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}},
		&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-0", UID: "pod-uid", Labels: map[string]string{"app": "web"}},
			Spec:       corev1.PodSpec{ServiceAccountName: "web"},
		},
	}, more...)
}

func service(name string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}}}
}

// generation is a CertificatePolicy in one of its generations, which allows these DNS names.
func generation(name string, n int64, dnsNames ...string) *v1alpha1.CertificatePolicy {
	return &v1alpha1.CertificatePolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Generation: n},
		Spec: v1alpha1.CertificatePolicySpec{
			SignerNames: []string{signerName},
			Requesters:  v1alpha1.Requesters{NamespaceSelector: &metav1.LabelSelector{}, ServiceAccounts: []string{"*"}},
			Allow: v1alpha1.Allow{
				DNSNames: dnsNames, Usages: []certificatesv1.KeyUsage{certificatesv1.UsageServerAuth}, Keys: []v1alpha1.Key{{Algorithm: v1alpha1.ECDSA}},
			},
		},
	}
}

// broken is a pattern that does not compile.
const broken = "{nonsense}"

func request(dnsNames ...string) csr.Request {
	return csr.Request{
		SignerName: signerName,
		Requester: csr.Requester{Username: "system:serviceaccount:shop:web", Extra: map[string]certificatesv1.ExtraValue{
			"authentication.kubernetes.io/pod-name": {"web-0"}, "authentication.kubernetes.io/pod-uid": {"pod-uid"},
		}},
		DNSNames: dnsNames,
		Key:      csr.Key{Algorithm: csr.AlgorithmECDSA, Size: 256},
		Usages:   []certificatesv1.KeyUsage{certificatesv1.UsageServerAuth},
	}
}

func newJudge(cached, live client.Reader) *Judge {
	return New(cached, live, "td.example", "cluster.local")
}

func decide(t testing.TB, j *Judge, req csr.Request) policy.Decision {
	t.Helper()
	d, err := j.Decide(context.Background(), req)
	if err != nil {
		t.Fatalf("deciding: %v", err)
	}
	return d
}

func TestCachesAreAskedFirst(t *testing.T) {
	const name = "web.shop.svc"
	good := generation("p", 1, "{service}.{namespace}.svc")
	otherSigner := generation("p", 1, "{service}.{namespace}.svc")
	otherSigner.Spec.SignerNames = []string{"example.com/other"}
	onlyTeamA := generation("p", 1, "{service}.{namespace}.svc")
	onlyTeamA.Spec.Requesters.NamespaceSelector.MatchLabels = map[string]string{"team": "a"}
	teamA := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"team": "a"}}}
	for title, c := range map[string]struct {
		cached, live []client.Object
		want         policy.Verdict
		lists        int32 // of live policies
	}{
		"cached permit":              {cluster(good, service("web")), cluster(), policy.Permit, 0},
		"policy is new":              {cluster(service("web")), cluster(good, service("web")), policy.Permit, 1},
		"policy is wider now":        {cluster(generation("p", 1), service("web")), cluster(generation("p", 2, name)), policy.Permit, 1},
		"policy names signer now":    {cluster(otherSigner, service("web")), cluster(generation("p", 2, name)), policy.Permit, 1},
		"Service is new":             {cluster(good), cluster(good, service("web")), policy.Permit, 1},
		"namespace is new":           {[]client.Object{good}, cluster(good, service("web")), policy.Permit, 1},
		"namespace has labels now":   {cluster(onlyTeamA, service("web")), []client.Object{teamA, cluster()[1], onlyTeamA, service("web")}, policy.Permit, 1},
		"denied by both":             {cluster(good, service("api")), cluster(good, service("api")), policy.Deny, 1},
		"policy is narrower now":     {cluster(generation("p", 1)), cluster(generation("p", 2)), policy.Deny, 1},
		"policy is gone":             {cluster(good), cluster(), policy.NoOpinion, 1},
		"no policy at all":           {cluster(), cluster(), policy.NoOpinion, 1},
		"policy of another signer":   {cluster(otherSigner, service("web")), cluster(otherSigner, service("web")), policy.NoOpinion, 1},
		"pod is gone, cached is not": {cluster(good, service("web")), []client.Object{cluster()[0], good, service("web")}, policy.Deny, 1},
	} {
		t.Run(title, func(t *testing.T) {
			cached, live := newStore(t, c.cached...), newStore(t, c.live...)
			if d := decide(t, newJudge(cached, live), request(name)); d.Verdict != c.want {
				t.Errorf("got %v (%s), want %v", d.Verdict, d.Message(), c.want)
			}
			if got := live.lists.Load(); got != c.lists {
				t.Errorf("%d lists of live policies, want %d", got, c.lists)
			}
			if got := cached.lists.Load(); got != 1 {
				t.Errorf("%d lists of cached policies, want 1", got)
			}
		})
	}
}

func TestTroubleIsNoVerdict(t *testing.T) {
	boom := errors.New("boom")
	good := generation("p", 1, "a.example.com")
	for name, c := range map[string]struct {
		cached, live error
		ask          string
		want         string // part of the error
	}{
		"cache":                 {boom, nil, "a.example.com", "listing cached certificate policies"},
		"live policies":         {nil, boom, "b.example.com", "listing certificate policies"},
		"live, but a permit":    {nil, boom, "a.example.com", ""},
		"nothing is in trouble": {nil, nil, "a.example.com", ""},
	} {
		t.Run(name, func(t *testing.T) {
			cached, live := newStore(t, cluster(good)...), newStore(t, cluster(good)...)
			cached.trouble, live.trouble = c.cached, c.live
			req := request(c.ask)
			d, err := newJudge(cached, live).Decide(context.Background(), req)
			if c.want == "" && (err != nil || d.Verdict != policy.Permit) {
				t.Errorf("got %+v, %v", d, err)
			}
			if c.want != "" && (!errors.Is(err, boom) || !strings.Contains(err.Error(), c.want) || !reflect.DeepEqual(d, policy.Decision{})) {
				t.Errorf("got %+v, %v", d, err)
			}
		})
	}
	t.Run("facts", func(t *testing.T) {
		down := interceptor.NewClient(newStore(t, cluster(good)...).Client.(client.WithWatch), interceptor.Funcs{
			Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
				return boom
			},
		})
		for name, j := range map[string]*Judge{
			"pod":       newJudge(newStore(t, cluster(good)...), down),
			"namespace": newJudge(down, newStore(t, cluster(good)...)),
			"live":      newJudge(newStore(t), down),
		} {
			if d, err := j.Decide(context.Background(), request("a.example.com")); !errors.Is(err, boom) || !reflect.DeepEqual(d, policy.Decision{}) {
				t.Errorf("%s: got %+v, %v", name, d, err)
			}
		}
	})
}

// TestAddressesNotKnownYet asks for the address of a pod whose kubelet is slower than its first container.
func TestAddressesNotKnownYet(t *testing.T) {
	own := netip.MustParseAddr("10.1.2.3")
	ownOnly := generation("p", 1)
	ownOnly.Spec.Allow.IPAddresses = []string{"pod"}
	anyIP := generation("q", 1)
	anyIP.Spec.Allow.IPAddresses = []string{"10.0.0.0/8"}
	validated, matched := generation("p", 1), generation("p", 1)
	validated.Spec.Validations = []v1alpha1.Validation{{Expression: "requester.pod.ips.all(a, a in request.ipAddresses)"}}
	validated.Spec.Allow.IPAddresses = []string{"10.0.0.0/8"}
	matched.Spec.MatchConditions = []v1alpha1.MatchCondition{{Name: "v4", Expression: "requester.pod.ips.exists(a, a == '10.1.2.3')"}}
	status := corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.1.2.3"}}}
	asking := func(dnsNames ...string) csr.Request {
		req := request(dnsNames...)
		req.IPAddresses = []netip.Addr{own}
		return req
	}
	for name, c := range map[string]struct {
		req      csr.Request
		pod      func(*corev1.Pod)
		policies []client.Object
		want     policy.Verdict // NoOpinion: it waits
	}{
		"known":                         {asking(), func(p *corev1.Pod) { p.Status = status }, []client.Object{ownOnly}, policy.Permit},
		"not known yet":                 {asking(), func(*corev1.Pod) {}, []client.Object{ownOnly}, policy.NoOpinion},
		"known, and refused":            {asking("a.example.com"), func(p *corev1.Pod) { p.Status = status }, []client.Object{ownOnly}, policy.Deny},
		"not asked for":                 {request("a.example.com"), func(*corev1.Pod) {}, []client.Object{ownOnly}, policy.Deny},
		"only a name is refused":        {asking("a.example.com"), func(*corev1.Pod) {}, []client.Object{anyIP}, policy.Deny},
		"validated":                     {asking(), func(p *corev1.Pod) { p.Status = status }, []client.Object{validated}, policy.Permit},
		"not to be validated yet":       {asking(), func(*corev1.Pod) {}, []client.Object{validated}, policy.NoOpinion},
		"not to be validated, no IP":    {request(), func(*corev1.Pod) {}, []client.Object{validated}, policy.NoOpinion},
		"never, by a validation":        {asking(), func(p *corev1.Pod) { p.UID = "other" }, []client.Object{validated}, policy.Deny},
		"matched":                       {request(), func(p *corev1.Pod) { p.Status = status }, []client.Object{matched}, policy.Permit},
		"not to be matched yet":         {request(), func(*corev1.Pod) {}, []client.Object{matched}, policy.NoOpinion},
		"permitted all the same":        {asking(), func(*corev1.Pod) {}, []client.Object{ownOnly, anyIP}, policy.Permit},
		"never, in the node's network":  {asking(), func(p *corev1.Pod) { p.Spec.HostNetwork = true }, []client.Object{ownOnly}, policy.Deny},
		"never, of a pod that is other": {asking(), func(p *corev1.Pod) { p.UID = "other" }, []client.Object{ownOnly}, policy.Deny},
	} {
		t.Run(name, func(t *testing.T) {
			world := cluster(c.policies...)
			c.pod(world[1].(*corev1.Pod))
			store := newStore(t, world...)
			d, err := newJudge(store, store).Decide(context.Background(), c.req)
			if waits := err != nil && strings.Contains(err.Error(), "the addresses of pod shop/web-0"); d.Verdict != c.want || waits != (c.want == policy.NoOpinion) {
				t.Errorf("got %v, %v", d.Verdict, err)
			}
		})
	}
}
