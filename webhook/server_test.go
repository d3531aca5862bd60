// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/certwright/certwright/trust/distribution"
	"github.com/certwright/certwright/webhook/mutation"
)

var testMutator = mutation.Mutator{
	AgentImage: "certwright/certwright-agent:v1", TrustDomain: "cluster.local", ClusterDomain: "cluster.local", Trust: distribution.ClusterTrustBundle,
}

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

// installation is a cluster with what the manifests install, where replicas of the webhook run.
type installation struct {
	client.Client
	t     *testing.T
	clock *clocktesting.FakeClock
}

func newInstallation(t *testing.T) *installation {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), admissionregistrationv1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	return &installation{t: t, clock: clocktesting.NewFakeClock(time.Now()), Client: fake.NewClientBuilder().WithScheme(scheme).WithObjects(
		&admissionregistrationv1.MutatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: ConfigurationName},
			Webhooks:   []admissionregistrationv1.MutatingWebhook{{Name: "pods.certwright.dev"}},
		},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "certwright-system", Name: SecretName}},
	).Build()}
}

// replica is a running webhook.
type replica struct {
	address, health string
	// stop tells it to stop, as SIGTERM does; done yields what Run returned.
	stop func()
	done chan error
}

func (c *installation) run() *replica {
	c.t.Helper()
	ports := freePorts(c.t, 2)
	r := &replica{address: fmt.Sprintf("127.0.0.1:%d", ports[0]), health: fmt.Sprintf("127.0.0.1:%d", ports[1]), done: make(chan error, 1)}
	server, err := newServer(&rest.Config{Host: "127.0.0.1:1"}, c, Options{
		Mutator: testMutator, Namespace: "certwright-system", Host: "127.0.0.1", Port: ports[0],
		MetricsBindAddress: "0", HealthProbeBindAddress: r.health,
		Validators: map[string]admission.Handler{"/validate": admission.HandlerFunc(func(context.Context, admission.Request) admission.Response {
			return admission.Denied("a validator's word")
		})},
		Registerer: prometheus.NewRegistry(), Clock: c.clock, Logger: logr.Discard(),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go func() { r.done <- server.Run(ctx) }()
	if err := wait.PollUntilContextTimeout(c.t.Context(), 10*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
		return r.ready(), nil
	}); err != nil {
		c.t.Fatalf("waiting to be ready: %v", err)
	}
	return r
}

func (r *replica) ready() bool {
	answer, err := http.Get("http://" + r.health + "/readyz")
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// finish has a replica end that was told to stop.
func (c *installation) finish(r *replica) {
	c.t.Helper()
	r.stop()
	if err := wait.PollUntilContextTimeout(context.Background(), time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
		return !r.ready(), nil
	}); err != nil {
		c.t.Fatalf("waiting for the end: %v", err)
	}
	c.clock.Step(drain)
	if err := <-r.done; err != nil {
		c.t.Errorf("running: %v", err)
	}
}

// apiServer calls webhooks as API servers do: by HTTP/1.1, on connections that it keeps, made by dial.
func (c *installation) apiServer(dial func() string) *http.Client {
	c.t.Helper()
	var config admissionregistrationv1.MutatingWebhookConfiguration
	if err := c.Get(c.t.Context(), types.NamespacedName{Name: ConfigurationName}, &config); err != nil {
		c.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(config.Webhooks[0].ClientConfig.CABundle)
	transport := &http.Transport{
		MaxIdleConnsPerHost: 25,
		TLSClientConfig:     &tls.Config{RootCAs: roots, ServerName: "certwright-webhook.certwright-system.svc"},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, dial())
		},
	}
	c.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// call sends a review to a path and wants an answer that holds some text.
func call(apiServer *http.Client, path string, review []byte, want string) error {
	answer, err := apiServer.Post("https://certwright-webhook.certwright-system.svc"+path, "application/json", bytes.NewReader(review))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && !strings.Contains(string(text), want) {
		err = fmt.Errorf("got %s, want %s", text, want)
	}
	return err
}

// admit sends a pod and wants it changed.
func admit(apiServer *http.Client, review []byte) error {
	return call(apiServer, Path, review, `"patchType":"JSONPatch"`)
}

// review is the request for a pod that asks for a certificate.
func review(t *testing.T) []byte {
	t.Helper()
	const pod = `{"apiVersion":"v1","kind":"Pod","metadata":{"annotations":{"certwright.dev/auto-tls":"example.com/internal"}},"spec":{"containers":[{"name":"web"}]}}`
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "4711", Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"}, Namespace: "shop",
			Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: []byte(pod)},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// The whole process: it makes its certificate, gets trusted, becomes ready and
// answers over TLS, by the name under which the API server calls it.
func TestRun(t *testing.T) {
	c := newInstallation(t)
	r := c.run()
	defer c.finish(r)
	apiServer := c.apiServer(func() string { return r.address })
	if err := admit(apiServer, review(t)); err != nil {
		t.Error(err)
	}
	if err := call(apiServer, "/validate", review(t), "a validator's word"); err != nil {
		t.Error(err)
	}
	if err := call(apiServer, Path+"?"+strings.Repeat("x", 64<<10), nil, "431 Request Header Fields Too Large"); err != nil {
		t.Errorf("the gate does not guard the listener: %v", err)
	}
}

// One of two replicas ends under load, from an API server that keeps its connections and learns from the readiness of the
// replica where to make new ones: no request is lost.
func TestStopLosesNothing(t *testing.T) {
	c := newInstallation(t)
	leaving, staying := c.run(), c.run()
	apiServer := c.apiServer(func() string {
		if leaving.ready() {
			return leaving.address
		}
		return staying.address
	})
	body := review(t)
	group, running := errgroup.WithContext(t.Context())
	loading, enough := context.WithCancel(running)
	var answered atomic.Int64
	for range 8 {
		group.Go(func() error {
			for loading.Err() == nil {
				if err := admit(apiServer, body); err != nil {
					return fmt.Errorf("after %d answers: %w", answered.Load(), err)
				}
				answered.Add(1)
			}
			return nil
		})
	}
	load := func() { // goes on for a while
		until := answered.Load() + 500
		_ = wait.PollUntilContextCancel(running, time.Millisecond, true, func(context.Context) (bool, error) {
			return answered.Load() >= until, nil
		})
	}
	load()
	leaving.stop()
	load()
	c.finish(leaving)
	load()
	enough()
	if err := group.Wait(); err != nil {
		t.Errorf("lost: %v", err)
	}
	c.finish(staying)
}

func TestNewNeedsANamespace(t *testing.T) {
	if _, err := New(&rest.Config{}, Options{Mutator: testMutator}); err == nil || !strings.Contains(err.Error(), "namespace") {
		t.Errorf("got %v, want an error about the namespace", err)
	}
}
