// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package manifests tests what is installed: that install.yaml and the examples mean something to Kubernetes, and that each
// component may do exactly what the design gives it.
package manifests

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/policy"
)

const (
	installFile = "install.yaml"
	namespace   = "certwright-system"
)

var components = []string{"approver", "signer", "webhook"}

// decode reads every document of a YAML file as the type that it says it is, and refuses fields that the type lacks.
func decode(t *testing.T, path string) []runtime.Object {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, v1alpha1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	var objects []runtime.Object
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			t.Fatalf("%s: document %d: %v", path, len(objects)+1, err)
		}
		objects = append(objects, object)
	}
}

// all returns the objects of type *T, by name; in two namespaces, one name is two objects.
func all[T any, P interface {
	*T
	metav1.Object
}](objects []runtime.Object) map[string]P {
	found := map[string]P{}
	for _, object := range objects {
		if typed, ok := object.(P); ok {
			found[strings.TrimPrefix(typed.GetNamespace()+"/"+typed.GetName(), "/")] = typed
		}
	}
	return found
}

func keys[V any](m map[string]V) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// TestExamplesDecode: every example means something to Kubernetes, and every policy among them to the approver.
func TestExamplesDecode(t *testing.T) {
	var paths []string
	for _, pattern := range []string{"examples/*.yaml", "examples/policies/*/policy.yaml", "examples/signers/*.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("no examples found by %s: %v", pattern, err)
		}
		paths = append(paths, found...)
	}
	// Alerts are for the Prometheus Operator: hack/alerts tests what they mean to Prometheus.
	paths = slices.DeleteFunc(paths, func(path string) bool { return path == "examples/alerts.yaml" })
	names := map[string]string{}
	for _, path := range paths {
		t.Run(path, func(t *testing.T) {
			objects := decode(t, path)
			if len(objects) == 0 {
				t.Error("no objects")
			}
			for name, p := range all[v1alpha1.CertificatePolicy](objects) {
				if _, err := policy.Compile(p); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if names[name] != "" {
					t.Errorf("%s is the name of a policy in %s too: applying both would leave one", name, names[name])
				}
				names[name] = path
			}
		})
	}
}

func TestExamplePodsAreRestricted(t *testing.T) {
	deployments := all[appsv1.Deployment](decode(t, "examples/web-server.yaml"))
	if len(deployments) != 2 {
		t.Fatalf("deployments: %v, want a server and a client", keys(deployments))
	}
	for name, deployment := range deployments {
		checkRestricted(t, name, deployment.Spec.Template.Spec)
		if got := deployment.Spec.Template.Annotations; len(got) != 1 || got["certwright.dev/auto-tls"] != "certwright.dev/internal" {
			t.Errorf("%s: annotations %v, want the one that asks for a certificate", name, got)
		}
	}
}

func TestCustomResourceDefinitions(t *testing.T) {
	got := keys(all[apiextensionsv1.CustomResourceDefinition](decode(t, installFile)))
	want := []string{"certificatepolicies.certwright.dev", "signers.certwright.dev"}
	if !slices.Equal(got, want) {
		t.Errorf("CRDs %v, want %v", got, want)
	}
}

func TestNamespaceIsRestricted(t *testing.T) {
	ns := all[corev1.Namespace](decode(t, installFile))[namespace]
	if ns == nil {
		t.Fatalf("no namespace %s", namespace)
	}
	for _, mode := range []string{"enforce", "audit", "warn"} {
		if got := ns.Labels["pod-security.kubernetes.io/"+mode]; got != "restricted" {
			t.Errorf("%s: %q, want restricted", mode, got)
		}
	}
}

func TestDeployments(t *testing.T) {
	objects := decode(t, installFile)
	deployments := all[appsv1.Deployment](objects)
	budgets := all[policyv1.PodDisruptionBudget](objects)
	services := all[corev1.Service](objects)
	config := all[corev1.ConfigMap](objects)[namespace+"/certwright"]
	if len(deployments) != len(components) {
		t.Fatalf("deployments %v, want one for each of %v", keys(deployments), components)
	}
	for _, component := range components {
		t.Run(component, func(t *testing.T) {
			name := namespace + "/certwright-" + component
			deployment, budget, service := deployments[name], budgets[name], services[name]
			if deployment == nil || budget == nil || service == nil {
				t.Fatalf("deployment %t, disruption budget %t, service %t, want all", deployment != nil, budget != nil, service != nil)
			}
			spec := deployment.Spec.Template.Spec
			if deployment.Spec.Replicas == nil || *deployment.Spec.Replicas != 2 {
				t.Errorf("replicas %v, want 2", deployment.Spec.Replicas)
			}
			if spec.ServiceAccountName != "certwright-"+component {
				t.Errorf("service account %q", spec.ServiceAccountName)
			}
			if spec.Containers[0].Args[0] != component {
				t.Errorf("subcommand %q, want %q", spec.Containers[0].Args[0], component)
			}
			pods := labels.Set(deployment.Spec.Template.Labels)
			selectors := []*metav1.LabelSelector{deployment.Spec.Selector, budget.Spec.Selector, {MatchLabels: service.Spec.Selector}}
			for _, spread := range spec.TopologySpreadConstraints {
				selectors = append(selectors, spread.LabelSelector)
			}
			for i, s := range selectors {
				selector, err := metav1.LabelSelectorAsSelector(s)
				if err != nil {
					t.Fatal(err)
				}
				if !selector.Matches(pods) {
					t.Errorf("selector %d (%s) does not select the pods (%s)", i, selector, pods)
				}
				for other, deployment := range deployments {
					if other != name && selector.Matches(labels.Set(deployment.Spec.Template.Labels)) {
						t.Errorf("selector %d (%s) also selects the pods of %s", i, selector, other)
					}
				}
			}
			checkRestricted(t, component, spec)
			checkContainer(t, spec.Containers[0], config, service)
		})
	}
}

// checkContainer looks for what a container needs to be run: probes, resources, and only references that lead somewhere.
func checkContainer(t *testing.T, container corev1.Container, config *corev1.ConfigMap, service *corev1.Service) {
	t.Helper()
	if container.LivenessProbe == nil || container.ReadinessProbe == nil {
		t.Error("probes are missing")
	}
	for _, resource := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		request, limit := container.Resources.Requests[resource], container.Resources.Limits[resource]
		if request.IsZero() || limit.IsZero() {
			t.Errorf("no request or no limit for %s", resource)
		}
	}
	limit := slices.IndexFunc(container.Env, func(e corev1.EnvVar) bool { return e.Name == "GOMEMLIMIT" })
	if limit < 0 || container.Env[limit].ValueFrom.ResourceFieldRef.Resource != "limits.memory" {
		t.Error("GOMEMLIMIT is not the container's limit of memory")
	}
	used := strings.Join(container.Args, " ")
	for _, variable := range container.Env {
		if ref := variable.ValueFrom.ConfigMapKeyRef; ref != nil {
			if _, ok := config.Data[ref.Key]; !ok || ref.Name != config.Name {
				t.Errorf("%s: ConfigMap %s has no key %s", variable.Name, ref.Name, ref.Key)
			}
		}
		used = strings.ReplaceAll(used, "$("+variable.Name+")", "")
	}
	if strings.Contains(used, "$(") {
		t.Errorf("args use an undefined variable: %s", used)
	}
	for _, port := range service.Spec.Ports {
		if !slices.ContainsFunc(container.Ports, func(p corev1.ContainerPort) bool { return p.Name == port.TargetPort.String() }) {
			t.Errorf("service port %s leads to no port of the container", port.Name)
		}
	}
}

// checkRestricted holds a pod to the restricted Pod Security Standard, and to a root file system that nobody writes.
func checkRestricted(t *testing.T, name string, spec corev1.PodSpec) {
	t.Helper()
	pod := spec.SecurityContext
	switch {
	case pod == nil || pod.RunAsNonRoot == nil || !*pod.RunAsNonRoot || pod.RunAsUser == nil || *pod.RunAsUser != 65532:
		t.Errorf("%s: must run as user 65532, not as root", name)
	case pod.SeccompProfile == nil || pod.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault:
		t.Errorf("%s: seccomp profile must be RuntimeDefault", name)
	case spec.HostNetwork || spec.HostPID || spec.HostIPC:
		t.Errorf("%s: must share nothing with the host", name)
	case len(spec.Volumes) > 0 && name != "signer":
		t.Errorf("%s: must mount nothing", name)
	}
	for _, container := range slices.Concat(spec.InitContainers, spec.Containers) {
		c := container.SecurityContext
		if c == nil || c.AllowPrivilegeEscalation == nil || *c.AllowPrivilegeEscalation ||
			c.ReadOnlyRootFilesystem == nil || !*c.ReadOnlyRootFilesystem || c.Privileged != nil ||
			c.Capabilities == nil || !slices.Equal(c.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(c.Capabilities.Add) > 0 {
			t.Errorf("%s: container %s is not restricted: %+v", name, container.Name, c)
		}
	}
}
