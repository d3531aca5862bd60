// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy"
)

const podUID = types.UID("5f6a0d3e-0000-4000-8000-000000000001")

// requester is service account shop/web, with a token bound to pod web-0 on node n1.
func requester(change ...func(map[string]certificatesv1.ExtraValue)) csr.Requester {
	extra := map[string]certificatesv1.ExtraValue{
		"authentication.kubernetes.io/pod-name":  {"web-0"},
		"authentication.kubernetes.io/pod-uid":   {string(podUID)},
		"authentication.kubernetes.io/node-name": {"n1"},
	}
	for _, f := range change {
		f(extra)
	}
	return csr.Requester{Username: "system:serviceaccount:shop:web", Extra: extra}
}

func namespace() *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"team": "a"}}}
}

func pod(change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-0", UID: podUID, Labels: map[string]string{"app": "web", "tier": "front"}},
		Spec:       corev1.PodSpec{ServiceAccountName: "web", NodeName: "n1", Hostname: "host-0", Subdomain: "db"},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, HostIP: "192.0.2.1", HostIPs: []corev1.HostIP{{IP: "192.0.2.1"}},
			PodIP: "10.1.2.3", PodIPs: []corev1.PodIP{{IP: "10.1.2.3"}, {IP: "fd00::7"}},
		},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func service(namespace, name string, selector map[string]string, change ...func(*corev1.ServiceSpec)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.ServiceSpec{Selector: selector, Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.7"}}
	for _, f := range change {
		f(&s.Spec)
	}
	return s
}

func headless(s *corev1.ServiceSpec) { s.ClusterIP = corev1.ClusterIPNone }

func gather(t *testing.T, requester csr.Requester, objects ...client.Object) policy.Facts {
	t.Helper()
	reader := fake.NewClientBuilder().WithObjects(objects...).Build()
	got, err := Gatherer{TrustDomain: "td.example", ClusterDomain: "cluster.local", Pods: reader}.Gather(context.Background(), reader, requester)
	if err != nil {
		t.Fatal(err)
	}
	if got.TrustDomain != "td.example" || got.ClusterDomain != "cluster.local" {
		t.Errorf("domains are wrong: %+v", got)
	}
	return got
}

func TestPod(t *testing.T) {
	for name, c := range map[string]struct {
		pod     func(*corev1.Pod)
		problem string // none if the pod counts
	}{
		"running":         {func(*corev1.Pod) {}, ""},
		"not started yet": {func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }, ""},
		"terminating": {func(p *corev1.Pod) {
			now := metav1.Now()
			p.DeletionTimestamp, p.Finalizers = &now, []string{"example.com/keep"}
		}, ""},
		"replaced":        {func(p *corev1.Pod) { p.UID = "other" }, "pod shop/web-0 was replaced: the token is bound to UID " + string(podUID) + ", the pod is now other"},
		"other account":   {func(p *corev1.Pod) { p.Spec.ServiceAccountName = "admin" }, "pod shop/web-0 runs as service account admin, not as web"},
		"other node":      {func(p *corev1.Pod) { p.Spec.NodeName = "n2" }, "pod shop/web-0 runs on node n2, but the token was made for node n1"},
		"no node":         {func(p *corev1.Pod) { p.Spec.NodeName = "" }, "pod shop/web-0 runs on node , but the token was made for node n1"},
		"succeeded":       {func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, "pod shop/web-0 has finished"},
		"failed":          {func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }, "pod shop/web-0 has finished"},
		"other namespace": {func(p *corev1.Pod) { p.Namespace = "bank" }, "pod shop/web-0 is gone"},
		"other name":      {func(p *corev1.Pod) { p.Name = "web-1" }, "pod shop/web-0 is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			got := gather(t, requester(), namespace(), pod(c.pod), service("shop", "web", map[string]string{"app": "web"}))
			if got.PodProblem != c.problem {
				t.Errorf("problem is %q, want %q", got.PodProblem, c.problem)
			}
			if (got.Pod != nil) != (c.problem == "") || (len(got.Services) > 0) != (c.problem == "") {
				t.Errorf("got pod %+v and Services %+v", got.Pod, got.Services)
			}
			if got.Namespace == nil || got.Namespace.Name != "shop" || got.Namespace.Labels["team"] != "a" {
				t.Errorf("namespace is %+v", got.Namespace)
			}
		})
	}
}

func TestPodFacts(t *testing.T) {
	yes, no := true, false
	ips := func(addrs ...string) func(*policy.Pod) {
		return func(p *policy.Pod) {
			p.IPs = nil
			for _, a := range addrs {
				p.IPs = append(p.IPs, netip.MustParseAddr(a))
			}
		}
	}
	owners := func(refs ...metav1.OwnerReference) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.OwnerReferences = refs }
	}
	status := func(c corev1.ContainerStatus) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{}, c} }
	}
	begun := func(p *policy.Pod) { p.Started = true }
	for name, c := range map[string]struct {
		pod  func(*corev1.Pod)
		want func(*policy.Pod) // changes what is so for every pod
	}{
		"a container that waits": {status(corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}}), func(*policy.Pod) {}},
		"one that runs":          {status(corev1.ContainerStatus{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}), begun},
		"one that has ended":     {status(corev1.ContainerStatus{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}}), begun},
		"one that ended before":  {status(corev1.ContainerStatus{LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}}), begun},
		"one that was restarted": {status(corev1.ContainerStatus{RestartCount: 1}), begun},
		"an init container that runs": {func(p *corev1.Pod) {
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
		}, begun},
		"own addresses":        {func(*corev1.Pod) {}, ips("10.1.2.3", "fd00::7")},
		"node's network":       {func(p *corev1.Pod) { p.Spec.HostNetwork = true }, ips()},
		"no address yet":       {func(p *corev1.Pod) { p.Status.PodIPs, p.Status.PodIP = nil, "" }, func(p *policy.Pod) { p.IPs, p.IPsPending = nil, true }},
		"address that is none": {func(p *corev1.Pod) { p.Status.PodIPs[0].IP = "x" }, ips("fd00::7")},
		"mapped address":       {func(p *corev1.Pod) { p.Status.PodIPs = []corev1.PodIP{{IP: "::ffff:10.1.2.3"}} }, ips("10.1.2.3")},
		"no labels":            {func(p *corev1.Pod) { p.Labels = nil }, func(p *policy.Pod) { p.Labels = nil }},
		"annotations":          {func(p *corev1.Pod) { p.Annotations = map[string]string{"a": "b"} }, func(p *policy.Pod) { p.Annotations = map[string]string{"a": "b"} }},
		"controller": {
			owners(metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: "n1", Controller: &no}, metav1.OwnerReference{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "db", UID: "x", Controller: &yes}),
			func(p *policy.Pod) {
				p.Owner = &policy.Owner{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "db"}
			},
		},
		"owners that do not control": {owners(metav1.OwnerReference{Kind: "Node", Name: "n1"}, metav1.OwnerReference{Kind: "Node", Name: "n2", Controller: &no}), func(*policy.Pod) {}},
	} {
		t.Run(name, func(t *testing.T) {
			got := gather(t, requester(), namespace(), pod(c.pod))
			want := &policy.Pod{Name: "web-0", Hostname: "host-0", Subdomain: "db", Labels: map[string]string{"app": "web", "tier": "front"}, Node: "n1"}
			ips("10.1.2.3", "fd00::7")(want)
			c.want(want)
			if !reflect.DeepEqual(got.Pod, want) {
				t.Errorf("got %+v, want %+v", got.Pod, want)
			}
		})
	}
}

func TestRequesters(t *testing.T) {
	without := func(key string) csr.Requester {
		return requester(func(e map[string]certificatesv1.ExtraValue) { delete(e, "authentication.kubernetes.io/"+key) })
	}
	with := func(key string, values ...string) csr.Requester {
		return requester(func(e map[string]certificatesv1.ExtraValue) { e["authentication.kubernetes.io/"+key] = values })
	}
	user := requester()
	user.Username = "jane"
	stranger := requester()
	stranger.Username = "system:serviceaccount:bank:web"
	for name, c := range map[string]struct {
		requester      csr.Requester
		namespace, pod bool
		problem        string
	}{
		"bound to a pod":            {requester(), true, true, ""},
		"not bound to a node":       {without("node-name"), true, true, ""},
		"not bound to a pod":        {without("pod-name"), true, false, ""},
		"no UID":                    {without("pod-uid"), true, false, ""},
		"two names":                 {with("pod-name", "web-0", "web-1"), true, false, ""},
		"two UIDs":                  {with("pod-uid", string(podUID), "other"), true, false, ""},
		"other pod":                 {with("pod-name", "web-1"), true, false, "pod shop/web-1 is gone"},
		"user with a pod's extra":   {user, false, false, ""},
		"other namespace, same pod": {stranger, true, false, "pod bank/web-0 is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			bank := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "bank"}}
			got := gather(t, c.requester, namespace(), bank, pod(), service("shop", "web", map[string]string{"app": "web"}))
			if (got.Namespace != nil) != c.namespace || (got.Pod != nil) != c.pod || (len(got.Services) > 0) != c.pod || got.PodProblem != c.problem {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestNamespaceGone(t *testing.T) {
	t.Run("bound to a pod", func(t *testing.T) {
		got := gather(t, requester(), pod(), service("shop", "web", map[string]string{"app": "web"}))
		if got.Namespace != nil || got.Pod != nil || got.Services != nil || got.PodProblem != "namespace shop is gone, and pod web-0 with it" {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("not bound", func(t *testing.T) {
		got := gather(t, csr.Requester{Username: "system:serviceaccount:shop:web"}, pod())
		if got.Namespace != nil || got.Pod != nil || got.PodProblem != "" {
			t.Errorf("got %+v", got)
		}
	})
}

func TestServices(t *testing.T) {
	web := map[string]string{"app": "web"}
	got := gather(t, requester(), namespace(), pod(),
		service("shop", "z-last", web),
		service("shop", "both-labels", map[string]string{"app": "web", "tier": "front"}),
		service("shop", "a-headless", web, headless),
		service("shop", "node-port", web, func(s *corev1.ServiceSpec) { s.Type = corev1.ServiceTypeNodePort }),
		service("shop", "load-balancer", web, func(s *corev1.ServiceSpec) { s.Type = corev1.ServiceTypeLoadBalancer }),
		service("shop", "no-address-yet", web, func(s *corev1.ServiceSpec) { s.ClusterIP = "" }),

		service("bank", "other-namespace", web),
		service("bank", "web", web, headless),
		service("shop", "no-selector", nil),
		service("shop", "empty-selector", map[string]string{}),
		service("shop", "other-value", map[string]string{"app": "api"}),
		service("shop", "one-of-two", map[string]string{"app": "web", "tier": "back"}),
		service("shop", "one-more", map[string]string{"app": "web", "zone": "x"}),
		service("shop", "empty-value", map[string]string{"app": ""}),
		service("shop", "alias", web, func(s *corev1.ServiceSpec) {
			s.Type, s.ExternalName, s.ClusterIP = corev1.ServiceTypeExternalName, "bank.example", ""
		}),
		service("shop", "headless-alias", web, headless, func(s *corev1.ServiceSpec) { s.Type, s.ExternalName = corev1.ServiceTypeExternalName, "bank.example" }),
	)
	want := []policy.Service{
		{Name: "a-headless", Headless: true}, {Name: "both-labels"}, {Name: "load-balancer"}, {Name: "no-address-yet"}, {Name: "node-port"}, {Name: "z-last"},
	}
	if !reflect.DeepEqual(got.Services, want) {
		t.Errorf("got %+v", got.Services)
	}
}

// TestSelectorsOfAnyLength: whoever may create Services makes their selectors as long as she likes.
func TestSelectorsOfAnyLength(t *testing.T) {
	selector := map[string]string{}
	for i := range MaxSelector {
		selector[fmt.Sprint("label-", i)] = "x"
	}
	longest := service("shop", "longest", maps.Clone(selector))
	selector["one-more"] = "x"
	labeled := pod()
	labeled.Labels = selector
	got := gather(t, requester(), namespace(), labeled, longest, service("shop", "too-long", selector))
	if want := []policy.Service{{Name: "longest"}}; !reflect.DeepEqual(got.Services, want) {
		t.Errorf("got %+v, want %+v", got.Services, want)
	}
}

// TestServicesAreReadInPages: past the cache, a namespace full of large Services is never in memory at once.
func TestServicesAreReadInPages(t *testing.T) {
	web := map[string]string{"app": "web"}
	pages := [][]string{{"c", "a"}, {"b"}}
	list := func(_ context.Context, _ client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
		o := (&client.ListOptions{}).ApplyOptions(opts)
		if o.Namespace != "shop" || o.Limit != servicesPage {
			t.Errorf("lists namespace %q, %d at a time", o.Namespace, o.Limit)
		}
		n, _ := strconv.Atoi(o.Continue)
		for _, name := range pages[n] {
			list.(*corev1.ServiceList).Items = append(list.(*corev1.ServiceList).Items, *service("shop", name, web))
		}
		if n++; n < len(pages) {
			list.SetContinue(strconv.Itoa(n))
		}
		return nil
	}
	live := &struct{ client.Reader }{interceptor.NewClient(fake.NewClientBuilder().WithObjects(namespace(), pod()).Build(), interceptor.Funcs{List: list})}
	got, err := Gatherer{Pods: live}.Gather(t.Context(), live, requester())
	if want := []policy.Service{{Name: "a"}, {Name: "b"}, {Name: "c"}}; err != nil || !reflect.DeepEqual(got.Services, want) {
		t.Errorf("got %+v, %v, want %+v", got.Services, err, want)
	}
}

// TestTrouble makes each read go wrong in each way that says nothing about the object.
func TestTrouble(t *testing.T) {
	pods := corev1.Resource("pods")
	for name, trouble := range map[string]error{
		"internal error":         apierrors.NewInternalError(errors.New("boom")),
		"unavailable":            apierrors.NewServiceUnavailable("try later"),
		"forbidden":              apierrors.NewForbidden(pods, "web-0", errors.New("no")),
		"too many requests":      apierrors.NewTooManyRequests("slow down", 1),
		"timeout":                context.DeadlineExceeded,
		"connection":             errors.New("connection refused"),
		"404 of a load balancer": apierrors.NewGenericServerResponse(http.StatusNotFound, "get", pods, "web-0", "<html>", 0, true),
	} {
		for _, kind := range []string{"namespace", "pod", "Services"} {
			t.Run(kind+": "+name, func(t *testing.T) {
				base := fake.NewClientBuilder().WithObjects(namespace(), pod(), service("shop", "web", map[string]string{"app": "web"})).Build()
				reader := interceptor.NewClient(base, interceptor.Funcs{
					Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
						_, isNamespace := o.(*corev1.Namespace)
						_, isPod := o.(*corev1.Pod)
						if isNamespace && kind == "namespace" || isPod && kind == "pod" {
							return trouble
						}
						return c.Get(ctx, key, o, opts...)
					},
					List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
						if kind == "Services" {
							return trouble
						}
						return c.List(ctx, list, opts...)
					},
				})
				got, err := Gatherer{TrustDomain: "td.example", Pods: reader}.Gather(context.Background(), reader, requester())
				if !errors.Is(err, trouble) || !strings.Contains(err.Error(), kind) || !strings.Contains(err.Error(), "shop") {
					t.Errorf("error is %v", err)
				}
				if !reflect.DeepEqual(got, policy.Facts{}) {
					t.Errorf("facts in spite of trouble: %+v", got)
				}
			})
		}
	}
}

// TestPersonNeedsNoReader shows that nothing is read about a requester that is no service account.
func TestPersonNeedsNoReader(t *testing.T) {
	got, err := Gatherer{TrustDomain: "td.example"}.Gather(context.Background(), nil, csr.Requester{Username: "jane"})
	if want := (policy.Facts{TrustDomain: "td.example"}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestReaders shows which reader is asked: pods are never read through the one that may be a cache.
func TestReaders(t *testing.T) {
	cache := fake.NewClientBuilder().WithObjects(namespace(), pod(func(p *corev1.Pod) { p.UID = "stale" }), service("shop", "web", map[string]string{"app": "web"})).Build()
	live := fake.NewClientBuilder().WithObjects(pod()).Build()
	got, err := Gatherer{Pods: live}.Gather(context.Background(), cache, requester())
	if err != nil || got.PodProblem != "" || got.Pod == nil || got.Namespace == nil || len(got.Services) != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
}
