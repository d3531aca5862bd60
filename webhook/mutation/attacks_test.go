// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package mutation

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/webhook/annotation"
	"github.com/certwright/certwright/webhook/inject"
)

// What a pod holds under our names by hand is gone, whoever delivers: no container sees the agent's token, and what is said to come from us
// does.
func TestOurNamesAreOurs(t *testing.T) {
	names := []string{inject.TLSVolume, inject.SPIFFEVolume, inject.TrustVolume, inject.TokenVolume, inject.RenewVolume}
	byHand := func(pod *corev1.Pod) {
		pod.Annotations[annotation.DeliveredBy] = "kubelet, honestly"
		stolen := corev1.Container{Name: "thief", Image: "example.com/thief:1"}
		for _, name := range names {
			pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}})
			stolen.VolumeMounts = append(stolen.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: "/steal/" + name, SubPath: "x"})
		}
		fake := corev1.Container{
			Name: inject.AgentContainer, Image: "example.com/thief:1", Command: []string{"/steal"}, Args: []string{"x"}, WorkingDir: "/",
			Env:     []corev1.EnvVar{{Name: agent.ConfigEnv, Value: "mine"}, {Name: "GODEBUG", Value: "x"}},
			EnvFrom: []corev1.EnvFromSource{{Prefix: "X"}}, VolumeMounts: stolen.VolumeMounts,
			SecurityContext: &corev1.SecurityContext{Privileged: ptr.To(true)}, Lifecycle: &corev1.Lifecycle{},
		}
		pod.Spec.InitContainers = []corev1.Container{stolen, fake}
		pod.Spec.Containers = append(pod.Spec.Containers, stolen)
		pod.Spec.Containers[1].Name = "accomplice"
	}
	for name, c := range map[string]struct {
		cluster
		change func(*corev1.Pod)
		by     string
	}{
		"agent": {clusters[0], annotate(annotation.Containers, "web"), "agent"},
		"everything": {clusters[0], func(pod *corev1.Pod) {
			annotate(annotation.SPIFFESocket, "true")(pod)
			annotate(annotation.Containers, "web")(pod)
		}, "agent"},
		"init": {clusters[0], func(pod *corev1.Pod) {
			annotate(annotation.Delivery, "init")(pod)
			annotate(annotation.Containers, "web")(pod)
		}, "init"},
		"kubelet":      {clusters[1], annotate(annotation.Containers, "web"), "kubelet"},
		"trust":        {clusters[1], func(pod *corev1.Pod) { trustOnly("a.b/c")(pod); annotate(annotation.Containers, "web")(pod) }, "kubelet"},
		"trust, agent": {clusters[1], func(pod *corev1.Pod) { trustOnly("a.b/c,a.b/d")(pod); annotate(annotation.Containers, "web")(pod) }, "agent"},
	} {
		t.Run(name, func(t *testing.T) {
			honest, pod := newPod(c.change), newPod(c.change, byHand)
			if err := errors.Join(c.Mutate(honest, c.Facts), c.Mutate(pod, c.Facts)); err != nil {
				t.Fatal(err)
			}
			if by := pod.Annotations[annotation.DeliveredBy]; by != c.by {
				t.Errorf("delivered by %q", by)
			}
			for container := range inject.Workload(pod) {
				if container.Name != "web" && len(container.VolumeMounts) > 0 {
					t.Errorf("container %s mounts %v", container.Name, container.VolumeMounts)
				}
			}
			ours := func(pod *corev1.Pod) (volumes []corev1.Volume) {
				for _, volume := range pod.Spec.Volumes {
					if inject.IsOurVolume(volume.Name) {
						volumes = append(volumes, volume)
					}
				}
				slices.SortFunc(volumes, func(a, b corev1.Volume) int { return strings.Compare(a.Name, b.Name) })
				return volumes
			}
			assertSameJSON(t, ours(honest), ours(pod))
			agents := func(pod *corev1.Pod) []corev1.Container {
				return slices.DeleteFunc(slices.Clone(pod.Spec.InitContainers), func(c corev1.Container) bool { return c.Name != inject.AgentContainer })
			}
			assertSameJSON(t, append(agents(honest), honest.Spec.Containers[0]), append(agents(pod), pod.Spec.Containers[0]))
		})
	}
}

// A podCertificate volume that the pod brings itself is its own: the request that comes of it is judged as any other.
func TestOwnPodCertificateIsLeftAlone(t *testing.T) {
	own := corev1.Volume{Name: "own", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{
		PodCertificate: &corev1.PodCertificateProjection{SignerName: signer, KeyType: "ED25519", UserAnnotations: map[string]string{annotation.DNSNames: "*.example.com"}},
	}}}}}
	pod := newPod(func(pod *corev1.Pod) {
		pod.Spec.Volumes = []corev1.Volume{own}
		pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "own", MountPath: "/own"}}
	})
	if err := clusters[1].Mutate(pod, clusters[1].Facts); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(pod.Spec.Volumes[0], own) || len(pod.Spec.Volumes) != 2 || pod.Spec.Volumes[1].Projected.Sources[0].PodCertificate.UserAnnotations != nil {
		t.Errorf("volumes are %+v", pod.Spec.Volumes)
	}
}

func TestSharedProcesses(t *testing.T) {
	signal := annotate(annotation.ReloadSignal, "nginx=HUP")
	as := func(pod, first, second int64) func(*corev1.Pod) { // -1 is unknown
		return func(p *corev1.Pod) {
			set := func(user int64) *int64 {
				if user < 0 {
					return nil
				}
				return &user
			}
			p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: set(pod)}
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{RunAsUser: set(first)}
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "side", SecurityContext: &corev1.SecurityContext{RunAsUser: set(second)}})
		}
	}
	share := func(value bool) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.ShareProcessNamespace = &value }
	}
	const prefix = "annotation certwright.dev/reload-signal: "
	for name, test := range map[string]struct {
		changes []func(*corev1.Pod)
		user    int64
		want    string
	}{
		"user of the pod":             {[]func(*corev1.Pod){signal, as(5, -1, -1)}, 5, ""},
		"user of all containers":      {[]func(*corev1.Pod){signal, as(-1, 6, 6)}, 6, ""},
		"user of the one that counts": {[]func(*corev1.Pod){signal, as(5, 7, -1), annotate(annotation.Containers, "web")}, 7, ""},
		"root, if the pod says so":    {[]func(*corev1.Pod){signal, as(-1, 0, 0)}, 0, ""},
		"shared already":              {[]func(*corev1.Pod){signal, as(5, -1, -1), share(true)}, 5, ""},
		"unknown":                     {[]func(*corev1.Pod){signal, as(-1, -1, 5)}, 0, "the agent has to run as the user of the process, which is not known for container web: set its securityContext.runAsUser, or spec.securityContext.runAsUser"},
		"two users":                   {[]func(*corev1.Pod){signal, as(5, 6, -1)}, 0, "the agent has to run as the user of the process, and the containers that see the files run as users 6 and 5: give them one user, or list only those with the process in certwright.dev/containers"},
		"not shared":                  {[]func(*corev1.Pod){signal, as(5, -1, -1), share(false)}, 0, "needs a process namespace that the containers share: remove spec.shareProcessNamespace, or use another way to reload"},
		"the processes of the node":   {[]func(*corev1.Pod){signal, as(0, -1, -1), func(p *corev1.Pod) { p.Spec.HostPID = true }}, 0, "the processes of the node are no business of the agent: remove spec.hostPID, or use another way to reload"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(test.changes...)
			before := pod.DeepCopy()
			err := testMutator.Mutate(pod, shop)
			if test.want != "" {
				var refusal annotation.Refusal
				if !errors.As(err, &refusal) || len(refusal) != 1 || refusal[0] != prefix+test.want || !reflect.DeepEqual(pod, before) {
					t.Errorf("got  %v\nwant %s", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			context := pod.Spec.InitContainers[0].SecurityContext
			if share := pod.Spec.ShareProcessNamespace; share == nil || !*share || *context.RunAsUser != test.user || *context.RunAsNonRoot != (test.user != 0) {
				t.Errorf("shared %v, as %+v", share, context)
			}
			if *context.AllowPrivilegeEscalation || !*context.ReadOnlyRootFilesystem || context.Capabilities.Add != nil || *context.RunAsGroup != inject.SharedGroup {
				t.Errorf("the agent may %+v", context)
			}
		})
	}
	for name, change := range map[string]func(*corev1.Pod){
		"URL": annotate(annotation.ReloadURL, "http://localhost:1/"), "command": annotate(annotation.ReloadCommand, `["/x"]`), "socket": annotate(annotation.SPIFFESocket, "true"),
	} {
		pod := newPod(change)
		if err := testMutator.Mutate(pod, shop); err != nil || pod.Spec.ShareProcessNamespace != nil || *pod.Spec.InitContainers[0].SecurityContext.RunAsUser != 65532 {
			t.Errorf("%s: shares processes, or %v", name, err)
		}
	}
}

func TestVariables(t *testing.T) {
	pod := newPod(annotate(annotation.TrustEnv, "true"), annotate(annotation.SPIFFESocket, "true"), annotate(annotation.MountPath, "/$(HOME)/tls"),
		annotate(annotation.Containers, "web"), func(pod *corev1.Pod) {
			pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "SSL_CERT_FILE", Value: "/own"}, {Name: "SPIFFE_ENDPOINT_SOCKET", ValueFrom: &corev1.EnvVarSource{}}, {Name: agent.ConfigEnv, Value: "mine"}}
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "side"})
		})
	if err := testMutator.Mutate(pod, shop); err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for _, e := range pod.Spec.Containers[0].Env {
		if _, twice := values[e.Name]; twice {
			t.Errorf("%s is there twice", e.Name)
		}
		values[e.Name] = e.Value
	}
	for name, want := range map[string]string{
		"SSL_CERT_FILE": "/own", "SPIFFE_ENDPOINT_SOCKET": "", agent.ConfigEnv: "mine", // the container's own
		"CURL_CA_BUNDLE": "/$$(HOME)/tls/ca-bundle.crt", "NODE_EXTRA_CA_CERTS": "/$$(HOME)/tls/ca.crt", // which the kubelet does not expand
	} {
		if got, ok := values[name]; !ok || got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if pod.Spec.Containers[1].Env != nil {
		t.Errorf("a container that was not selected got %v", pod.Spec.Containers[1].Env)
	}
	if config := agentConfig(t, pod); !config.PublicRoots {
		t.Error("what replaces a program's roots lacks the public ones")
	}
}
