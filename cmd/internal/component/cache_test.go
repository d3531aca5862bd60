// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package component

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy/facts"
)

var now = metav1.NewTime(time.Date(2028, 2, 29, 12, 34, 56, 0, time.UTC))

// padded is metadata in which everything that its owner may write at will is big.
func padded(namespace, name string) metav1.ObjectMeta {
	big := strings.Repeat("x", 100<<10)
	return metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: "uid-1", ResourceVersion: "7", Generation: 3, CreationTimestamp: now,
		Annotations: map[string]string{"example.com/a": big}, Labels: map[string]string{"example.com/l": big},
		Finalizers: []string{"example.com/" + big}, OwnerReferences: []metav1.OwnerReference{{Name: big}},
	}
}

// hostile is a request as large as the API server takes it.
func hostile(signerName string, conditions ...certificatesv1.RequestConditionType) *certificatesv1.CertificateSigningRequest {
	o := &certificatesv1.CertificateSigningRequest{ObjectMeta: padded("", "web")}
	o.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: strings.Repeat("x", 100<<10)}}
	o.Spec = certificatesv1.CertificateSigningRequestSpec{
		Request: bytes.Repeat([]byte("A"), 1<<20), SignerName: signerName, Username: "mallory", UID: "u", Groups: []string{"g"},
		Extra: map[string]certificatesv1.ExtraValue{"k": {"v"}}, Usages: []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth},
	}
	for _, c := range conditions {
		o.Status.Conditions = append(o.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: c, Status: corev1.ConditionTrue, Reason: "R", Message: strings.Repeat("m", 16<<10), LastTransitionTime: now,
		})
	}
	return o
}

func issued(o *certificatesv1.CertificateSigningRequest) *certificatesv1.CertificateSigningRequest {
	o.Status.Certificate = bytes.Repeat([]byte("c"), 100<<10)
	return o
}

// transformed is what the cache of approver and signer makes of an object.
func transformed[T client.Object](t *testing.T, o T) T {
	t.Helper()
	for kind, options := range cacheOptions("certwright-system", nil).ByObject {
		if fmt.Sprintf("%T", kind) != fmt.Sprintf("%T", o) {
			continue
		}
		kept, err := options.Transform(o)
		if err != nil {
			t.Fatal(err)
		}
		return kept.(T)
	}
	t.Fatalf("there is no transform for a %T", o)
	return o
}

func TestCacheIsNotFilledByRequests(t *testing.T) {
	const ours, kubernetes = "example.com/internal", "kubernetes.io/kube-apiserver-client"
	const approved, denied, failed = certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed
	for name, c := range map[string]struct {
		object *certificatesv1.CertificateSigningRequest
		most   int
	}{
		"pending, of a signer that may be ours": {hostile(ours), csr.MaxRequestBytes + 300},
		"approved":                              {hostile(ours, approved), 2*csr.MaxRequestBytes + 500},
		"of Kubernetes' own signer":             {hostile(kubernetes), 200},
		"issued":                                {issued(hostile(ours, approved)), 16<<10 + 300},
		"denied":                                {hostile(ours, denied), 300},
		"failed":                                {hostile(ours, approved, failed), 16<<10 + 300},
	} {
		t.Run(name, func(t *testing.T) {
			whole := c.object.DeepCopy()
			kept := transformed(t, c.object)
			if kept.Size() > c.most || cap(kept.Spec.Request) > csr.MaxRequestBytes+2048 {
				t.Errorf("%d bytes are kept, %d of them for the request, want at most %d", kept.Size(), cap(kept.Spec.Request), c.most)
			}
			if !equality.Semantic.DeepEqual(c.object, whole) {
				t.Error("the object itself was changed, which others may be reading")
			}
			if kept.UID != whole.UID || kept.ResourceVersion != whole.ResourceVersion || kept.Name != whole.Name || !kept.CreationTimestamp.Equal(&now) {
				t.Errorf("metadata is %v", kept.ObjectMeta)
			}
			if csr.IsApproved(kept) != csr.IsApproved(whole) || csr.IsFinished(kept) != csr.IsFinished(whole) ||
				csr.IsDenied(kept) != csr.IsDenied(whole) || csr.IsFailed(kept) != csr.IsFailed(whole) || kept.Spec.SignerName != whole.Spec.SignerName {
				t.Errorf("it is kept as %v of %s", kept.Status.Conditions, kept.Spec.SignerName)
			}
			if again := transformed(t, kept.DeepCopy()); !equality.Semantic.DeepEqual(again, kept) {
				t.Errorf("a second time it becomes %v", again)
			}
		})
	}
}

// A slice of what is cut off would keep all of it in memory.
func TestCacheFreesWhatItCutsOff(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const n = 64
	kept := make([]*certificatesv1.CertificateSigningRequest, n)
	before := heap()
	for i := range kept {
		kept[i] = transformed(t, hostile("example.com/other"))
	}
	if grown := int64(heap()) - int64(before); grown > n*2*csr.MaxRequestBytes {
		t.Errorf("%d requests take %d bytes each", n, grown/n)
	}
	runtime.KeepAlive(kept)
}

func TestCutRequestIsRefusedAsTooLarge(t *testing.T) {
	for name, o := range map[string]*certificatesv1.CertificateSigningRequest{"whole": hostile("example.com/a"), "kept": transformed(t, hostile("example.com/a"))} {
		_, err := csr.Parse(o)
		if refusal := (*csr.Refusal)(nil); !errors.As(err, &refusal) || refusal.Reason != csr.ReasonRequestTooLarge {
			t.Errorf("%s: %v, want it refused as too large", name, err)
		}
	}
}

// What is asked for is decided on the spec, so the cache holds all of one that is not refused for its size.
func TestCacheHoldsTheSpecOfARequest(t *testing.T) {
	o := hostile("example.com/internal", certificatesv1.CertificateApproved)
	o.Spec.Request = o.Spec.Request[:csr.MaxRequestBytes]
	if kept := transformed(t, o); !equality.Semantic.DeepEqual(kept.Spec, o.Spec) || !equality.Semantic.DeepEqual(kept.Status, o.Status) {
		t.Errorf("kept are %v and %v", kept.Spec, kept.Status)
	}
}

// Quotas by pod count what was approved, long after it was issued, and what others wrote there must not fill the memory.
func TestCacheKnowsThePodOfAnApproval(t *testing.T) {
	const approved = certificatesv1.CertificateApproved
	pod := map[string]certificatesv1.ExtraValue{
		"authentication.kubernetes.io/pod-name": {"web-0"}, "authentication.kubernetes.io/pod-uid": {"pod-1"}, "example.com/other": {"x"},
	}
	long := map[string]certificatesv1.ExtraValue{
		"authentication.kubernetes.io/pod-name": {"web-0"}, "authentication.kubernetes.io/pod-uid": {strings.Repeat("x", 254)},
	}
	many := map[string]certificatesv1.ExtraValue{
		"authentication.kubernetes.io/pod-name": {"web-0", "web-1"}, "authentication.kubernetes.io/pod-uid": {"pod-1"},
	}
	for name, c := range map[string]struct {
		object *certificatesv1.CertificateSigningRequest
		extra  map[string]certificatesv1.ExtraValue
		known  bool
	}{
		"issued":                  {issued(hostile("example.com/a", approved)), pod, true},
		"failed":                  {hostile("example.com/a", approved, certificatesv1.CertificateFailed), pod, true},
		"denied":                  {hostile("example.com/a", certificatesv1.CertificateDenied), pod, false},
		"with a UID that is none": {issued(hostile("example.com/a", approved)), long, false},
		"with two names":          {issued(hostile("example.com/a", approved)), many, false},
		"of no pod":               {issued(hostile("example.com/a", approved)), nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			c.object.Spec.Username, c.object.Spec.Extra = "system:serviceaccount:shop:web", c.extra
			kept := transformed(t, c.object).Spec
			got, known := csr.Requester{Username: kept.Username, Extra: kept.Extra}.Pod()
			if want := (csr.PodIdentity{Namespace: "shop", Name: "web-0", UID: "pod-1"}); known != c.known || known && got != want {
				t.Errorf("pod %v, known %t", got, known)
			}
			if most := map[bool]int{true: 2}[c.known]; len(kept.Extra) != most {
				t.Errorf("kept is %v", kept.Extra)
			}
		})
	}
}

// Facts about a pod are the same, whether they come from the cache or from the API server.
func TestFactsAreTheSameFromTheCache(t *testing.T) {
	namespace := &corev1.Namespace{ObjectMeta: padded("", "shop"), Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive}}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-0", UID: "pod-1", Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{ServiceAccountName: "web"}, Status: corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.1.2.3"}}},
	}
	service := func(name string, spec corev1.ServiceSpec) *corev1.Service {
		spec.Ports = []corev1.ServicePort{{Name: strings.Repeat("p", 100<<10), Port: 80}}
		return &corev1.Service{ObjectMeta: padded("shop", name), Spec: spec}
	}
	selector, long := map[string]string{"app": "web"}, map[string]string{}
	for i := range 8000 {
		long[fmt.Sprintf("label-%d", i)] = strings.Repeat("v", 63)
		pod.Labels[fmt.Sprintf("label-%d", i)] = long[fmt.Sprintf("label-%d", i)] // it would select the pod
	}
	services := []*corev1.Service{
		service("plain", corev1.ServiceSpec{Selector: selector, Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.1"}),
		service("headless", corev1.ServiceSpec{Selector: selector, ClusterIP: corev1.ClusterIPNone}),
		service("alias", corev1.ServiceSpec{Selector: selector, Type: corev1.ServiceTypeExternalName, ExternalName: "example.com"}),
		service("another", corev1.ServiceSpec{Selector: map[string]string{"app": "db"}}),
		service("overlong", corev1.ServiceSpec{Selector: long}),
	}
	whole, kept := []client.Object{namespace}, []client.Object{transformed(t, namespace)}
	for _, s := range services {
		k := transformed(t, s)
		if k.Size() > 300 && s.Name != "overlong" || k.Size() > 10<<10 {
			t.Errorf("%d bytes are kept of Service %s", k.Size(), s.Name)
		}
		whole, kept = append(whole, s), append(kept, k)
	}
	requester := csr.Requester{Username: "system:serviceaccount:shop:web", Extra: map[string]certificatesv1.ExtraValue{
		"authentication.kubernetes.io/pod-name": {"web-0"}, "authentication.kubernetes.io/pod-uid": {"pod-1"},
	}}
	gatherer := facts.Gatherer{Pods: fake.NewClientBuilder().WithObjects(pod).Build()}
	live, err := gatherer.Gather(t.Context(), fake.NewClientBuilder().WithObjects(whole...).Build(), requester)
	if err != nil || len(live.Services) != 2 || live.Namespace == nil || live.Pod == nil {
		t.Fatalf("facts %v, error %v, want a namespace, a pod and two Services", live, err)
	}
	cached, err := gatherer.Gather(t.Context(), fake.NewClientBuilder().WithObjects(kept...).Build(), requester)
	if err != nil || fmt.Sprintf("%+v", cached.Services) != fmt.Sprintf("%+v", live.Services) || !equality.Semantic.DeepEqual(cached.Namespace, live.Namespace) {
		t.Errorf("facts from the cache are %+v and %+v, error %v, want %+v and %+v", cached.Namespace, cached.Services, err, live.Namespace, live.Services)
	}
}

func TestCacheKnowsNamespacesThatGoAway(t *testing.T) {
	n := &corev1.Namespace{ObjectMeta: padded("", "shop"), Status: corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating}}
	n.DeletionTimestamp = &now
	if kept := transformed(t, n); !kept.DeletionTimestamp.Equal(&now) || kept.Status.Phase != corev1.NamespaceTerminating || len(kept.Annotations)+len(kept.Finalizers) > 0 {
		t.Errorf("kept is %v", kept)
	}
}

func TestCacheLetsTombstonesPass(t *testing.T) {
	tombstone := toolscache.DeletedFinalStateUnknown{Key: "web"}
	if got, err := keep(keepRequest)(tombstone); got != tombstone || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
}
