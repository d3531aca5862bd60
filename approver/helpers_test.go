// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package approver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	testingclock "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/event"
	"github.com/certwright/certwright/policy/judge"
)

const signerName = "example.com/internal"

var now = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// builderIndex lets indices be added to a fake client.
type builderIndex struct{ *fake.ClientBuilder }

func (b builderIndex) IndexField(_ context.Context, o client.Object, field string, values client.IndexerFunc) error {
	b.WithIndex(o, field, values)
	return nil
}

// world is an approver with a real judge before a fake API server that notes every write.
type world struct {
	*Reconciler
	registry *prometheus.Registry
	clock    *testingclock.FakePassiveClock
	// writes are all that were tried, such as "patch approval web" and "create Event".
	writes []string
	// tamper, if set, is called before each write of a subresource; its error takes the place of the write.
	tamper func(subresource string, o client.Object) error
	// readErr, if set, is asked before each read; its error takes the place of the read.
	readErr func(o runtime.Object) error
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	w := &world{registry: prometheus.NewRegistry()}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&v1alpha1.CertificatePolicy{})
	if err := errors.Join(judge.Index(t.Context(), builderIndex{builder}), index(t.Context(), builderIndex{builder})); err != nil {
		t.Fatal(err)
	}
	c := builder.WithInterceptorFuncs(w.funcs()).Build()
	w.clock = testingclock.NewFakePassiveClock(now)
	w.Reconciler = New(Config{
		Client: c, Live: c, Judge: judge.New(c, c, "cluster.local", "cluster.local"), Audits: NewAudits(w.clock), Metrics: NewMetrics(w.registry), Clock: w.clock,
		Teller: event.Teller{Client: c, Component: "certwright-approver", Instance: "pod-0", Clock: w.clock},
	})
	return w
}

// funcs note the writes.
func (w *world) funcs() interceptor.Funcs {
	note := func(verb string, o client.Object) {
		w.writes = append(w.writes, fmt.Sprintf("%s %s", verb, o.GetName()))
	}
	return interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if w.readErr != nil {
				if err := w.readErr(o); err != nil {
					return err
				}
			}
			return c.Get(ctx, key, o, opts...)
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if w.readErr != nil {
				if err := w.readErr(list); err != nil {
					return err
				}
			}
			return c.List(ctx, list, opts...)
		},
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if err := c.Create(ctx, o, opts...); err != nil {
				return err
			}
			if _, ok := o.(*eventsv1.Event); ok {
				w.writes = append(w.writes, "create Event")
			} else {
				note("create", o)
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
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			note("delete", o)
			return c.Delete(ctx, o, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			note("patch "+sub, o)
			if w.tamper != nil {
				if err := w.tamper(sub, o); err != nil {
					return err
				}
			}
			if sub == "approval" {
				sub = "status" // the fake API server knows no other subresource that has the conditions
			}
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

func conflict(o client.Object) error {
	return apierrors.NewConflict(schema.GroupResource{Group: "certificates.k8s.io", Resource: "certificatesigningrequests"}, o.GetName(), fmt.Errorf("changed"))
}

// reconcile reads the request, as the controller does, and reconciles it.
func (w *world) reconcile(t *testing.T, name string) (ctrl.Result, error) {
	t.Helper()
	return w.Reconcile(t.Context(), w.stored(t, name))
}

func (w *world) stored(t *testing.T, name string) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	var stored certificatesv1.CertificateSigningRequest
	if err := w.Client.Get(t.Context(), client.ObjectKey{Name: name}, &stored); err != nil {
		t.Fatalf("reading %s: %v", name, err)
	}
	return &stored
}

func (w *world) events(t *testing.T) []eventsv1.Event {
	t.Helper()
	var list eventsv1.EventList
	if err := w.Client.List(t.Context(), &list); err != nil {
		t.Fatalf("listing events: %v", err)
	}
	return list.Items
}

// key signs all requests: making one for each would be slow.
var key = func() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}()

// request returns what alice asks for: these DNS names, for client authentication.
func request(t *testing.T, name string, dnsNames ...string) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: dnsNames}, key)
	if err != nil {
		t.Fatal(err)
	}
	return &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: "uid-1"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			SignerName: signerName,
			Username:   "alice",
			Usages:     []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth},
		},
	}
}

func withCondition(r *certificatesv1.CertificateSigningRequest, kind certificatesv1.RequestConditionType) *certificatesv1.CertificateSigningRequest {
	r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: kind, Status: corev1.ConditionTrue})
	return r
}

// newPolicy returns a policy that lets alice have *.example.com for client authentication.
func newPolicy(approval v1alpha1.Approval) *v1alpha1.CertificatePolicy {
	return &v1alpha1.CertificatePolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "clients", UID: "policy-1", Generation: 1},
		Spec: v1alpha1.CertificatePolicySpec{
			SignerNames: []string{signerName},
			Requesters:  v1alpha1.Requesters{Users: []string{"alice"}},
			Approval:    approval,
			Allow: v1alpha1.Allow{
				DNSNames: []string{"*.example.com"},
				Usages:   []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth},
				Keys:     []v1alpha1.Key{{Algorithm: v1alpha1.ECDSA}},
			},
		},
	}
}
