// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca"
	"github.com/certwright/certwright/signer/signertest"
)

const namespace = "certwright-system"

// start is when all tests begin. It is now, as GnuTLS cannot be told another time.
var start = time.Now()

// world is a namespace with a backend in it.
type world struct {
	*ca.Backend
	t      testing.TB
	client client.WithWatch
	// outside is the same without the process under test: what it does counts for nothing.
	outside client.Client
	clock   *clocktesting.FakeClock
	mu      sync.Mutex
	writes  int
	// changing keeps changes by the test apart.
	changing sync.Mutex
	// fail, if set, is what writes return.
	fail error
	// config is the backend's, death ends the process at a write.
	config v1alpha1.CA
	death  death
	// ahead is how far the clock of the backend is ahead of the API server's.
	ahead time.Duration
}

func newWorld(t testing.TB, config v1alpha1.CA, isCA bool, objects ...client.Object) *world {
	t.Helper()
	w := &world{t: t, clock: clocktesting.NewFakeClock(start), config: config}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{authenticationv1.AddToScheme, corev1.AddToScheme, eventsv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	objects = append(objects, &v1alpha1.Signer{
		ObjectMeta: metav1.ObjectMeta{Name: "internal", UID: "signer-1", Generation: 1},
		Spec:       v1alpha1.SignerSpec{SignerName: "example.com/internal", Backends: []v1alpha1.Backend{{Name: "local", CA: &config}}},
	})
	write := func(f func() error) error {
		w.mu.Lock()
		w.writes++
		w.mu.Unlock()
		if w.fail != nil {
			return w.fail
		}
		return w.death.around(f)
	}
	cluster := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&v1alpha1.Signer{}).
		WithIndex(&v1alpha1.Signer{}, v1alpha1.IndexSignerName, func(o client.Object) []string {
			return []string{o.(*v1alpha1.Signer).Spec.SignerName}
		}).Build()
	w.outside = cluster
	w.client = interceptor.NewClient(cluster, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if review, ok := o.(*authenticationv1.SelfSubjectReview); ok {
				review.CreationTimestamp = metav1.NewTime(w.serverTime().Truncate(time.Second))
				return nil
			}
			return write(func() error { return c.Create(ctx, o, opts...) })
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			return write(func() error { return c.Update(ctx, o, opts...) })
		},
		SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
			return w.death.around(func() error { return c.SubResource(sub).Update(ctx, o, opts...) })
		},
	})
	w.Backend = w.backend(w.client, config, isCA)
	return w
}

// newManagedWorld is one in which the CA is made, below which certificates live a day at the longest.
func newManagedWorld(t testing.TB, config v1alpha1.CA, isCA bool) *world {
	t.Helper()
	w := newWorld(t, config, isCA)
	w.begin(24 * time.Hour)
	return w
}

// begin has the CA made, and nothing else.
func (w *world) begin(longest time.Duration) {
	w.t.Helper()
	ask := w.ask(nil, nil)
	ask.MaxDuration = longest
	if r, err := w.Rotate(w.t.Context(), ask); err != nil || !r.Changed {
		w.t.Fatalf("making the CA: %+v, error %v", r, err)
	}
}

// rotate has done what is due.
func (w *world) rotate() (signer.Rotated, error) {
	return w.Rotate(w.t.Context(), w.ask(w.TrustAnchors, nil))
}

// serverTime is what the API server's clock says.
func (w *world) serverTime() time.Time { return w.clock.Now().Add(-w.ahead) }

// ask is what a Rotator is told.
func (w *world) ask(published func(context.Context) ([]*x509.Certificate, error), annotations map[string]string) signer.Rotation {
	return signer.Rotation{
		Signer: "signer-1", Annotations: annotations, MaxDuration: lifetime, Published: published,
		Behind: func(context.Context) bool { return false },
		Time:   func(context.Context) (time.Time, error) { return w.serverTime(), nil },
	}
}

func (w *world) backend(cached client.Client, config v1alpha1.CA, isCA bool) *ca.Backend {
	w.t.Helper()
	b, err := ca.New(ca.Options{
		Client: cached, Reader: w.client, Namespace: namespace,
		Signer: "internal", SignerName: "example.com/internal", Backend: "local",
		CA: config, IsCA: isCA, Clock: w.clock,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

func (w *world) secret(name string) *corev1.Secret {
	w.t.Helper()
	s := &corev1.Secret{}
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// change changes a Secret as a person would.
func (w *world) change(name string, f func(data map[string][]byte)) {
	w.t.Helper()
	w.changing.Lock()
	defer w.changing.Unlock()
	s := w.secret(name)
	if s.Data == nil {
		s.Data = map[string][]byte{}
	}
	f(s.Data)
	if err := w.client.Update(w.t.Context(), s); err != nil {
		w.t.Fatal(err)
	}
}

// request is an ordinary request.
func (w *world) request(d time.Duration) csr.Request {
	return signertest.Request(w.t, signertest.Key(w.t, "ECDSA-P256"), &x509.CertificateRequest{DNSNames: []string{"web.example.com"}}, nil, d)
}

// sign signs an ordinary request and returns the chain.
func (w *world) sign(d time.Duration) ([]*x509.Certificate, error) {
	return w.Sign(w.t.Context(), w.request(d))
}

func (w *world) mustSign(d time.Duration) []*x509.Certificate {
	w.t.Helper()
	chain, err := w.sign(d)
	if err != nil {
		w.t.Fatalf("Sign: %v", err)
	}
	return chain
}

// wantReason checks that err is a CheckError of the given reason.
func wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	var check *signer.CheckError
	if !errors.As(err, &check) || check.Reason != reason {
		t.Errorf("got %T %v, want a *signer.CheckError of reason %s", err, err, reason)
	}
}

func wantPermanent(t *testing.T, err error) {
	t.Helper()
	var permanent *signer.PermanentError
	if !errors.As(err, &permanent) {
		t.Errorf("got %T %v, want a *signer.PermanentError", err, err)
	}
}

func wantTrouble(t *testing.T, err error) {
	t.Helper()
	var permanent *signer.PermanentError
	if err == nil || errors.As(err, &permanent) {
		t.Errorf("got %T %v, want an error that is tried again", err, err)
	}
}

// issuer is a CA made for a test.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

var serial = big.NewInt(1000)

// newIssuer makes a CA signed by parent, or self-signed; change may spoil it.
func newIssuer(t testing.TB, name, algorithm string, parent *issuer, change func(*x509.Certificate)) *issuer {
	t.Helper()
	key := signertest.Key(t, algorithm)
	serial = new(big.Int).Add(serial, big.NewInt(1))
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: start.Add(-24 * time.Hour), NotAfter: start.Add(1000 * 24 * time.Hour),
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign,
	}
	if change != nil {
		change(template)
	}
	by := &issuer{cert: template, key: key}
	if parent != nil {
		by = parent
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{cert, key}
}

func pemCerts(issuers ...*issuer) []byte {
	var b bytes.Buffer
	for _, i := range issuers {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw}) // a bytes.Buffer takes everything
	}
	return b.Bytes()
}

func pemKey(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

const imported = "my-ca"

func importedCA() v1alpha1.CA {
	return v1alpha1.CA{SecretRef: &v1alpha1.SecretRef{Name: imported}}
}

func tlsSecret(t testing.TB, key crypto.Signer, chain ...*issuer) *corev1.Secret {
	t.Helper()
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: imported, UID: "3b0e6d0a-97b5-4e0c-8a86-55f4dc0f2d5e"},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{"tls.crt": pemCerts(chain...), "tls.key": pemKey(t, key)},
	}
}

func pkcs1(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key.(*rsa.PrivateKey))})
}

func sec1(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}
