// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package podcert

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	testingclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/event"
	"github.com/certwright/certwright/policy/judge"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca/authority"
	"github.com/certwright/certwright/signer/issue"
	"github.com/certwright/certwright/signer/metrics"
	"github.com/certwright/certwright/signer/registry"
)

const signerName = "example.com/internal"

// now is the API server's time.
var now = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

var (
	caKey   = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	podKey  = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	caCert  = newCA(now.Add(365 * 24 * time.Hour))
	webName = "web.shop.svc"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func newCA(notAfter time.Time) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotBefore: now.Add(-24 * time.Hour), NotAfter: notAfter,
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true, SubjectKeyId: []byte{1},
	}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, template, caKey.Public(), caKey))))
}

// local signs as the CA backend does, unless it is in trouble.
type local struct {
	ca      *x509.Certificate
	clock   func() time.Time
	trouble error
	calls   int
}

func (l *local) Sign(_ context.Context, req csr.Request) ([]*x509.Certificate, error) {
	l.calls++
	if l.trouble != nil {
		return nil, l.trouble
	}
	certs := []*x509.Certificate{l.ca}
	a, err := authority.New(certs, certs, caKey)
	if err != nil {
		return nil, err
	}
	leaf, err := a.Issue(req, l.clock(), rand.Reader, caKey, authority.URLs{})
	return []*x509.Certificate{leaf}, err
}

func (l *local) SignsPods() bool { return true }

// forwarding is a backend that knows PKCS #10 requests only.
type forwarding struct{ calls int }

func (f *forwarding) Sign(context.Context, csr.Request) ([]*x509.Certificate, error) {
	f.calls++
	return nil, &signer.PermanentError{Err: fmt.Errorf("there is no request")}
}

// world is a reconciler with a real judge before a fake API server, which notes every write and holds what is written against its rules.
type world struct {
	*Reconciler
	t     *testing.T
	local *local
	// backends are what the Signer's backends are, by name.
	backends map[string]signer.Backend
	// clock is the signer's, apiNow the API server's.
	clock  *testingclock.FakePassiveClock
	apiNow time.Time
	writes []string
	// writeErr, if set, takes the place of a write of a status.
	writeErr error
	// readErr, if set, is asked before each read.
	readErr func(o runtime.Object) error
	// listed counts how often policies were listed, by the cache and the API server together.
	listed int
}

// newWorld returns a world with the cluster's objects, each of which change may have its way with, and those that are added.
func newWorld(t *testing.T, version Version, change func(client.Object), more ...client.Object) *world {
	t.Helper()
	w := &world{t: t, clock: testingclock.NewFakePassiveClock(now), apiNow: now}
	w.local = &local{ca: caCert, clock: w.clock.Now}
	w.backends = map[string]signer.Backend{"local": w.local}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	objects := slices.Concat(cluster(), admission(t), more)
	for _, o := range objects {
		if change != nil {
			change(o)
		}
	}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&certificatesv1.PodCertificateRequest{}, &certificatesv1beta1.PodCertificateRequest{}).
		WithInterceptorFuncs(w.funcs()).WithReturnManagedFields()
	if err := judge.Index(t.Context(), indexer{builder}); err != nil {
		t.Fatal(err)
	}
	c := builder.Build()
	m := metrics.New(prometheus.NewRegistry())
	core := issue.NewCore(registry.New(c, func(config signer.BackendConfig) (signer.Backend, error) {
		if b := w.backends[config.Backend.Name]; b != nil {
			return b, nil
		}
		return nil, fmt.Errorf("there is no backend %s", config.Backend.Name)
	}, w.clock, m), m, w.clock)
	teller := event.Teller{Client: c, Component: "certwright-signer", Instance: "pod-0", Clock: w.clock}
	w.Reconciler = New(core, c, version, "certwright-system", judge.New(c, c, "cluster.local", "cluster.local"), teller)
	return w
}

type indexer struct{ *fake.ClientBuilder }

func (i indexer) IndexField(_ context.Context, o client.Object, field string, values client.IndexerFunc) error {
	i.WithIndex(o, field, values)
	return nil
}

func (w *world) funcs() interceptor.Funcs {
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
			if _, ok := list.(*v1alpha1.CertificatePolicyList); ok {
				w.listed++
			}
			return c.List(ctx, list, opts...)
		},
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if e, ok := o.(*eventsv1.Event); ok {
				w.writes = append(w.writes, "event "+e.Regarding.Kind)
			}
			return c.Create(ctx, o, opts...)
		},
		Update: func(context.Context, client.WithWatch, client.Object, ...client.UpdateOption) error {
			panic("nothing is updated")
		},
		Patch: func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
			panic("nothing but statuses is patched")
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			w.writes = append(w.writes, "patch "+sub)
			if w.writeErr != nil {
				return w.writeErr
			}
			if err := rejects(wide(o), w.apiNow); err != nil {
				return err
			}
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	}
}

// reconcile reconciles the request req-1 once.
func (w *world) reconcile() (ctrl.Result, error) {
	w.t.Helper()
	return w.Reconcile(w.t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "shop", Name: "req-1"}})
}

// stored returns the request as it is in the API server.
func (w *world) stored() *certificatesv1beta1.PodCertificateRequest {
	w.t.Helper()
	o := w.Version.object()
	if err := w.Client.Get(w.t.Context(), client.ObjectKey{Namespace: "shop", Name: "req-1"}, o); err != nil {
		w.t.Fatal(err)
	}
	return wide(o)
}

// leaf returns the certificate that was written.
func (w *world) leaf() *x509.Certificate {
	w.t.Helper()
	status := w.stored().Status
	if len(status.Conditions) != 1 || status.Conditions[0].Type != "Issued" {
		w.t.Fatalf("conditions %+v, want Issued", status.Conditions)
	}
	block, rest := pem.Decode([]byte(status.CertificateChain))
	if block == nil || len(rest) > 0 {
		w.t.Fatalf("chain %q, want one certificate", status.CertificateChain)
	}
	return must(x509.ParseCertificate(block.Bytes))
}

// notes returns what was told on objects of a kind.
func (w *world) notes(kind string) (notes []string) {
	w.t.Helper()
	var list eventsv1.EventList
	if err := w.Client.List(w.t.Context(), &list); err != nil {
		w.t.Fatal(err)
	}
	for _, e := range list.Items {
		if e.Regarding.Kind == kind {
			notes = append(notes, e.Note)
		}
	}
	return notes
}

// pass lets time pass for everybody.
func (w *world) pass(d time.Duration) {
	w.clock.SetTime(w.clock.Now().Add(d))
	w.apiNow = w.apiNow.Add(d)
}

// cluster is a pod with a Service, and what signs for it.
func cluster() []client.Object {
	hour := metav1.NewTime(now.Add(-time.Hour))
	return []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{corev1.LabelMetadataName: "shop"}}},
		&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-0", UID: "pod-uid", Labels: map[string]string{"app": "web"}},
			Spec:       corev1.PodSpec{ServiceAccountName: "web", NodeName: "node-1"},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "10.1.2.3"}}},
		},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}}},
		&v1alpha1.Signer{
			ObjectMeta: metav1.ObjectMeta{Name: "internal", UID: "signer-1", Generation: 1, CreationTimestamp: hour},
			Spec: v1alpha1.SignerSpec{
				SignerName:      signerName,
				Backends:        []v1alpha1.Backend{{Name: "local", CA: &v1alpha1.CA{Managed: &v1alpha1.ManagedCA{}}}},
				Limits:          v1alpha1.Limits{MaxDuration: metav1.Duration{Duration: 91 * 24 * time.Hour}, Usages: usages()},
				PodCertificates: &v1alpha1.PodCertificates{DNSNames: []string{"{service}.{namespace}.svc"}, URIs: []string{"spiffe://{trustDomain}/ns/{namespace}/sa/{serviceAccount}"}, Usages: usages()},
			},
		},
		&v1alpha1.CertificatePolicy{
			ObjectMeta: metav1.ObjectMeta{Name: "all", UID: "policy-1", Generation: 1},
			Spec: v1alpha1.CertificatePolicySpec{
				SignerNames: []string{signerName},
				Requesters:  v1alpha1.Requesters{NamespaceSelector: &metav1.LabelSelector{}, ServiceAccounts: []string{"*"}},
				Approval:    v1alpha1.ApprovalAutomatic,
				Allow: v1alpha1.Allow{
					DNSNames: []string{"{service}.{namespace}.svc"}, URIs: []string{"spiffe://{trustDomain}/ns/{namespace}/sa/{serviceAccount}"},
					Usages: usages(), Keys: []v1alpha1.Key{{Algorithm: v1alpha1.ECDSA}, {Algorithm: v1alpha1.Ed25519}, {Algorithm: v1alpha1.RSA}},
				},
			},
		},
	}
}

// admission is the policy that Certwright is installed with, and its binding, of an hour ago.
func admission(t *testing.T) []client.Object {
	t.Helper()
	text, err := os.ReadFile("../../manifests/base/admission/pod-certificate-requests.yaml")
	if err != nil {
		t.Fatal(err)
	}
	policy, binding, ok := strings.Cut(string(text), "\n---\n")
	if !ok {
		t.Fatal("the manifest is not a policy and its binding")
	}
	objects := []client.Object{&admissionregistrationv1.ValidatingAdmissionPolicy{}, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}}
	for i, text := range []string{policy, binding} {
		if err := yaml.UnmarshalStrict([]byte(text), objects[i]); err != nil {
			t.Fatal(err)
		}
		objects[i].SetCreationTimestamp(metav1.NewTime(now.Add(-time.Hour)))
	}
	return objects
}

func usages() []certificatesv1.KeyUsage {
	return []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth}
}

// asked is what the kubelet of node-1 asks for the pod web-0, in the older form of the key if there is no stub.
//
//nolint:staticcheck // kubelets before 1.36 know the older form of the key only
func asked(key crypto.Signer, seconds int32, older bool) *certificatesv1beta1.PodCertificateRequest {
	r := &certificatesv1beta1.PodCertificateRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "req-1", UID: "req-uid", CreationTimestamp: metav1.NewTime(now)},
		Spec: certificatesv1beta1.PodCertificateRequestSpec{
			SignerName: signerName, PodName: "web-0", PodUID: "pod-uid", ServiceAccountName: "web", ServiceAccountUID: "sa-uid",
			NodeName: "node-1", NodeUID: "node-uid", MaxExpirationSeconds: ptr.To(seconds),
		},
	}
	if older {
		r.Spec.PKIXPublicKey, r.Spec.ProofOfPossession = must(x509.MarshalPKIXPublicKey(key.Public())), proof(key, "pod-uid")
	} else {
		r.Spec.StubPKCS10Request = must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key))
	}
	return r
}

// proof signs the UID of a pod as the documentation of the field says.
func proof(key crypto.Signer, uid string) []byte {
	hash := sha256.Sum256([]byte(uid))
	switch k := key.(type) {
	case ed25519.PrivateKey:
		return ed25519.Sign(k, []byte(uid))
	case *rsa.PrivateKey:
		return must(rsa.SignPSS(rand.Reader, k, crypto.SHA256, hash[:], nil))
	default:
		return must(ecdsa.SignASN1(rand.Reader, key.(*ecdsa.PrivateKey), hash[:]))
	}
}

// in returns the request in a version of the API.
func in(version Version, r *certificatesv1beta1.PodCertificateRequest) client.Object {
	if version == V1Beta1 {
		return r
	}
	return &certificatesv1.PodCertificateRequest{ObjectMeta: r.ObjectMeta, Spec: certificatesv1.PodCertificateRequestSpec{
		SignerName: r.Spec.SignerName, PodName: r.Spec.PodName, PodUID: r.Spec.PodUID,
		ServiceAccountName: r.Spec.ServiceAccountName, ServiceAccountUID: r.Spec.ServiceAccountUID, NodeName: r.Spec.NodeName, NodeUID: r.Spec.NodeUID,
		MaxExpirationSeconds: r.Spec.MaxExpirationSeconds, StubPKCS10Request: r.Spec.StubPKCS10Request, UnverifiedUserAnnotations: r.Spec.UnverifiedUserAnnotations,
	}}
}

func names(c *x509.Certificate) []string {
	all := slices.Clone(c.DNSNames)
	for _, u := range c.URIs {
		all = append(all, u.String())
	}
	return all
}
