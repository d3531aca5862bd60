// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	testingclock "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/event"
	"github.com/certwright/certwright/policy/judge"
)

const signerName = "example.com/internal"

// backend is a backend that does what its function says.
type backend func(req csr.Request) ([]*x509.Certificate, error)

func (b backend) Sign(_ context.Context, req csr.Request) ([]*x509.Certificate, error) { return b(req) }

// anchored is a backend that knows its trust anchors.
type anchored struct {
	backend
	anchors []*x509.Certificate
	err     error
}

func (a anchored) TrustAnchors(context.Context) ([]*x509.Certificate, error) { return a.anchors, a.err }

// honest signs what it is asked to.
func honest(req csr.Request) ([]*x509.Certificate, error) {
	return []*x509.Certificate{mint(req, intermediate, nil), intermediate.Certificate}, nil
}

// world is a signer with a real judge before a fake API server that notes every write.
type world struct {
	*Reconciler
	registry *prometheus.Registry
	clock    *testingclock.FakePassiveClock
	// backends are what the Signer's backends are, by name.
	backends map[string]Backend
	// writes are all that were made or tried, such as "patch status web" and "create Event".
	writes []string
	// patches are the bodies of those writes that are patches of a subresource.
	patches []string
	// tamper, if set, is called before each write of a subresource; its error takes the place of the write.
	tamper func(subresource string, o client.Object) error
	// readErr, if set, is asked before each read; its error takes the place of the read.
	readErr func(o runtime.Object) error
}

func newWorld(t testing.TB, objects ...client.Object) *world {
	t.Helper()
	w := &world{registry: prometheus.NewRegistry(), backends: map[string]Backend{
		"local": anchored{backend: honest, anchors: []*x509.Certificate{root.Certificate}},
	}}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&v1alpha1.Signer{}).
		WithIndex(&v1alpha1.CertificatePolicy{}, v1alpha1.IndexSignerName, func(o client.Object) []string {
			return o.(*v1alpha1.CertificatePolicy).Spec.SignerNames
		}).
		WithIndex(&v1alpha1.Signer{}, v1alpha1.IndexSignerName, func(o client.Object) []string {
			return []string{o.(*v1alpha1.Signer).Spec.SignerName}
		}).
		WithInterceptorFuncs(w.funcs()).Build()
	w.clock = testingclock.NewFakePassiveClock(now)
	metrics := NewMetrics(w.registry)
	w.Reconciler = &Reconciler{
		Client: c, Judge: judge.New(c, c, "cluster.local", "cluster.local"),
		Teller: event.Teller{Client: c, Component: "certwright-signer", Instance: "pod-0", Clock: w.clock},
		Core: &Core{Metrics: metrics, Clock: w.clock, Registry: NewRegistry(c, func(config BackendConfig) (Backend, error) {
			if b := w.backends[config.Backend.Name]; b != nil {
				return b, nil
			}
			return nil, fmt.Errorf("there is no backend %s", config.Backend.Name)
		}, w.clock, metrics)},
	}
	return w
}

// pass lets time pass.
func (w *world) pass(d time.Duration) { w.clock.SetTime(w.clock.Now().Add(d)) }

// member returns a backend of the Signer.
func (w *world) member(t *testing.T, name string) *member {
	t.Helper()
	s, err := w.Registry.Lookup(t.Context(), signerName)
	if err != nil || s == nil {
		t.Fatalf("looking up the Signer: %v, error %v", s, err)
	}
	i := slices.IndexFunc(s.members, func(m *member) bool { return m.name == name })
	if i < 0 {
		t.Fatalf("the Signer has no backend %s", name)
	}
	return s.members[i]
}

// publish has verifiers trust the anchors of those backends of the Signer that know them.
func (w *world) publish(t *testing.T) {
	t.Helper()
	s, err := w.Registry.Lookup(t.Context(), signerName)
	if err != nil || s == nil {
		return // there is nothing to publish
	}
	for _, m := range s.members {
		m.learn(t.Context())
		m.trust(m.recall().anchors)
	}
}

// funcs note the writes.
func (w *world) funcs() interceptor.Funcs {
	note := func(verb string, o client.Object) {
		w.writes = append(w.writes, fmt.Sprintf("%s %s", verb, o.GetName()))
	}
	read := func(o runtime.Object) error {
		if w.readErr == nil {
			return nil
		}
		return w.readErr(o)
	}
	return interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if err := read(o); err != nil {
				return err
			}
			return c.Get(ctx, key, o, opts...)
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if err := read(list); err != nil {
				return err
			}
			return c.List(ctx, list, opts...)
		},
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if err := c.Create(ctx, o, opts...); err != nil {
				return err
			}
			if _, ok := o.(*eventsv1.Event); ok {
				w.writes = append(w.writes, "create Event")
			}
			return nil
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			note("update", o)
			return c.Update(ctx, o, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			note("patch", o)
			return c.Patch(ctx, o, p, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			note("patch "+sub, o)
			if w.tamper != nil {
				if err := w.tamper(sub, o); err != nil {
					return err
				}
			}
			data, err := p.Data(o)
			if err != nil {
				return err
			}
			w.patches = append(w.patches, string(data))
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
		SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
			note("update "+sub, o)
			if w.tamper != nil {
				if err := w.tamper(sub, o); err != nil {
					return err
				}
			}
			return c.SubResource(sub).Update(ctx, o, opts...)
		},
	}
}

// reconcile reads the request, as the controller does, and reconciles it once the trust bundle is published.
func (w *world) reconcile(t *testing.T) (ctrl.Result, error) {
	t.Helper()
	w.publish(t)
	return w.Reconcile(t.Context(), w.stored(t))
}

func (w *world) stored(t *testing.T) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	var stored certificatesv1.CertificateSigningRequest
	if err := w.Client.Get(t.Context(), client.ObjectKey{Name: "web"}, &stored); err != nil {
		t.Fatal(err)
	}
	return &stored
}

// event returns the one event that was told.
func (w *world) event(t *testing.T) eventsv1.Event {
	t.Helper()
	var list eventsv1.EventList
	if err := w.Client.List(t.Context(), &list); err != nil || len(list.Items) != 1 {
		t.Fatalf("%d events, error %v, want one event", len(list.Items), err)
	}
	return list.Items[0]
}

// approved returns the request web, which asks for a name of every kind and is approved. The change is made before signing.
func approved(t testing.TB, change func(*x509.CertificateRequest)) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	spiffe, _ := url.Parse("spiffe://cluster.local/ns/shop/sa/web")
	template := &x509.CertificateRequest{
		Subject:        pkix.Name{CommonName: "web", Organization: []string{"shop"}},
		DNSNames:       []string{"web.example.com", "*.apps.example.com"},
		IPAddresses:    []net.IP{net.ParseIP("10.1.2.3").To4(), net.ParseIP("fd00::1")},
		URIs:           []*url.URL{spiffe},
		EmailAddresses: []string{"ops@example.com"},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, workloadKey)
	if err != nil {
		t.Fatal(err)
	}
	return &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "uid-1", CreationTimestamp: metav1.NewTime(now)},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			SignerName: signerName,
			Username:   "alice",
			Usages:     []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth},
		},
		Status: certificatesv1.CertificateSigningRequestStatus{Conditions: []certificatesv1.CertificateSigningRequestCondition{
			{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Test"},
		}},
	}
}

// newSigner returns the Signer of signerName with these backends.
func newSigner(backends ...string) *v1alpha1.Signer {
	s := &v1alpha1.Signer{
		ObjectMeta: metav1.ObjectMeta{Name: "internal", UID: "signer-1", Generation: 1, CreationTimestamp: metav1.NewTime(now)},
		Spec: v1alpha1.SignerSpec{SignerName: signerName, Limits: v1alpha1.Limits{
			Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth},
		}},
	}
	for _, name := range backends {
		s.Spec.Backends = append(s.Spec.Backends, v1alpha1.Backend{Name: name, CA: &v1alpha1.CA{Managed: &v1alpha1.ManagedCA{}}})
	}
	return s
}

// newPolicy returns a policy that lets alice have all that approved asks for.
func newPolicy() *v1alpha1.CertificatePolicy {
	return &v1alpha1.CertificatePolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "all", UID: "policy-1", Generation: 1},
		Spec: v1alpha1.CertificatePolicySpec{
			SignerNames: []string{signerName},
			Requesters:  v1alpha1.Requesters{Users: []string{"alice"}},
			Allow: v1alpha1.Allow{
				DNSNames:       []string{"*.example.com", "*.apps.example.com"},
				Wildcards:      true,
				URIs:           []string{"spiffe://{trustDomain}/ns/shop/sa/web"},
				IPAddresses:    []string{"10.0.0.0/8", "fd00::/8"},
				EmailAddresses: []string{"*@example.com"},
				CommonNames:    []string{"*"},
				Subject:        v1alpha1.Subject{Organizations: []string{"*"}},
				Usages: []certificatesv1.KeyUsage{
					certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth, certificatesv1.UsageCertSign,
				},
				Keys: []v1alpha1.Key{{Algorithm: v1alpha1.ECDSA}},
			},
		},
	}
}
