// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package mutation

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"k8s.io/utils/ptr"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/trust/distribution"
	"github.com/certwright/certwright/webhook/annotation"
	"github.com/certwright/certwright/webhook/inject"
)

const signer = "example.com/internal"

var shop = Facts{Namespace: "shop"}

// newPod is the least pod that asks; with changes.
func newPod(changes ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: map[string]string{annotation.AutoTLS: signer}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "example.com/web:1"}}},
	}
	for _, change := range changes {
		change(pod)
	}
	return pod
}

func annotate(key, value string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Annotations[key] = value }
}

func service(name string, change func(*corev1.Service)) corev1.Service {
	s := corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, ClusterIP: "10.0.0.1"},
	}
	if change != nil {
		change(&s)
	}
	return s
}

// agentConfig is what the agent in the pod will read.
func agentConfig(t testing.TB, pod *corev1.Pod) agent.Config {
	t.Helper()
	config, err := agent.ParseConfig([]byte(pod.Spec.InitContainers[0].Env[0].Value))
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func TestDefaultNames(t *testing.T) {
	labelled := func(pod *corev1.Pod) { pod.Labels = map[string]string{"app": "web", "tier": "front"} }
	named := func(hostname, subdomain string) func(*corev1.Pod) {
		return func(pod *corev1.Pod) { pod.Spec.Hostname, pod.Spec.Subdomain = hostname, subdomain }
	}
	headless := func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }
	for name, test := range map[string]struct {
		change   func(*corev1.Pod)
		services []corev1.Service
		want     string
	}{
		"none":                     {want: ""},
		"two":                      {services: []corev1.Service{service("b", nil), service("a", nil)}, want: "a.shop.svc a.shop.svc.cluster.local b.shop.svc b.shop.svc.cluster.local"},
		"empty selector":           {services: []corev1.Service{service("a", func(s *corev1.Service) { s.Spec.Selector = nil })}},
		"external name":            {services: []corev1.Service{service("a", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName })}},
		"one label of two differs": {services: []corev1.Service{service("a", func(s *corev1.Service) { s.Spec.Selector["tier"] = "back" })}},
		"a label that is missing, selected as empty": {services: []corev1.Service{service("a", func(s *corev1.Service) { s.Spec.Selector["x"] = "" })}},
		"other namespace":   {services: []corev1.Service{service("a", func(s *corev1.Service) { s.Namespace = "other" })}},
		"StatefulSet":       {named("web-0", "a"), []corev1.Service{service("a", headless)}, "a.shop.svc a.shop.svc.cluster.local web-0.a.shop.svc web-0.a.shop.svc.cluster.local"},
		"not headless":      {named("web-0", "a"), []corev1.Service{service("a", nil)}, "a.shop.svc a.shop.svc.cluster.local"},
		"other subdomain":   {named("web-0", "b"), []corev1.Service{service("a", headless)}, "a.shop.svc a.shop.svc.cluster.local"},
		"no hostname":       {named("", "a"), []corev1.Service{service("a", headless)}, "a.shop.svc a.shop.svc.cluster.local"},
		"subdomain without": {named("web-0", "a"), nil, ""},
		"explicitly none":   {annotate(annotation.DNSNames, ""), []corev1.Service{service("a", nil)}, ""},
		"explicit":          {annotate(annotation.DNSNames, "x.example.com"), []corev1.Service{service("a", nil)}, "x.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(labelled)
			if test.change != nil {
				test.change(pod)
			}
			if err := testMutator.Mutate(pod, Facts{Namespace: "shop", Services: test.services}); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(agentConfig(t, pod).DNSNames, " "); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
	for account, want := range map[string]string{"": "default", "cart": "cart"} {
		pod := newPod(func(pod *corev1.Pod) { pod.Spec.ServiceAccountName = account })
		if err := testMutator.Mutate(pod, shop); err != nil {
			t.Fatal(err)
		}
		if got := agentConfig(t, pod).URIs; len(got) != 1 || got[0] != "spiffe://cluster.local/ns/shop/sa/"+want {
			t.Errorf("service account %q gives %s", account, got)
		}
	}
}

func TestMutateRefuses(t *testing.T) {
	mounting := func(mountPath string) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "mine", MountPath: mountPath}}
		}
	}
	reloading := func(volume string) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			annotate(annotation.ReloadCommand, `["/reload/x"]`)(pod)
			annotate(annotation.ReloadVolume, volume)(pod)
			pod.Spec.Volumes = []corev1.Volume{{Name: "certwright-token"}, {Name: "other", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		}
	}
	const elsewhere = "set annotation certwright.dev/mount-path to another path or list other containers in certwright.dev/containers"
	for name, test := range map[string]struct {
		change func(*corev1.Pod)
		want   string
	}{
		"windows": {
			func(pod *corev1.Pod) { pod.Spec.OS = &corev1.PodOS{Name: corev1.Windows} },
			`spec.os.name: "windows" is not allowed, use linux: there is no agent for other systems`,
		},
		"static pod": {
			annotate(corev1.MirrorPodAnnotationKey, "x"),
			"annotation kubernetes.io/config.mirror: this is a static pod, which only its node can change; create it through the API instead",
		},
		"reserved name": {
			func(pod *corev1.Pod) { pod.Spec.Containers[0].Name = inject.AgentContainer },
			`spec.containers[0].name: "certwright-agent" is Certwright's own, use another name`,
		},
		"mount in the way": {
			mounting(annotation.DefaultMountPath + "/"),
			"container web mounts volume mine at /var/run/secrets/certwright.dev/tls/, where the certificate belongs: " + elsewhere,
		},
		"mount below": {
			mounting(annotation.DefaultMountPath + "/x"),
			"container web mounts volume mine at /var/run/secrets/certwright.dev/tls/x, where the certificate belongs: " + elsewhere,
		},
		"mount where the trust bundle is": {
			func(pod *corev1.Pod) { trustOnly("a.b/c")(pod); mounting(annotation.DefaultTrustMountPath)(pod) },
			"container web mounts volume mine at /var/run/secrets/certwright.dev/trust, where the trust bundle belongs: " +
				"set annotation certwright.dev/trust-mount-path to another path or list other containers in certwright.dev/containers",
		},
		"mount where the socket is": {
			func(pod *corev1.Pod) {
				annotate(annotation.SPIFFESocket, "true")(pod)
				mounting("/run/certwright/spiffe/agent.sock")(pod)
			},
			"container web mounts volume mine at /run/certwright/spiffe/agent.sock, where the socket belongs: mount that elsewhere or list other containers in certwright.dev/containers",
		},
		"volume that is not there": {
			reloading("tools"),
			`annotation certwright.dev/reload-volume: "tools" is not allowed, use the name of a volume that the pod has itself`,
		},
		"volume of ours": {
			reloading("certwright-token"),
			`annotation certwright.dev/reload-volume: "certwright-token" is not allowed, use the name of a volume that the pod has itself`,
		},
		"program that a container may change": {
			func(pod *corev1.Pod) {
				reloading("other")(pod)
				mounting("/shared")(pod)
				pod.Spec.Containers[0].VolumeMounts[0].Name = "other"
			},
			"annotation certwright.dev/reload-volume: container web may write to volume other and so have the agent run anything, with its token: " +
				"set readOnly: true where the container mounts it; let an init container write what has to be there",
		},
		"program in a claim": {
			func(pod *corev1.Pod) {
				reloading("other")(pod)
				pod.Spec.Volumes[1].VolumeSource = corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "shared"}}
			},
			"annotation certwright.dev/reload-volume: whoever reaches by another way what is in volume other, such as by a second volume of the same source, could have the agent run anything, with its token: " +
				"use an emptyDir that an init container fills, or a volume of kind image, configMap, secret, downwardAPI or projected",
		},
		"port taken": {
			func(pod *corev1.Pod) {
				annotate(annotation.MetricsPort, "9402")(pod)
				pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 9402}}
			},
			"annotation certwright.dev/metrics-port: container web has port 9402 already, use another one",
		},
		"unknown container": {
			annotate(annotation.Containers, "web,wep"),
			`annotation certwright.dev/containers: "wep" is not allowed, use names of the pod's containers: web`,
		},
		"agent as container": {
			annotate(annotation.Containers, inject.AgentContainer),
			`annotation certwright.dev/containers: "certwright-agent" is not allowed, use names of the pod's containers: web`,
		},
		"no name at all": {
			func(pod *corev1.Pod) { annotate(annotation.URIs, "")(pod); annotate(annotation.DNSNames, "")(pod) },
			"annotations certwright.dev/dns-names, certwright.dev/uris, certwright.dev/ip-addresses: all of them ask for none, ask for at least one name or leave one of the first two out for its default",
		},
		"bad annotation": {annotate(annotation.Delivery, "x"), `annotation certwright.dev/delivery: "x" is not allowed, use auto, agent, init or kubelet`},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(test.change)
			before := pod.DeepCopy()
			err := testMutator.Mutate(pod, shop)
			var refusal annotation.Refusal
			if !errors.As(err, &refusal) || len(refusal) != 1 {
				t.Fatalf("got %v, want a refusal with one reason", err)
			}
			if refusal[0] != test.want {
				t.Errorf("got  %s\nwant %s", refusal[0], test.want)
			}
			if !reflect.DeepEqual(pod, before) {
				t.Error("a refused pod was changed")
			}
		})
	}
	t.Run("mounts elsewhere are no bar", func(t *testing.T) {
		for _, mountPath := range []string{"/var/run/secrets/certwright.dev", annotation.DefaultMountPath + "-2"} {
			if err := testMutator.Mutate(newPod(mounting(mountPath)), shop); err != nil {
				t.Error(err)
			}
		}
		other := newPod(mounting(annotation.DefaultMountPath), annotate(annotation.Containers, "side"), func(pod *corev1.Pod) {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "side"})
		})
		if err := testMutator.Mutate(other, shop); err != nil {
			t.Error(err)
		}
	})
	t.Run("everything at once", func(t *testing.T) {
		pod := newPod(annotate(annotation.Delivery, "x"), func(pod *corev1.Pod) { pod.Spec.OS = &corev1.PodOS{Name: corev1.Windows} })
		var refusal annotation.Refusal
		if err := testMutator.Mutate(pod, shop); !errors.As(err, &refusal) || len(refusal) != 2 {
			t.Errorf("got %v, want two reasons", err)
		}
	})
}

// A pod visited a second time, after the API server and other injectors, is left
// alone as far as it is already right.
func TestSecondVisit(t *testing.T) {
	pod := newPod()
	if err := testMutator.Mutate(pod, shop); err != nil {
		t.Fatal(err)
	}
	ours := &pod.Spec.InitContainers[0]
	ours.ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceCPU, RestartPolicy: corev1.NotRequired}}
	ours.Resources.Limits[corev1.ResourceCPU] = resource.MustParse("1") // by a LimitRange
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "injected"})
	pod.Spec.Containers[0].VolumeMounts = append(pod.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "injected", MountPath: "/x"})
	before := pod.DeepCopy()
	if err := testMutator.Mutate(pod, shop); err != nil {
		t.Fatal(err)
	}
	assertSameJSON(t, before, pod)

	// A container that came in between gets its mount, and the agent is first again.
	proxy := corev1.Container{Name: "proxy", Image: "example.com/proxy:1"}
	pod.Spec.InitContainers = append([]corev1.Container{proxy}, pod.Spec.InitContainers...)
	if err := testMutator.Mutate(pod, shop); err != nil {
		t.Fatal(err)
	}
	if first, second := pod.Spec.InitContainers[0], pod.Spec.InitContainers[1]; first.Name != inject.AgentContainer || second.Name != "proxy" ||
		len(second.VolumeMounts) != 1 || second.VolumeMounts[0].MountPath != annotation.DefaultMountPath || !second.VolumeMounts[0].ReadOnly {
		t.Errorf("init containers are %s and %+v", first.Name, second)
	}
}

func assertSameJSON(t testing.TB, want, got any) {
	t.Helper()
	a, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if string(a) != string(b) {
		t.Errorf("got  %s\nwant %s", b, a)
	}
}

// The restricted Pod Security Standard, judged by Kubernetes' own implementation.
func TestRestrictedStaysRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
	judge := func(pod *corev1.Pod) policy.AggregateCheckResult {
		return policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec))
	}
	asks := map[string][]func(*corev1.Pod){
		"agent":        {annotate(annotation.Delivery, "agent")},
		"init":         {annotate(annotation.Delivery, "init")},
		"kubelet":      {annotate(annotation.Delivery, "kubelet")},
		"all":          {annotate(annotation.SPIFFESocket, "true"), annotate(annotation.MetricsPort, "9402"), annotate(annotation.Formats, "JKS"), annotate(annotation.Trust, "a.b/c")},
		"signal":       {annotate(annotation.ReloadSignal, "x=HUP"), func(pod *corev1.Pod) { pod.Spec.SecurityContext.RunAsUser = ptr.To[int64](7) }},
		"trust":        {trustOnly("a.b/c")},
		"trust, agent": {trustOnly("a.b/c,a.b/d")},
	}
	for name, ask := range asks {
		for _, way := range []distribution.Way{distribution.ClusterTrustBundle, distribution.ConfigMap} {
			m := clusters[1].Mutator
			m.Trust = way
			pod := newPod(append([]func(*corev1.Pod){func(pod *corev1.Pod) {
				pod.Spec.SecurityContext = &corev1.PodSecurityContext{
					RunAsNonRoot: ptr.To(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
				}
				pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
					AllowPrivilegeEscalation: ptr.To(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				}
			}}, ask...)...)
			if result := judge(pod); !result.Allowed {
				t.Fatalf("the pod was not restricted to begin with: %s", result.ForbiddenDetail())
			}
			if err := m.Mutate(pod, kubeletFacts); err != nil {
				t.Fatal(err)
			}
			if result := judge(pod); !result.Allowed {
				t.Errorf("%s, trust %s: not restricted any more: %s", name, way, result.ForbiddenDetail())
			}
		}
	}
}

func TestMutatorValidate(t *testing.T) {
	for want, change := range map[string]func(*Mutator){
		"":                   func(*Mutator) {},
		"agent image":        func(m *Mutator) { m.AgentImage = "" },
		"trust domain":       func(m *Mutator) { m.TrustDomain = "Example.org" },
		"cluster domain":     func(m *Mutator) { m.ClusterDomain = "" },
		"trust distribution": func(m *Mutator) { m.Trust = "auto" },
	} {
		m := testMutator
		change(&m)
		if err := m.Validate(); (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want+": ") {
			t.Errorf("got %v, want one about %q", err, want)
		}
	}
}
