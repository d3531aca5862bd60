// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/terminal"
)

func cluster(t *testing.T, funcs interceptor.Funcs, objects ...client.Object) Cluster {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, certificatesv1.AddToScheme, certificatesv1beta1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(funcs).Build()
	return Cluster{Reader: c, Clock: clocktesting.NewFakePassiveClock(now)}
}

// without makes a cluster that does not serve a version of ClusterTrustBundles.
func without(versions ...client.Object) interceptor.Funcs {
	return interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, opts ...client.GetOption) error {
		if slices.ContainsFunc(versions, func(version client.Object) bool { return reflect.TypeOf(version) == reflect.TypeOf(object) }) {
			return &meta.NoKindMatchError{}
		}
		return c.Get(ctx, key, object, opts...)
	}}
}

func TestTrustBundleIsFound(t *testing.T) {
	t.Parallel()
	root, key := newRoot(t, "root"), newKey(t)
	object := issued(newObject(t, key, "web"), root.issue(t, key, leaf()))
	bundle := string(encode(root.cert))
	name := metav1.ObjectMeta{Name: "example.com:internal:certwright"}
	v1 := &certificatesv1.ClusterTrustBundle{ObjectMeta: name, Spec: certificatesv1.ClusterTrustBundleSpec{TrustBundle: bundle}}
	beta := &certificatesv1beta1.ClusterTrustBundle{ObjectMeta: name, Spec: certificatesv1beta1.ClusterTrustBundleSpec{TrustBundle: bundle}}
	shared := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "certwright-trust"}, Data: map[string]string{"example.com_internal.pem": bundle}}
	for name, tc := range map[string]struct {
		cluster Cluster
		want    string
	}{
		"ClusterTrustBundle v1":      {cluster(t, interceptor.Funcs{}, object, v1), "clustertrustbundle example.com:internal:certwright"},
		"ClusterTrustBundle v1beta1": {cluster(t, without(v1), object, beta), "clustertrustbundle example.com:internal:certwright"},
		"ConfigMap":                  {cluster(t, without(v1, beta), object, shared), "configmap shop/certwright-trust, key example.com_internal.pem"},
		"none":                       {cluster(t, interceptor.Funcs{}, object), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := tc.cluster.CSR(t.Context(), "web")
			if err != nil {
				t.Fatal(err)
			}
			if r.Trust.Bundle != tc.want || r.Trust.Verified != (tc.want != "") {
				t.Errorf("got %+v, want the bundle %q", r.Trust, tc.want)
			}
			wantFindings(t, r)
		})
	}
}

func TestTroubleWithTheTrustBundleIsAFinding(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	object := issued(newObject(t, key, "web"), newRoot(t, "root").issue(t, key, leaf()))
	c := cluster(t, interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, opts ...client.GetOption) error {
		if _, ok := object.(*certificatesv1.ClusterTrustBundle); ok {
			return errors.New("forbidden")
		}
		return c.Get(ctx, key, object, opts...)
	}}, object)
	r, err := c.CSR(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	wantFindings(t, r, "warning: the trust bundle of example.com/internal cannot be read: forbidden")
}

func TestCSR(t *testing.T) {
	t.Parallel()
	root, key := newRoot(t, "root"), newKey(t)
	condition := func(kind certificatesv1.RequestConditionType, message string) *certificatesv1.CertificateSigningRequest {
		object := newObject(t, key, "web")
		csr.SetCondition(object, kind, "Reason", message, now)
		return object
	}
	broken := newObject(t, key, "web")
	broken.Spec.Usages = nil
	unreadable := newObject(t, key, "web")
	unreadable.Status.Certificate = []byte("x")
	for name, tc := range map[string]struct {
		object *certificatesv1.CertificateSigningRequest
		status string
		want   []string
	}{
		"pending":                {newObject(t, key, "web"), "Pending", nil},
		"approved":               {condition(certificatesv1.CertificateApproved, "fine"), "Approved", nil},
		"denied":                 {condition(certificatesv1.CertificateDenied, "not for you"), "Denied", []string{"error: the request was denied: not for you"}},
		"failed without message": {condition(certificatesv1.CertificateFailed, ""), "Failed", []string{"error: the request was given up: Reason"}},
		"issued":                 {issued(newObject(t, key, "web"), root.issue(t, key, leaf())), "Issued", nil},
		"issued for another key": {issued(newObject(t, key, "web"), root.issue(t, newKey(t), leaf())), "Issued", []string{"error: the certificate is for another key than the request"}},
		"certificate unreadable": {unreadable, "Issued", []string{"error: the issued certificate cannot be read"}},
		"refused by the parser":  {broken, "Pending", []string{"error: Certwright refuses to read the request: spec.usages"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := CSR(tc.object, nil, now)
			if r.Request.Status != tc.status || r.Request.RequestedBy != "service account web of namespace shop, with a token of no pod" {
				t.Errorf("got status %s by %s, want %s", r.Request.Status, r.Request.RequestedBy, tc.status)
			}
			wantFindings(t, r, tc.want...)
		})
	}
}

func newPod() *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-0", UID: "pod-1"}}
	pod.Annotations = map[string]string{"certwright.dev/auto-tls": "example.com/internal", "other": "x"}
	pod.Spec.ServiceAccountName = "web"
	mount := []corev1.VolumeMount{{Name: "certwright-tls", MountPath: "/var/run/secrets/certwright.dev/tls"}}
	pod.Spec.InitContainers = []corev1.Container{{Name: "certwright-agent", Image: "agent:1", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways), VolumeMounts: mount}}
	pod.Spec.Containers = []corev1.Container{{Name: "server", VolumeMounts: mount}, {Name: "log"}}
	pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{
		Name: "certwright-agent", Ready: true, Started: ptr.To(true), RestartCount: 2,
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
	}}
	return pod
}

// podObject is a request by a token that is bound to a pod.
func podObject(t *testing.T, name string, age time.Duration, uid types.UID) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	object := newObject(t, newKey(t), name)
	object.CreationTimestamp.Time = now.Add(-age)
	object.Spec.Extra = map[string]certificatesv1.ExtraValue{
		"authentication.kubernetes.io/pod-name": {"web-0"}, "authentication.kubernetes.io/pod-uid": {string(uid)},
	}
	return object
}

func TestPodShowsItsNewestRequests(t *testing.T) {
	t.Parallel()
	foreign := podObject(t, "foreign", 0, "pod-1")
	foreign.Spec.Username = "system:serviceaccount:shop:other"
	c := cluster(t, interceptor.Funcs{}, newPod(), foreign, podObject(t, "before", 0, "pod-0"), newObject(t, newKey(t), "unbound"),
		podObject(t, "oldest", 4*time.Hour, "pod-1"), podObject(t, "newest", time.Hour, "pod-1"), podObject(t, "third", 3*time.Hour, "pod-1"), podObject(t, "second", 2*time.Hour, "pod-1"))
	r, err := c.Pod(t.Context(), "shop", "web-0")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, request := range r.Requests {
		names = append(names, request.Request.Name)
	}
	if got := strings.Join(names, " "); got != "newest second third" {
		t.Errorf("requests: got %s", got)
	}
	if got := strings.Join(r.Pod.Containers, " "); got != "server:/var/run/secrets/certwright.dev/tls" {
		t.Errorf("containers: got %s", got)
	}
	if len(r.Pod.Asked) != 1 || r.Pod.Agent == nil || !r.Pod.Agent.Ready || !r.Pod.Agent.Renews {
		t.Errorf("got %+v with agent %+v", r.Pod, r.Pod.Agent)
	}
	wantFindings(t, r)
	var out strings.Builder
	if err := r.WriteText(&out, terminal.Palette{}, now); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"pod shop/web-0\n", "agent         running, 2 restarts, sidecar that renews (agent:1)\n", "  certificatesigningrequest newest\n    status        Pending\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, out.String())
		}
	}
}

func TestPodFindings(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*corev1.Pod)
		want   []string
	}{
		"does not ask": {func(p *corev1.Pod) { p.Annotations = nil }, []string{"warning: the pod does not ask for a certificate"}},
		"no agent":     {func(p *corev1.Pod) { p.Spec.InitContainers = nil }, []string{"error: the pod asks for a certificate and has no agent"}},
		"not started":  {func(p *corev1.Pod) { p.Status.InitContainerStatuses[0].Started = ptr.To(false) }, []string{"warning: the agent has not brought all yet: running"}},
		"no status":    {func(p *corev1.Pod) { p.Status.InitContainerStatuses = nil }, []string{"warning: the agent has not brought all yet: not started"}},
		"waiting": {func(p *corev1.Pod) {
			p.Status.InitContainerStatuses[0] = corev1.ContainerStatus{Name: "certwright-agent", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "no image"}}}
		}, []string{"not brought all yet: waiting: ImagePullBackOff no image"}},
		"ended": {func(p *corev1.Pod) {
			p.Status.InitContainerStatuses[0] = corev1.ContainerStatus{Name: "certwright-agent", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Message: "denied"}}}
		}, []string{"not brought all yet: ended with exit code 1. denied"}},
		"init container that is done": {func(p *corev1.Pod) {
			p.Spec.InitContainers[0].RestartPolicy = nil
			p.Status.InitContainerStatuses[0] = corev1.ContainerStatus{Name: "certwright-agent", Ready: true, Started: ptr.To(false), State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}}
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := newPod()
			tc.change(pod)
			r, err := cluster(t, interceptor.Funcs{}, pod).Pod(t.Context(), "shop", "web-0")
			if err != nil {
				t.Fatal(err)
			}
			wantFindings(t, r, tc.want...)
		})
	}
}

func TestWhatIsNotThere(t *testing.T) {
	t.Parallel()
	c := cluster(t, interceptor.Funcs{})
	if _, err := c.CSR(t.Context(), "x"); err == nil {
		t.Error("a request that does not exist: got no error")
	}
	if _, err := c.Secret(t.Context(), "shop", "x"); err == nil {
		t.Error("a secret that does not exist: got no error")
	}
	if _, err := c.Pod(t.Context(), "shop", "x"); err == nil {
		t.Error("a pod that does not exist: got no error")
	}
}
