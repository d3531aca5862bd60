// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package hsm_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/cmd/certwright-kms/hsm"
	"github.com/certwright/certwright/cmd/certwright-kms/provision"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca"
	"github.com/certwright/certwright/signer/ca/keyuri"
	"github.com/certwright/certwright/signer/signertest"
)

const (
	spy       = "/usr/lib/x86_64-linux-gnu/pkcs11-spy.so"
	softHSM   = "/usr/lib/softhsm/libsofthsm2.so"
	pin       = "4711"
	namespace = "certwright-system"
)

// certificates are those of the CAs in the token "test" by the algorithm of their keys, which is the label of the key too, and of
// the other tokens by their labels.
var certificates = map[string][]byte{}

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "softhsm")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := setUp(dir); err != nil {
		fmt.Fprintf(os.Stderr, "making a token: %v: are the packages softhsm2 and p11-kit installed?\n", err)
		return 1
	}
	return m.Run()
}

// folders are those in which SoftHSM keeps its tokens, by their labels.
var folders = map[string]string{}

// setUp makes tokens of SoftHSM: "test" with a key of each kind, "other" and "pulled" with one, and two named "twin".
func setUp(dir string) error {
	config := filepath.Join(dir, "softhsm2.conf")
	tokens := filepath.Join(dir, "tokens")
	if err := errors.Join(
		os.Mkdir(tokens, 0o700),
		os.WriteFile(config, []byte("directories.tokendir = "+tokens+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600),
		os.Setenv("SOFTHSM2_CONF", config),
	); err != nil {
		return err
	}
	for _, algorithm := range provision.Algorithms {
		if err := addKey("test", algorithm, algorithm); err != nil {
			return err
		}
		certificates[algorithm] = certificates["test"]
	}
	// A token of the same label is made where the first one is not to be seen.
	if err := addKey("twin", "ca", "ECDSA-P256"); err != nil {
		return err
	}
	if err := os.Rename(folders["twin"], filepath.Join(dir, "twin")); err != nil {
		return err
	}
	for _, token := range []string{"twin", "pulled"} {
		if err := addKey(token, "ca", "ECDSA-P256"); err != nil {
			return err
		}
	}
	return errors.Join(os.Rename(filepath.Join(dir, "twin"), filepath.Join(tokens, "twin")), addKey("other", "ECDSA-P256", "ECDSA-P256"))
}

// addKey makes a key, and a token for it if there is none yet, and keeps the CA certificate under the token's label.
func addKey(token, object, algorithm string) error {
	text, err := provision.CA(provision.Options{
		Module: softHSM, Token: token, PIN: pin, Object: object, Algorithm: algorithm, CommonName: "CA in a token", Lifetime: 100 * 24 * time.Hour,
	})
	if err != nil {
		return err
	}
	certificates[token] = text
	tokens := filepath.Join(filepath.Dir(os.Getenv("SOFTHSM2_CONF")), "tokens")
	entries, err := os.ReadDir(tokens)
	for _, e := range entries {
		if path := filepath.Join(tokens, e.Name()); !slices.Contains(slices.Collect(maps.Values(folders)), path) {
			folders[token] = path
		}
	}
	return err
}

// world is a backend with its key in a token.
type world struct {
	*ca.Backend
	t      testing.TB
	client client.Client
	clock  *clocktesting.FakeClock
	// opened counts the attempts to open the key.
	opened atomic.Int32
}

func newWorld(t testing.TB, uri, chain, pin string) *world {
	t.Helper()
	return newWorldWith(t, func(_ context.Context, u keyuri.URI, pin string, public crypto.PublicKey) (crypto.Signer, error) {
		return modules.Open(u.(*keyuri.PKCS11), pin, public)
	}, uri, chain, pin)
}

func newWorldWith(t testing.TB, open ca.OpenKey, uri, chain, pin string) *world {
	t.Helper()
	worlds++
	w := &world{t: t, clock: clocktesting.NewFakeClock(time.Now())}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w.client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "hsm-pin"}, Data: map[string][]byte{"pin": []byte(pin + "\n")},
	}).Build()
	b, err := ca.New(ca.Options{
		Client: w.client, Reader: w.client, Namespace: namespace, Signer: "internal", SignerName: "example.com/internal", Backend: "hsm",
		CA:    v1alpha1.CA{Key: &v1alpha1.CAKey{URI: uri, PINRef: &v1alpha1.SecretKeyRef{Name: "hsm-pin", Key: "pin"}, Chain: chain}},
		Clock: w.clock,
		OpenKey: func(ctx context.Context, u keyuri.URI, pin string, public crypto.PublicKey) (crypto.Signer, error) {
			w.opened.Add(1)
			return open(ctx, u, pin, public)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Backend = b
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if worlds--; worlds == 0 {
			eventually(t, "the modules have ended", modules.Idle)
		}
	})
	return w
}

// worlds is how many backends the running test has.
var worlds int

// modules are those of this process: a module cannot be started twice.
var modules = &hsm.Modules{Named: []string{spy}}

// eventually waits until something is true.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !is() {
		select {
		case <-deadline:
			t.Fatalf("not within 10s: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func uriOf(token, object string) string {
	return "pkcs11:token=" + token + ";object=" + object + "?module-path=" + softHSM
}

// sign signs an ordinary request within a time.
func (w *world) sign(within time.Duration) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), within)
	defer cancel()
	_, err := w.Sign(ctx, signertest.Request(w.t, signertest.Key(w.t, "ECDSA-P256"), &x509.CertificateRequest{DNSNames: []string{"web.example.com"}}, nil, time.Hour))
	return err
}

func (w *world) setPIN(pin string) {
	w.t.Helper()
	var secret corev1.Secret
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Namespace: namespace, Name: "hsm-pin"}, &secret); err != nil {
		w.t.Fatal(err)
	}
	secret.Data["pin"] = []byte(pin)
	if err := w.client.Update(w.t.Context(), &secret); err != nil {
		w.t.Fatal(err)
	}
}

func wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	var check *signer.CheckError
	if !errors.As(err, &check) || check.Reason != reason {
		t.Errorf("got %T %v, want a *signer.CheckError of reason %s", err, err, reason)
	}
	var permanent *signer.PermanentError
	if errors.As(err, &permanent) {
		t.Errorf("%v is permanent, and it is the device's trouble", err)
	}
}
