// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package venafi_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer/signertest"
	"github.com/certwright/certwright/signer/venafi"
	"github.com/certwright/certwright/signer/venafi/venafitest"
)

const (
	namespace = "certwright-system"
	ownSecret = "certwright-venafi-internal.venafi"
)

// world is a namespace with Secrets, and a clock.
type world struct {
	t      testing.TB
	client client.WithWatch
	clock  *clocktesting.FakeClock
	// fail, if set, is what writes return.
	fail   error
	writes int
}

func newWorld(t testing.TB, secrets ...client.Object) *world {
	w := &world{t: t, clock: clocktesting.NewFakeClock(time.Now())}
	write := func(f func() error) error {
		w.writes++
		if w.fail != nil {
			return w.fail
		}
		return f()
	}
	w.client = fake.NewClientBuilder().WithObjects(secrets...).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return write(func() error { return c.Create(ctx, o, opts...) })
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			return write(func() error { return c.Update(ctx, o, opts...) })
		},
	}).Build()
	return w
}

func secret(name string, data map[string]string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: map[string][]byte{}}
	for k, v := range data {
		s.Data[k] = []byte(v)
	}
	return s
}

// set changes a Secret as a person would.
func (w *world) set(name string, data map[string]string) {
	w.t.Helper()
	s := w.secret(name)
	s.Data = secret(name, data).Data
	if err := w.client.Update(w.t.Context(), s); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) secret(name string) *corev1.Secret {
	w.t.Helper()
	s := &corev1.Secret{}
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) hasOwnSecret() bool {
	err := w.client.Get(w.t.Context(), client.ObjectKey{Namespace: namespace, Name: ownSecret}, &corev1.Secret{})
	if err != nil && !apierrors.IsNotFound(err) {
		w.t.Fatal(err)
	}
	return err == nil
}

func (w *world) backend(config v1alpha1.Venafi, c clock.PassiveClock) *venafi.Backend {
	w.t.Helper()
	b, err := venafi.New(venafi.Options{Client: w.client, Reader: w.client, Namespace: namespace, Signer: "internal", Backend: "venafi", Venafi: config, Clock: c})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = b.Close() })
	return b
}

func tppConfig(s *venafitest.TPP) v1alpha1.Venafi {
	return v1alpha1.Venafi{
		TPP: &v1alpha1.VenafiTPP{
			Server: v1alpha1.Server{URL: s.URL, CABundle: s.ServerCA}, Zone: `Kubernetes\Workloads`, ClientID: venafitest.TPPClientID,
			CredentialsRef: v1alpha1.SecretRef{Name: "tpp"},
		},
		Usages: venafitest.Usages,
	}
}

func cloudConfig(s *venafitest.Cloud) v1alpha1.Venafi {
	return v1alpha1.Venafi{
		Cloud: &v1alpha1.VenafiCloud{
			URL: s.URL, CABundle: s.ServerCA, Zone: venafitest.CloudZone, APIKeyRef: v1alpha1.SecretKeyRef{Name: "cloud", Key: "api-key"},
		},
		Usages: venafitest.Usages,
	}
}

func passwordSecret() *corev1.Secret {
	return secret("tpp", map[string]string{"username": venafitest.TPPUser, "password": venafitest.TPPPassword})
}

func keySecret() *corev1.Secret {
	return secret("cloud", map[string]string{"api-key": venafitest.CloudKey + "\n"})
}

func request(t testing.TB, template *x509.CertificateRequest) csr.Request {
	t.Helper()
	return signertest.Request(t, signertest.Key(t, "ECDSA-P256"), template, venafitest.Usages, time.Hour)
}

func dns(names ...string) *x509.CertificateRequest { return &x509.CertificateRequest{DNSNames: names} }

func mustSign(t testing.TB, b *venafi.Backend, req csr.Request) []*x509.Certificate {
	t.Helper()
	chain, err := b.Sign(t.Context(), req)
	if err != nil {
		t.Fatalf("Sign: %v", err)
	}
	return chain
}

// newClientCertificate makes a self-signed certificate in DER.
func newClientCertificate(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "certwright"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func pemKey(t testing.TB, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pemBlock("PRIVATE KEY", der)
}
