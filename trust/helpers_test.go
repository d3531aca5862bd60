// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/trust"
)

const signerName = "example.com/internal"

var now = time.Date(2028, 2, 29, 12, 34, 56, 789, time.UTC)

// newCert makes a self-signed CA certificate; change may spoil it.
func newCert(t *testing.T, name string, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1000 * time.Hour),
		BasicConstraintsValid: true, IsCA: true,
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func expired(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }
func noCA(c *x509.Certificate)    { c.IsCA = false }

// pemOf returns the certificates as PEM, in the order given.
func pemOf(certs ...*x509.Certificate) string { return string(signer.EncodePEM(certs...)) }

// recorder is a client that keeps a list of the writes.
type recorder struct {
	client.WithWatch
	mu     sync.Mutex
	writes []string
	// fail, if set, is what writes return.
	fail error
}

func newClient(t *testing.T, objects ...client.Object) *recorder {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	r := &recorder{}
	write := func(verb string, o client.Object, f func() error) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.writes = append(r.writes, verb+" "+o.GetNamespace()+"/"+o.GetName())
		if r.fail != nil {
			return r.fail
		}
		return f()
	}
	r.WithWatch = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return write("create", o, func() error { return c.Create(ctx, o, opts...) })
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			return write("update", o, func() error { return c.Update(ctx, o, opts...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return write("delete", o, func() error { return c.Delete(ctx, o, opts...) })
		},
	}).Build()
	return r
}

// took returns the writes since it was called last.
func (r *recorder) took() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	writes := strings.Join(r.writes, ", ")
	r.writes = nil
	return writes
}

// bundle is a trust bundle of these certificates.
func bundle(t *testing.T, certs ...*x509.Certificate) trust.Bundle {
	t.Helper()
	b, err := trust.Assemble(certs, now)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
