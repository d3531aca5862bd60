// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acme_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/event"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/judge"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/acme"
	"github.com/certwright/certwright/signer/acme/acmetest"
	"github.com/certwright/certwright/signer/acme/order"
	"github.com/certwright/certwright/signer/ca"
	"github.com/certwright/certwright/signer/issue"
	"github.com/certwright/certwright/signer/metrics"
	"github.com/certwright/certwright/signer/registry"
	"github.com/certwright/certwright/signer/signertest"
	"github.com/certwright/certwright/signer/status"
)

// permits permits everything.
type permits struct{}

func (permits) Decide(context.Context, csr.Request) (policy.Decision, error) {
	return policy.Decision{Verdict: policy.Permit}, nil
}

// published takes every trust bundle.
type published struct{}

func (published) Publish(context.Context, *v1alpha1.Signer, []*x509.Certificate) (string, []string, error) {
	return "here", nil, nil
}
func (published) Current(context.Context, string) ([]*x509.Certificate, error) { return nil, nil }

func (published) Withdraw(context.Context, string) error { return nil }

// controller runs the signer's reconciler as its manager does.
type controller struct {
	*acmetest.Cluster
	signer *issue.Reconciler
	queue  workqueue.TypedDelayingInterface[string]
	idle   sync.WaitGroup
}

func newController(t *testing.T, cluster *acmetest.Cluster, config v1alpha1.ACME, workers int) *controller {
	t.Helper()
	orders := order.NewBook(cluster.Client, cluster.Client, acmetest.Namespace, clock.RealClock{})
	m := metrics.New(prometheus.NewRegistry())
	signers := registry.New(cluster.Client, func(c signer.BackendConfig) (signer.Backend, error) {
		if c.Backend.CA != nil {
			return ca.New(ca.Options{
				Client: cluster.Client, Reader: cluster.Client, Namespace: acmetest.Namespace,
				Signer: c.Signer, SignerName: c.SignerName, Backend: c.Backend.Name, CA: *c.Backend.CA,
			})
		}
		return acme.New(acme.Options{
			Client: cluster.Client, Reader: cluster.Client, Namespace: acmetest.Namespace, Signer: c.Signer, Backend: c.Backend.Name,
			ACME: *c.Backend.ACME, Orders: orders, NewSolver: cluster.NewSolver,
		})
	}, clock.RealClock{}, m)
	limits := v1alpha1.Limits{MaxDuration: metav1.Duration{Duration: 24 * time.Hour}, Usages: tlsServer}
	for name, backend := range map[string]v1alpha1.Backend{
		"public": {Name: "pebble", ACME: &config, Timeout: metav1.Duration{Duration: 5 * time.Second}},
		"local":  {Name: "ca", CA: &v1alpha1.CA{Managed: &v1alpha1.ManagedCA{}}, Timeout: metav1.Duration{Duration: 5 * time.Second}},
	} {
		s := &v1alpha1.Signer{
			ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Generation: 1},
			Spec:       v1alpha1.SignerSpec{SignerName: "example.com/" + name, Backends: []v1alpha1.Backend{backend}, Limits: limits},
		}
		if err := cluster.Create(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	teller := event.Teller{Client: cluster.Client, Component: "certwright-signer", Instance: "test", Clock: clock.RealClock{}}
	looking := &status.Reconciler{Client: cluster.Client, Registry: signers, Publisher: published{}, Teller: teller, Metrics: m, Clock: clock.RealClock{}}
	for _, name := range []string{"public", "local"} {
		if _, err := looking.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
	c := &controller{Cluster: cluster, queue: workqueue.NewTypedDelayingQueue[string](), signer: &issue.Reconciler{
		Core:   issue.NewCore(signers, m, clock.RealClock{}),
		Client: cluster.Client, Judge: permits{}, Teller: teller,
	}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	for range workers {
		c.idle.Go(func() { c.work(ctx) })
	}
	t.Cleanup(func() { cancel(); c.queue.ShutDown(); c.idle.Wait() })
	return c
}

func (c *controller) work(ctx context.Context) {
	for {
		name, stop := c.queue.Get()
		if stop {
			return
		}
		var object certificatesv1.CertificateSigningRequest
		if err := c.Get(ctx, client.ObjectKey{Name: name}, &object); err == nil {
			result, err := c.signer.Reconcile(ctx, &object)
			if err != nil {
				result.RequeueAfter = time.Second
			}
			if result.RequeueAfter > 0 {
				c.queue.AddAfter(name, result.RequeueAfter)
			}
		}
		c.queue.Done(name)
	}
}

// ask makes an approved request.
func (c *controller) ask(t *testing.T, signerName, name, host string) {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{host}}, signertest.Key(t, "ECDSA-P256"))
	if err != nil {
		t.Fatal(err)
	}
	object := &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), CreationTimestamp: metav1.Now()},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			SignerName: signerName, Usages: tlsServer, Username: "system:serviceaccount:shop:web",
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
		},
		Status: certificatesv1.CertificateSigningRequestStatus{Conditions: []certificatesv1.CertificateSigningRequestCondition{
			{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Test"},
		}},
	}
	if err := c.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	c.queue.Add(name)
}

// issued returns how long it took until a request had its certificate.
func (c *controller) issued(t *testing.T, name string) time.Duration {
	t.Helper()
	began, tick := time.Now(), time.NewTicker(2*time.Millisecond)
	defer tick.Stop()
	for {
		var object certificatesv1.CertificateSigningRequest
		if err := c.Get(t.Context(), client.ObjectKey{Name: name}, &object); err != nil {
			t.Fatal(err)
		}
		if len(object.Status.Certificate) > 0 {
			return time.Since(began)
		}
		if time.Since(began) > patience {
			t.Fatalf("%s has no certificate after %s", name, patience)
		}
		<-tick.C
	}
}

// 200 orders whose validation takes half a minute each do not delay requests that a CA signs.
func TestPendingOrdersDelayNobody(t *testing.T) {
	cluster := acmetest.NewCluster(t, judge.Index)
	pebble := acmetest.StartPebble(t, acmetest.PebbleConfig{
		HTTPPort: cluster.HTTPPort(t), Env: []string{"PEBBLE_VA_NOSLEEP=0", "PEBBLE_VA_SLEEPTIME=60", "PEBBLE_AUTHZREUSE=0"},
	})
	c := newController(t, cluster, v1alpha1.ACME{Server: pebble.Server, AcceptTerms: true, Solvers: ingress()}, 64)
	measure := func(batch string) (p99 time.Duration) {
		var took []time.Duration
		for i := range 100 {
			name := fmt.Sprintf("%s-%d", batch, i)
			c.ask(t, "example.com/local", name, "web.shop.svc")
			took = append(took, c.issued(t, name))
		}
		slices.Sort(took)
		return took[98]
	}
	before := measure("before")
	for i := range 200 {
		c.ask(t, "example.com/public", fmt.Sprintf("public-%d", i), fmt.Sprintf("n%d.example.com", i))
	}
	for len(cluster.Orders(t)) < 200 {
		c.issued(t, "before-0") // pass a moment
	}
	during := measure("during")
	t.Logf("the 99th percentile of a request that a CA signs is %s, and %s while 200 orders wait", before, during)
	if during > time.Second {
		t.Errorf("the 99th percentile of a request that a CA signs is %s, and was %s without orders that wait", during, before)
	}
}
