// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fleettest has a small cluster for tests: pods of every kind that Certwright brings certificates to, in shop.yaml.
package fleettest

import (
	"bufio"
	"bytes"
	_ "embed"
	"errors"
	"io"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/certwright/certwright/api/v1alpha1"
)

// Now is the time at which the cluster is looked at.
var Now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

//go:embed shop.yaml
var shop []byte

// Scheme has the kinds that the plugin uses.
func Scheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, certificatesv1.AddToScheme, certificatesv1beta1.AddToScheme, authenticationv1.AddToScheme, v1alpha1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return scheme
}

// Objects returns those of shop.yaml.
func Objects(t *testing.T) []client.Object {
	t.Helper()
	decoder := serializer.NewCodecFactory(Scheme(t), serializer.EnableStrict).UniversalDeserializer()
	var objects []client.Object
	for reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(shop))); ; {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		objects = append(objects, object.(client.Object))
	}
}

// NewClient returns a client for the cluster of shop.yaml with more objects in it.
func NewClient(t *testing.T, funcs interceptor.Funcs, more ...client.Object) client.WithWatch {
	t.Helper()
	return fake.NewClientBuilder().WithScheme(Scheme(t)).WithObjects(append(Objects(t), more...)...).WithInterceptorFuncs(funcs).
		WithIndex(&v1alpha1.Signer{}, "metadata.name", func(o client.Object) []string { return []string{o.GetName()} }).Build()
}
