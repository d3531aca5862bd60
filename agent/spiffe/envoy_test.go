// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package spiffe

import (
	"os"
	"strings"
	"testing"

	bootstrap "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	manager "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/certwright/certwright/agent/agenttest"
)

// exampleConfig is Envoy's configuration in the example.
func exampleConfig(t *testing.T) *bootstrap.Bootstrap {
	t.Helper()
	for _, document := range strings.Split(string(agenttest.Must(os.ReadFile("../../manifests/examples/apps/envoy.yaml"))(t)), "\n---\n") {
		var object corev1.ConfigMap
		if err := yaml.Unmarshal([]byte(document), &object); err != nil || object.Kind != "ConfigMap" {
			continue // objects of other kinds are the business of the tests of manifests
		}
		config := new(bootstrap.Bootstrap)
		if err := protojson.Unmarshal(agenttest.Must(yaml.YAMLToJSON([]byte(object.Data["envoy.yaml"])))(t), config); err != nil {
			t.Fatal(err)
		}
		return config
	}
	t.Fatal("there is no ConfigMap")
	return nil
}

// TestExampleOfEnvoyIsValid holds the example against the rules in Envoy's own
// types, those of the extensions included.
func TestExampleOfEnvoyIsValid(t *testing.T) {
	config := exampleConfig(t)
	if err := config.ValidateAll(); err != nil {
		t.Error(err)
	}
	seen := make(map[string]bool)
	extensions(t, config.ProtoReflect(), func(extension proto.Message) {
		seen[string(extension.ProtoReflect().Descriptor().Name())] = true
		if err := extension.(interface{ ValidateAll() error }).ValidateAll(); err != nil {
			t.Errorf("%T: %v", extension, err)
		}
	})
	for _, name := range []string{"HttpProtocolOptions", "DownstreamTlsContext", "HttpConnectionManager", "Router"} {
		if !seen[name] {
			t.Errorf("the example has no %s", name)
		}
	}
	clusters := config.GetStaticResources().GetClusters()
	if path := clusters[0].GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints()[0].GetEndpoint().GetAddress().GetPipe().GetPath(); path != "/run/certwright/spiffe/agent.sock" {
		t.Errorf("the first cluster is at %q", path)
	}
}

// extensions calls visit with each message that is packed into another.
func extensions(t *testing.T, message protoreflect.Message, visit func(proto.Message)) {
	t.Helper()
	if packed, ok := message.Interface().(*anypb.Any); ok {
		extension := agenttest.Must(packed.UnmarshalNew())(t)
		visit(extension)
		extensions(t, extension.ProtoReflect(), visit)
		return
	}
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap() && field.MapValue().Message() != nil:
			value.Map().Range(func(_ protoreflect.MapKey, value protoreflect.Value) bool {
				extensions(t, value.Message(), visit)
				return true
			})
		case field.IsList() && field.Message() != nil:
			for i := range value.List().Len() {
				extensions(t, value.List().Get(i).Message(), visit)
			}
		case !field.IsMap() && !field.IsList() && field.Message() != nil:
			extensions(t, value.Message(), visit)
		}
		return true
	})
}

// TestExampleOfEnvoyAsksForWhatThereIs asks for the secrets that the example names, in the example's words.
func TestExampleOfEnvoyAsksForWhatThereIs(t *testing.T) {
	r, ca := start(t), newAuthority(t)
	ca.issue(t, r.Server, leaf(cartID))
	var names []string
	var identities string
	extensions(t, exampleConfig(t).ProtoReflect(), func(extension proto.Message) {
		switch extension := extension.(type) {
		case *tlsv3.DownstreamTlsContext:
			common := extension.GetCommonTlsContext()
			names = append(names, common.GetTlsCertificateSdsSecretConfigs()[0].GetName())
			validation := common.GetCombinedValidationContext()
			names = append(names, validation.GetValidationContextSdsSecretConfig().GetName())
			identities = validation.GetDefaultValidationContext().GetMatchTypedSubjectAltNames()[0].GetMatcher().GetPrefix()
		case *manager.HttpConnectionManager:
			if extension.GetForwardClientCertDetails() != manager.HttpConnectionManager_SANITIZE_SET {
				t.Error("callers can say who they are in a header")
			}
		}
	})
	if len(names) != 2 || !strings.HasPrefix(cartID, identities) || !strings.HasSuffix(identities, "/") {
		t.Fatalf("names %q, callers %q", names, identities)
	}
	for _, name := range names {
		c := converse(t, r)
		c.send(&discovery.DiscoveryRequest{Node: node(), ResourceNames: []string{name}})
		if _, secrets := c.receive(); len(secrets) != 1 || secrets[name] == nil {
			t.Errorf("%q: got %v", name, secrets)
		}
	}
}
