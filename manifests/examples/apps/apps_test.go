// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package apps tests that the example applications mean something to Kubernetes, to Certwright and, where it can be known here, to the
// applications.
package apps

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"

	"github.com/certwright/certwright/webhook/annotation"
)

func manifests(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	folders, err := filepath.Glob("*/app.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 || len(folders) == 0 {
		t.Fatal("no examples")
	}
	return append(files, folders...)
}

// decode reads all objects of a manifest, and refuses fields that Kubernetes does not know.
func decode(t *testing.T, file string) []runtime.Object {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	var objects []runtime.Object
	for reader := utilyaml.NewYAMLReader(bufio.NewReader(f)); ; {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		objects = append(objects, object)
	}
}

// find returns the only object of a type.
func find[T runtime.Object](objects []runtime.Object) (found T, count int) {
	for _, o := range objects {
		if typed, ok := o.(T); ok {
			found, count = typed, count+1
		}
	}
	return found, count
}

// template returns the pods that an example makes.
func template(t *testing.T, objects []runtime.Object) corev1.PodTemplateSpec {
	t.Helper()
	if d, count := find[*appsv1.Deployment](objects); count == 1 {
		return d.Spec.Template
	}
	s, count := find[*appsv1.StatefulSet](objects)
	if count != 1 {
		t.Fatal("it has neither one Deployment nor one StatefulSet")
	}
	return s.Spec.Template
}

// Each example asks for a certificate in words that the webhook takes, has a Service that gives it its name, and runs where the restricted
// standard for pods is enforced.
func TestExamples(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for _, file := range manifests(t) {
		t.Run(file, func(t *testing.T) {
			objects := decode(t, file)
			pod := template(t, objects)
			ask, err := annotation.Parse(pod.Annotations)
			if err != nil || ask.SignerName != "certwright.dev/internal" {
				t.Errorf("it asks %q: %v", ask.SignerName, err)
			}
			for _, name := range ask.Containers {
				if !slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == name }) {
					t.Errorf("there is no container %s", name)
				}
			}
			service, count := find[*corev1.Service](objects)
			if count != 1 || len(service.Spec.Selector) != 1 || pod.Labels["app"] != service.Spec.Selector["app"] {
				t.Error("its Service does not select it")
			}
			if slices.IndexFunc(objects, isService) > slices.IndexFunc(objects, isWorkload) {
				t.Error("its Service comes after it: the certificate would not have its name")
			}
			for _, result := range evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec) {
				if !result.Allowed {
					t.Errorf("the restricted standard refuses it: %s: %s", result.ForbiddenReason, result.ForbiddenDetail)
				}
			}
		})
	}
}

func isService(o runtime.Object) bool { _, ok := o.(*corev1.Service); return ok }

func isWorkload(o runtime.Object) bool {
	switch o.(type) {
	case *appsv1.Deployment, *appsv1.StatefulSet:
		return true
	}
	return false
}

// The source of a program comes in the ConfigMap that its pod mounts, under the name that its command has.
func TestSources(t *testing.T) {
	for _, file := range manifests(t) {
		folder := filepath.Dir(file)
		if folder == "." {
			continue
		}
		text, err := os.ReadFile(filepath.Join(folder, "kustomization.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var k struct {
			APIVersion         string
			Kind               string
			Resources          []string
			ConfigMapGenerator []struct {
				Name  string
				Files []string
			}
		}
		if err := yaml.UnmarshalStrict(text, &k); err != nil {
			t.Fatalf("%s: %v", folder, err)
		}
		if !slices.Equal(k.Resources, []string{"app.yaml"}) || len(k.ConfigMapGenerator) != 1 || len(k.ConfigMapGenerator[0].Files) != 1 {
			t.Fatalf("%s: got %+v", folder, k)
		}
		source := k.ConfigMapGenerator[0].Files[0]
		if _, err := os.Stat(filepath.Join(folder, source)); err != nil {
			t.Error(err)
		}
		pod := template(t, decode(t, file))
		if !slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
			return v.ConfigMap != nil && v.ConfigMap.Name == k.ConfigMapGenerator[0].Name
		}) ||
			!slices.Contains(pod.Spec.Containers[0].Command, "/app/"+source) {
			t.Errorf("%s: the pod does not run %s of the ConfigMap %s", folder, source, k.ConfigMapGenerator[0].Name)
		}
	}
}

// What Envoy reads is what its API knows, and by its own rules. Its other example is tested with the agent's socket.
func TestEnvoy(t *testing.T) {
	config, count := find[*corev1.ConfigMap](decode(t, "envoy-files.yaml"))
	if count != 1 {
		t.Fatal("no ConfigMap")
	}
	bootstrap := &bootstrapv3.Bootstrap{}
	parse(t, config.Data["envoy.yaml"], bootstrap)
	if err := bootstrap.ValidateAll(); err != nil {
		t.Error(err)
	}
	socket := &tlsv3.DownstreamTlsContext{}
	if err := bootstrap.StaticResources.Listeners[0].FilterChains[0].TransportSocket.GetTypedConfig().UnmarshalTo(socket); err != nil {
		t.Fatal(err)
	}
	if err := socket.ValidateAll(); err != nil {
		t.Error(err)
	}
	common := socket.CommonTlsContext
	certificate, trust := common.TlsCertificateSdsSecretConfigs[0], common.GetValidationContextSdsSecretConfig()
	for file, wanted := range map[string]*tlsv3.SdsSecretConfig{"certificate.yaml": certificate, "trust.yaml": trust} {
		secrets := &discoveryv3.DiscoveryResponse{}
		parse(t, config.Data[file], secrets)
		secret := &tlsv3.Secret{}
		if err := secrets.Resources[0].UnmarshalTo(secret); err != nil {
			t.Fatal(err)
		}
		if err := secret.ValidateAll(); err != nil {
			t.Error(err)
		}
		if path := wanted.SdsConfig.GetPathConfigSource().Path; path != "/etc/envoy-app/"+file || wanted.Name != secret.Name {
			t.Errorf("%s: Envoy looks for %s in %s, and there is %s", file, wanted.Name, path, secret.Name)
		}
		watched := secret.GetTlsCertificate().GetWatchedDirectory().GetPath() + secret.GetValidationContext().GetWatchedDirectory().GetPath()
		if watched != annotation.DefaultMountPath {
			t.Errorf("%s: Envoy watches %q", file, watched)
		}
	}
}

func parse(t *testing.T, text string, into proto.Message) {
	t.Helper()
	json, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(json, into); err != nil {
		t.Fatal(err)
	}
}

// The files are where the webhook puts them.
func TestPaths(t *testing.T) {
	sources, err := filepath.Glob("*/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(manifests(t), sources...) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, part := range strings.Split(string(text), "/var/run/secrets/certwright.dev/") {
			if i > 0 && !strings.HasPrefix("/var/run/secrets/certwright.dev/"+part, annotation.DefaultMountPath) {
				t.Errorf("%s: another path than %s", file, annotation.DefaultMountPath)
			}
		}
	}
}
