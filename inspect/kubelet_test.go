// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/certwright/certwright/fleet"
	"github.com/certwright/certwright/terminal"
)

// kubeletPod has a volume that its kubelet fills with a certificate, and no agent.
func kubeletPod() *corev1.Pod {
	pod := newPod()
	pod.Spec.InitContainers, pod.Status.InitContainerStatuses = nil, nil
	pod.Spec.Volumes = []corev1.Volume{{Name: "certwright-tls", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{PodCertificate: &corev1.PodCertificateProjection{SignerName: "example.com/internal"}}},
	}}}}
	return pod
}

var bundleVolume = []corev1.Volume{{Name: "certwright-tls", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
	Sources: []corev1.VolumeProjection{{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Name: ptr.To("example.com:internal:certwright")}}},
}}}}

func TestPodOfAKubelet(t *testing.T) {
	t.Parallel()
	root := newRoot(t, "root")
	request := func(name string, age time.Duration) *certificatesv1.PodCertificateRequest {
		return &certificatesv1.PodCertificateRequest{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, CreationTimestamp: metav1.NewTime(now.Add(-age))},
			Spec:       certificatesv1.PodCertificateRequestSpec{PodUID: "pod-1", SignerName: "example.com/internal", MaxExpirationSeconds: ptr.To(int32(3600))},
		}
	}
	good := request("good", time.Minute)
	good.Status = certificatesv1.PodCertificateRequestStatus{
		Conditions:       []metav1.Condition{{Type: "Issued", Status: metav1.ConditionTrue, Message: "fine"}},
		CertificateChain: string(encode(root.issue(t, newKey(t), leaf()))), BeginRefreshAt: ptr.To(metav1.NewTime(now.Add(40 * time.Minute))),
	}
	denied := request("denied", 2*time.Minute)
	denied.Status.Conditions = []metav1.Condition{{Type: "Denied", Status: metav1.ConditionTrue, Message: "not for you"}}
	foreign := request("foreign", 0)
	foreign.Spec.PodUID = "pod-0"
	c := cluster(t, interceptor.Funcs{}, kubeletPod(), good, denied, foreign, request("waiting", 3*time.Minute),
		&certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: "example.com:internal:certwright"}, Spec: certificatesv1.ClusterTrustBundleSpec{TrustBundle: string(encode(root.cert))}})
	r, err := c.Pod(t.Context(), "shop", "web-0")
	if err != nil {
		t.Fatal(err)
	}
	wantFindings(t, r)
	if len(r.Requests) != 3 {
		t.Fatalf("got %d requests", len(r.Requests))
	}
	wantFindings(t, r.Requests[0])
	wantFindings(t, r.Requests[1], "error: the request was denied: not for you")
	wantFindings(t, r.Requests[2])
	var out strings.Builder
	if err := r.WriteText(&out, terminal.Palette{}, now); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"  brought by    kubelet\n  containers    server:/var/run/secrets/certwright.dev/tls\n",
		"  podcertificaterequest shop/good\n    status        Issued: fine\n",
		"    renewed from  2026-05-01T12:40:00Z (in 40m)\n",
		"      duration      1h0m0s\n",
		"    trust         verified by clustertrustbundle example.com:internal:certwright\n",
		"  podcertificaterequest shop/waiting\n    status        Pending\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, &out)
		}
	}
}

func TestPodOfAnOlderKubelet(t *testing.T) {
	t.Parallel()
	older := func(missing ...client.ObjectList) interceptor.Funcs {
		return interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			switch list.(type) {
			case *certificatesv1.PodCertificateRequestList:
				return &meta.NoKindMatchError{}
			case *certificatesv1beta1.PodCertificateRequestList:
				if len(missing) > 0 {
					return &meta.NoKindMatchError{}
				}
			}
			return c.List(ctx, list, opts...)
		}}
	}
	beta := &certificatesv1beta1.PodCertificateRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "old"},
		Spec:       certificatesv1beta1.PodCertificateRequestSpec{PodUID: "pod-1"},
		Status:     certificatesv1beta1.PodCertificateRequestStatus{CertificateChain: "x"},
	}
	for want, funcs := range map[int]interceptor.Funcs{1: older(), 0: older(&certificatesv1beta1.PodCertificateRequestList{})} {
		r, err := cluster(t, funcs, kubeletPod(), beta).Pod(t.Context(), "shop", "web-0")
		if err != nil || len(r.Requests) != want {
			t.Errorf("got %d requests, %v; want %d", len(r.Requests), err, want)
		}
		if want > 0 {
			wantFindings(t, r.Requests[0], "error: the issued certificate cannot be read")
		}
	}
}

func TestWhatBringsIt(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change   func(*corev1.Pod)
		delivery fleet.Delivery
		want     []string
	}{
		"agent": {func(*corev1.Pod) {}, fleet.Agent, nil},
		"trust only": {func(p *corev1.Pod) {
			p.Annotations, p.Spec.Volumes = map[string]string{"certwright.dev/trust": "example.com/internal"}, bundleVolume
		}, fleet.Agent, nil},
		"trust only, by the kubelet": {func(p *corev1.Pod) {
			p.Spec.InitContainers, p.Annotations, p.Spec.Volumes = nil, map[string]string{"certwright.dev/trust": "example.com/internal"}, bundleVolume
		}, fleet.Kubelet, nil},
		"trust that nothing brings": {func(p *corev1.Pod) {
			p.Spec.InitContainers, p.Annotations = nil, map[string]string{"certwright.dev/trust": "example.com/internal"}
		}, "", []string{"error: the pod asks for a certificate and has no agent"}},
		"volume of its own": {func(p *corev1.Pod) { *p = *kubeletPod(); p.Annotations = nil }, fleet.Kubelet, nil},
		"volume for another signer": {func(p *corev1.Pod) {
			*p = *kubeletPod()
			p.Spec.Volumes[0].Projected.Sources[0].PodCertificate.SignerName = "example.com/other"
		}, fleet.Kubelet, []string{"error: the pod asks for a certificate and has no agent, nor a volume that its kubelet fills"}},
		"ended": {func(p *corev1.Pod) { *p = *kubeletPod(); p.Status.Phase = corev1.PodSucceeded }, fleet.Kubelet, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := newPod()
			tc.change(pod)
			r, err := cluster(t, interceptor.Funcs{}, pod).Pod(t.Context(), "shop", "web-0")
			if err != nil {
				t.Fatal(err)
			}
			if r.Pod.Delivery != tc.delivery {
				t.Errorf("got %q, want %q", r.Pod.Delivery, tc.delivery)
			}
			wantFindings(t, r, tc.want...)
		})
	}
}
