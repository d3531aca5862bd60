// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package mutation

import (
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/certwright/certwright/ability"
	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/trust/distribution"
	"github.com/certwright/certwright/webhook/annotation"
	"github.com/certwright/certwright/webhook/inject"
)

func fsGroup(pod *corev1.Pod) {
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: ptr.To[int64](7)}
}

func disk(pod *corev1.Pod) {
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
	}})
}

// A pod that leaves it open gets what works; one that insists on the kubelet is told why not.
func TestWhoDelivers(t *testing.T) {
	signs := func(change func(*v1alpha1.SignerSpec)) *v1alpha1.Signer {
		signer := kubeletFacts.Signer.DeepCopy()
		change(&signer.Spec)
		return signer
	}
	every, some := ability.PodCertificates{Version: "v1", EveryKubelet: true}, ability.PodCertificates{Version: "v1beta1"}
	ready := kubeletFacts.Signer
	const (
		not     = `annotation certwright.dev/delivery: "kubelet" is not allowed, `
		instead = ", or set annotation certwright.dev/delivery to agent"
	)
	for name, test := range map[string]struct {
		pod    []func(*corev1.Pod)
		can    ability.PodCertificates
		signer *v1alpha1.Signer
		auto   annotation.Way
		want   string // why delivery kubelet is refused; empty if it is not
	}{
		"all is ready":                 {nil, every, ready, "kubelet", ""},
		"some kubelets":                {nil, some, ready, "agent", ""},
		"the cluster cannot":           {nil, ability.PodCertificates{}, ready, "agent", not + "the cluster serves no PodCertificateRequests: leave it out" + instead},
		"no Signer":                    {nil, every, nil, "agent", not + "no Signer has signerName example.com/internal: apply one with spec.podCertificates" + instead},
		"not by this Signer":           {nil, every, signs(func(s *v1alpha1.SignerSpec) { s.PodCertificates = nil }), "agent", not + "Signer internal of example.com/internal signs nothing for kubelets: have somebody set its spec.podCertificates" + instead},
		"not by its backends":          {nil, every, signs(func(s *v1alpha1.SignerSpec) { s.Backends[0].CA = nil }), "agent", not + "Signer internal of example.com/internal has no backend that signs for kubelets, such as ca: have somebody add one" + instead},
		"shorter than the API takes":   {nil, every, signs(func(s *v1alpha1.SignerSpec) { s.Limits.MaxDuration = metav1.Duration{Duration: 59 * time.Minute} }), "agent", not + "kubelets take nothing shorter than 1h0m0s and Signer internal of example.com/internal signs nothing longer than 59m0s: have somebody raise its spec.limits.maxDuration" + instead},
		"as short as the API takes":    {nil, every, signs(func(s *v1alpha1.SignerSpec) { s.Limits.MaxDuration = metav1.Duration{Duration: time.Hour} }), "kubelet", ""},
		"asked what it cannot do":      {[]func(*corev1.Pod){annotate(annotation.Formats, "JKS")}, every, ready, "agent", "annotation certwright.dev/formats: a kubelet does not do that, set certwright.dev/delivery to agent"},
		"a disk":                       {[]func(*corev1.Pod){disk}, every, ready, "agent", "annotation certwright.dev/delivery: with the volume data, a kubelet can give the key to the pod's containers only by an fsGroup or user that the pod itself says: set spec.securityContext.fsGroup (or runAsUser, for all containers), or set annotation certwright.dev/delivery to agent"},
		"a disk of a group":            {[]func(*corev1.Pod){disk, fsGroup}, every, ready, "kubelet", ""},
		"an address alone":             {[]func(*corev1.Pod){annotate(annotation.DNSNames, ""), annotate(annotation.URIs, ""), annotate(annotation.IPAddresses, "10.0.0.1")}, every, ready, "kubelet", ""},
		"trust bundles, by all":        {[]func(*corev1.Pod){trustOnly("a.b/c")}, ability.PodCertificates{}, nil, "kubelet", ""},
		"trust bundles, several":       {[]func(*corev1.Pod){trustOnly("a.b/c,a.b/d")}, every, nil, "agent", "annotation certwright.dev/trust: a kubelet does not merge bundles, set certwright.dev/delivery to agent"},
		"trust bundles with variables": {[]func(*corev1.Pod){trustOnly("a.b/c"), annotate(annotation.TrustEnv, "true")}, every, nil, "agent", "annotation certwright.dev/trust-env: a kubelet does not do that, set certwright.dev/delivery to agent"},
	} {
		t.Run(name, func(t *testing.T) {
			m, facts := testMutator, Facts{Namespace: "shop", Signer: test.signer}
			m.PodCertificates = test.can
			for _, way := range []annotation.Way{"auto", "agent", "init", "kubelet"} {
				want := way
				if way == annotation.DeliveryAuto {
					want = test.auto
				}
				pod := newPod(append(test.pod, annotate(annotation.Delivery, string(way)), annotate(annotation.DeliveredBy, "whatever"))...)
				err := m.Mutate(pod, facts)
				if way == annotation.DeliveryKubelet && test.want != "" {
					var refusal annotation.Refusal
					if !errors.As(err, &refusal) || len(refusal) != 1 || refusal[0] != test.want {
						t.Errorf("got  %v\nwant %s", err, test.want)
					}
					continue
				}
				if err != nil || pod.Annotations[annotation.DeliveredBy] != string(want) {
					t.Errorf("%s: delivered by %q, %v; want %s", way, pod.Annotations[annotation.DeliveredBy], err, want)
				}
			}
		})
	}
}

// trustOnly asks for bundles instead of a certificate.
func trustOnly(signerNames string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		delete(pod.Annotations, annotation.AutoTLS)
		pod.Annotations[annotation.Trust] = signerNames
	}
}

// The key of a pod whose kubelet makes it can be read by all containers that see it, whatever user they run as, and by nobody else.
// How the kubelet sets modes and owners is told at inject.Injector.Kubelet.
func TestKeyOfTheKubelet(t *testing.T) {
	user := func(id int64) *corev1.SecurityContext { return &corev1.SecurityContext{RunAsUser: &id} }
	for name, change := range map[string]func(*corev1.Pod){
		"users unknown": func(*corev1.Pod) {},
		"one user": func(pod *corev1.Pod) {
			pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: ptr.To[int64](5)}
		},
		"one user, and a disk": func(pod *corev1.Pod) {
			pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: ptr.To[int64](5)}
			disk(pod)
		},
		"a group, and a disk": func(pod *corev1.Pod) { fsGroup(pod); disk(pod) },
		"two users": func(pod *corev1.Pod) {
			pod.Spec.Containers[0].SecurityContext = user(1)
			pod.Spec.Containers[1].SecurityContext = user(2)
		},
		"one user in each": func(pod *corev1.Pod) {
			pod.Spec.Containers[0].SecurityContext = user(1)
			pod.Spec.Containers[1].SecurityContext = user(1)
		},
		"root and unknown": func(pod *corev1.Pod) { pod.Spec.Containers[0].SecurityContext = user(0) },
		"another user of the pod": func(pod *corev1.Pod) {
			pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: ptr.To[int64](5)}
			pod.Spec.Containers[0].SecurityContext = user(1)
		},
	} {
		for _, way := range []distribution.Way{distribution.ClusterTrustBundle, distribution.ConfigMap} {
			t.Run(name, func(t *testing.T) {
				pod := newPod(twoContainers(change)...)
				m := clusters[1].Mutator
				m.Trust = way
				if err := m.Mutate(pod, kubeletFacts); err != nil {
					t.Fatal(err)
				}
				if by := pod.Annotations[annotation.DeliveredBy]; by != "kubelet" {
					t.Fatalf("delivered by %s", by)
				}
				// In the course of time, other containers may come, such as those of "kubectl debug".
				pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "debugger"})
				assertReadable(t, pod)
			})
		}
	}
}

// twoContainers gives the pod a second container first.
func twoContainers(change func(*corev1.Pod)) []func(*corev1.Pod) {
	return []func(*corev1.Pod){func(pod *corev1.Pod) {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "side", Image: "example.com/side:1"})
	}, change}
}

// assertReadable does what the kubelet does (pkg/volume/projected and pkg/volume/util of 1.37).
func assertReadable(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	context := pod.Spec.SecurityContext
	var owner *int64 // FsUserFrom
	for i, c := range pod.Spec.Containers {
		user := context.RunAsUser
		if c.SecurityContext != nil && c.SecurityContext.RunAsUser != nil {
			user = c.SecurityContext.RunAsUser
		}
		if user == nil || i > 0 && (owner == nil || *owner != *user) {
			owner = nil
			break
		}
		owner = user
	}
	var source *corev1.ProjectedVolumeSource
	for _, volume := range pod.Spec.Volumes {
		if volume.Name == inject.TLSVolume {
			source = volume.Projected
		}
	}
	mode := *source.DefaultMode // collectData
	if owner != nil || context.FSGroup != nil {
		mode = 0o600
	}
	if context.FSGroup != nil { // changeFilePermission
		mode |= 0o440
	}
	if mode&0o007 != 0 {
		t.Errorf("everybody may do %o with the key", mode&0o007)
	}
	if owner == nil && (context.FSGroup == nil || mode&0o040 == 0) {
		t.Errorf("mode %o, no owner, group %v: the containers cannot read it", mode, context.FSGroup)
	}
	for _, s := range source.Sources {
		if s.ConfigMap != nil && *s.ConfigMap.Items[0].Mode != 0o444 { // which the owner of the others does not own
			t.Errorf("ca.crt has mode %o", *s.ConfigMap.Items[0].Mode)
		}
	}
}
