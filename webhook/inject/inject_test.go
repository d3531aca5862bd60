// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/trust/distribution"
	"github.com/certwright/certwright/webhook/annotation"
)

var injector = Injector{AgentImage: "example.com/agent:1", Trust: distribution.ClusterTrustBundle}

func parse(t *testing.T, annotations map[string]string) annotation.Ask {
	t.Helper()
	ask, err := annotation.Parse(annotations)
	if err != nil {
		t.Fatal(err)
	}
	return ask
}

// A group of files changes in volumes that outlive the pod; all others may have one.
func TestFSGroupProblem(t *testing.T) {
	kinds := reflect.TypeFor[corev1.VolumeSource]()
	harmless := map[string]bool{
		"HostPath": true, "EmptyDir": true, "Secret": true, "NFS": true, "DownwardAPI": true, "ConfigMap": true, "Projected": true, "Image": true,
	}
	for i := range kinds.NumField() {
		var source corev1.VolumeSource
		field := reflect.ValueOf(&source).Elem().Field(i)
		field.Set(reflect.New(field.Type().Elem()))
		name := kinds.Field(i).Name
		pod := &corev1.Pod{Spec: corev1.PodSpec{Volumes: []corev1.Volume{{Name: "x", VolumeSource: source}}}}
		if problem := fsGroupProblem(pod); (problem == "") != harmless[name] {
			t.Errorf("%s: %q", name, problem)
		}
		delete(harmless, name)
	}
	if len(harmless) > 0 {
		t.Errorf("unknown kinds of volumes: %v", harmless)
	}
	// A kind that the API may get in the future is not known to be harmless.
	if fsGroupProblem(&corev1.Pod{Spec: corev1.PodSpec{Volumes: []corev1.Volume{{Name: "x"}}}}) == "" {
		t.Error("a volume of a kind that is not known")
	}
}

func TestKeyProblem(t *testing.T) {
	five, six := &corev1.SecurityContext{RunAsUser: ptr.To[int64](5)}, &corev1.SecurityContext{RunAsUser: ptr.To[int64](6)}
	disk := []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}}}
	for name, test := range map[string]struct {
		context    *corev1.PodSecurityContext
		containers []*corev1.SecurityContext
		volumes    []corev1.Volume
		bad        bool
	}{
		"nothing":                        {nil, []*corev1.SecurityContext{nil}, nil, false},
		"a disk":                         {nil, []*corev1.SecurityContext{nil}, disk, true},
		"a disk of a group":              {&corev1.PodSecurityContext{FSGroup: ptr.To[int64](7)}, []*corev1.SecurityContext{nil}, disk, false},
		"a disk of one user":             {&corev1.PodSecurityContext{RunAsUser: ptr.To[int64](5)}, []*corev1.SecurityContext{nil, {}, five}, disk, false},
		"a disk of two users":            {&corev1.PodSecurityContext{RunAsUser: ptr.To[int64](5)}, []*corev1.SecurityContext{nil, six}, disk, true},
		"a disk of a user of containers": {nil, []*corev1.SecurityContext{five, five}, disk, true}, // one without a user may come to them
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{SecurityContext: test.context, Volumes: test.volumes}}
			for _, c := range test.containers {
				pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{SecurityContext: c})
			}
			if problem := KeyProblem(pod); (problem != "") != test.bad {
				t.Errorf("got %q", problem)
			}
		})
	}
}

// What the agent runs, nothing that runs beside it may write.
func TestReloadVolume(t *testing.T) {
	mounting := func(name string, mounts ...bool) corev1.Container {
		c := corev1.Container{Name: name, VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}}
		for _, readOnly := range mounts {
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "tools", MountPath: "/tools", ReadOnly: readOnly})
		}
		return c
	}
	restarted := func(policy corev1.ContainerRestartPolicy, c corev1.Container) corev1.Container {
		c.RestartPolicy = &policy
		return c
	}
	setup, web := mounting("setup", false), mounting("web", true)
	for name, test := range map[string]struct {
		init, containers []corev1.Container
		writers          []string
	}{
		"nobody else sees it":          {nil, []corev1.Container{mounting("web")}, nil},
		"read-only":                    {nil, []corev1.Container{web, mounting("side", true, true)}, nil},
		"who ends brings it":           {[]corev1.Container{setup}, []corev1.Container{web}, nil},
		"who ends, and is tried again": {[]corev1.Container{restarted("OnFailure", setup)}, []corev1.Container{web}, nil},
		"a sidecar that reads":         {[]corev1.Container{setup, restarted("Always", web)}, nil, nil},
		"a container":                  {[]corev1.Container{setup}, []corev1.Container{web, mounting("side", false)}, []string{"side"}},
		"a sidecar":                    {[]corev1.Container{restarted("Always", setup)}, []corev1.Container{web}, []string{"setup"}},
		"in one place of two":          {nil, []corev1.Container{mounting("web", true, false)}, []string{"web"}},
		"all":                          {[]corev1.Container{restarted("Always", setup)}, []corev1.Container{mounting("a", false), mounting("b", false)}, []string{"setup", "a", "b"}},
		"in the agent's name":          {[]corev1.Container{restarted("Always", mounting(AgentContainer, false))}, []corev1.Container{web}, nil}, // is replaced
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{InitContainers: test.init, Containers: test.containers, Volumes: []corev1.Volume{volumeOf("tools", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})}}}
			refusal := checkReloadVolume(pod, "tools")
			if len(refusal) != len(test.writers) {
				t.Fatalf("got %v, want one for each of %v", refusal, test.writers)
			}
			for i, writer := range test.writers {
				if !strings.HasPrefix(refusal[i], "annotation certwright.dev/reload-volume: container "+writer+" may write to volume tools ") {
					t.Errorf("got %s, want it to name %s", refusal[i], writer)
				}
			}
		})
	}
}

// Attacks: the application writes what the agent runs by another volume that is the same directory, whatever it calls that.
func TestReloadVolumeThatIsReachedOtherwise(t *testing.T) {
	claim := func(name string) corev1.VolumeSource {
		return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}
	}
	node := func(path string) corev1.VolumeSource {
		return corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path}}
	}
	share := func(server, path string) corev1.VolumeSource {
		return corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: server, Path: path}}
	}
	driver := corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "share.csi.example.com"}}
	ephemeral := corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{}}}
	empty := corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}
	for name, test := range map[string]struct {
		tools, other corev1.VolumeSource
		good         bool
	}{
		"one claim":                      {tools: claim("shared"), other: claim("shared")},
		"claims that may be one share":   {tools: claim("a"), other: claim("b")},
		"a path of the node":             {tools: node("/opt/tools"), other: node("/opt/tools")},
		"a path above":                   {tools: node("/opt/tools"), other: node("/opt")},
		"a path that may be a link":      {tools: node("/opt/tools"), other: node("/srv")},
		"a share":                        {tools: share("10.0.0.1", "/tools"), other: share("10.0.0.1", "/tools")},
		"a share by another address":     {tools: share("10.0.0.1", "/tools"), other: share("files.example.com", "/")},
		"inline CSI":                     {tools: driver, other: driver},
		"the claim of an ephemeral one":  {tools: ephemeral, other: claim("web-0-tools")},
		"of a kind from later":           {tools: corev1.VolumeSource{}, other: empty},
		"one claim, and nothing besides": {tools: claim("shared"), other: empty},
		"of its own":                     {tools: empty, other: empty, good: true},
		"an image":                       {tools: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "tools"}}, other: empty, good: true},
		"a ConfigMap":                    {tools: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}, other: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}, good: true},
		"a Secret":                       {tools: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{}}, other: empty, good: true},
		"projected":                      {tools: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{}}, other: empty, good: true},
		"of the downward API":            {tools: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{}}, other: empty, good: true},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{
				Volumes: []corev1.Volume{volumeOf("other", test.other), volumeOf("tools", test.tools)},
				Containers: []corev1.Container{{Name: "web", VolumeMounts: []corev1.VolumeMount{
					{Name: "tools", MountPath: "/tools", ReadOnly: true}, {Name: "other", MountPath: "/other", SubPath: "a"},
				}}},
			}}
			const want = "annotation certwright.dev/reload-volume: whoever reaches by another way what is in volume tools,"
			switch refusal := checkReloadVolume(pod, "tools"); {
			case test.good && refusal != nil:
				t.Errorf("refused: %v", refusal)
			case !test.good && (len(refusal) != 1 || !strings.HasPrefix(refusal[0], want)):
				t.Errorf("got %v, want one that begins with %s", refusal, want)
			}
		})
	}
}

func volumeOf(name string, source corev1.VolumeSource) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: source}
}

// Parts replace parts of another kind, in whatever order they come.
func TestPut(t *testing.T) {
	asks := map[string]annotation.Ask{
		"agent":   parse(t, map[string]string{annotation.AutoTLS: "a.b/c", annotation.Delivery: "agent", annotation.SPIFFESocket: "true"}),
		"init":    parse(t, map[string]string{annotation.AutoTLS: "a.b/c", annotation.Delivery: "init"}),
		"kubelet": parse(t, map[string]string{annotation.AutoTLS: "a.b/c", annotation.Delivery: "kubelet"}),
		"trust":   parse(t, map[string]string{annotation.Trust: "a.b/c", annotation.Delivery: "kubelet"}),
	}
	put := func(pod *corev1.Pod, name string) {
		t.Helper()
		ask := asks[name]
		parts := injector.Kubelet(pod, ask)
		if ask.Delivery != annotation.DeliveryKubelet {
			var config agent.Config
			Configure(&config, ask)
			var err error
			if parts, err = injector.Agent(pod, ask, config); err != nil {
				t.Fatal(err)
			}
		}
		parts.Put(pod)
	}
	volumes := map[string]string{
		"agent": "data certwright-tls certwright-trust certwright-token certwright-renew certwright-spiffe", "init": "data certwright-tls certwright-trust certwright-token",
		"kubelet": "data certwright-tls", "trust": "data certwright-tls",
	}
	containers := map[string]string{"agent": "certwright-agent setup", "init": "certwright-agent setup", "kubelet": "setup", "trust": "setup"}
	mounts := map[string]string{"agent": "data certwright-tls certwright-spiffe", "init": "data certwright-tls", "kubelet": "data certwright-tls", "trust": "data certwright-tls"}
	for first := range asks {
		for second := range asks {
			pod := &corev1.Pod{Spec: corev1.PodSpec{
				InitContainers: []corev1.Container{{Name: "setup", VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}}},
				Volumes:        []corev1.Volume{{Name: "data"}},
			}}
			put(pod, first)
			put(pod, second)
			var names [3][]string
			for _, v := range pod.Spec.Volumes {
				names[0] = append(names[0], v.Name)
			}
			for _, c := range pod.Spec.InitContainers {
				names[1] = append(names[1], c.Name)
			}
			for _, m := range pod.Spec.InitContainers[len(pod.Spec.InitContainers)-1].VolumeMounts {
				names[2] = append(names[2], m.Name)
			}
			for i, want := range []string{volumes[second], containers[second], mounts[second]} {
				if got := strings.Join(names[i], " "); got != want {
					t.Errorf("%s, then %s: %s, want %s", first, second, got, want)
				}
			}
		}
	}
}

// What the kubelet is to ask for is what the pod asks for, and no more.
func TestPodCertificate(t *testing.T) {
	for algorithm, keyType := range map[string]string{
		"ECDSA-P256": "ECDSAP256", "ECDSA-P384": "ECDSAP384", "ECDSA-P521": "ECDSAP521", "Ed25519": "ED25519", "RSA-3072": "RSA3072", "RSA-4096": "RSA4096",
	} {
		pod := &corev1.Pod{}
		injector.Kubelet(pod, parse(t, map[string]string{annotation.AutoTLS: "a.b/c", annotation.KeyAlgorithm: algorithm, annotation.Duration: "1h30m", annotation.URIs: ""})).Put(pod)
		sources := pod.Spec.Volumes[0].Projected.Sources
		want := corev1.PodCertificateProjection{
			SignerName: "a.b/c", KeyType: keyType, MaxExpirationSeconds: ptr.To[int32](5400), KeyPath: "tls.key", CertificateChainPath: "tls.crt",
			UserAnnotations: map[string]string{annotation.URIs: ""},
		}
		if got := *sources[0].PodCertificate; !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if bundle := sources[1].ClusterTrustBundle; len(sources) != 2 || *bundle.SignerName != "a.b/c" || bundle.Path != "ca.crt" || bundle.Optional != nil {
			t.Errorf("sources are %+v", sources)
		}
	}
}
