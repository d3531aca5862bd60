// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

// freePorts finds ports that nobody uses.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	ports := make([]int, n)
	for i := range ports {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close() // all at once, so that they differ
		ports[i] = listener.Addr().(*net.TCPAddr).Port
	}
	return ports
}

// The whole process: it makes its certificate, gets trusted, becomes ready and
// answers over TLS, by the name under which the API server calls it.
func TestRun(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := admissionregistrationv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	config := &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: ConfigurationName},
		Webhooks:   []admissionregistrationv1.MutatingWebhook{{Name: "pods.certwright.dev"}},
	}
	cluster := fake.NewClientBuilder().WithScheme(scheme).WithObjects(config).Build()
	ports := freePorts(t, 2)
	server, err := newServer(&rest.Config{Host: "127.0.0.1:1"}, cluster, Options{
		Mutator: testMutator, Namespace: "certwright-system", Host: "127.0.0.1", Port: ports[0],
		MetricsBindAddress: "0", HealthProbeBindAddress: fmt.Sprintf("127.0.0.1:%d", ports[1]),
		Registerer: prometheus.NewRegistry(), Clock: clock.RealClock{}, Logger: testr.New(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("running: %v", err)
		}
	}()
	ready := fmt.Sprintf("http://127.0.0.1:%d/readyz", ports[1])
	if err := wait.PollUntilContextTimeout(ctx, 10*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
		answer, err := http.Get(ready)
		if err != nil {
			return false, nil
		}
		defer answer.Body.Close()
		return answer.StatusCode == http.StatusOK, nil
	}); err != nil {
		t.Fatalf("waiting to be ready: %v", err)
	}

	if err := cluster.Get(ctx, client.ObjectKeyFromObject(config), config); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(config.Webhooks[0].ClientConfig.CABundle)
	apiServer := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs: roots, ServerName: "certwright-webhook.certwright-system.svc",
	}}}
	defer apiServer.CloseIdleConnections()
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request:  request(encodePod(t, newPod())),
	})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := apiServer.Post(fmt.Sprintf("https://127.0.0.1:%d%s", ports[0], Path), "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); err != nil || !strings.Contains(string(text), `"patchType":"JSONPatch"`) {
		t.Errorf("got %s, %v", text, err)
	}
}

func TestNewNeedsANamespace(t *testing.T) {
	if _, err := New(&rest.Config{}, Options{Mutator: testMutator}); err == nil || !strings.Contains(err.Error(), "namespace") {
		t.Errorf("got %v, want an error about the namespace", err)
	}
}
