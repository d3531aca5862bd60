// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/remote"
)

func secret(name string, data map[string]string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "certwright", Name: name}, Data: map[string][]byte{}}
	for k, v := range data {
		s.Data[k] = []byte(v)
	}
	return s
}

func wantReason(t *testing.T, err error, reason, words string) {
	t.Helper()
	var fault *signer.CheckError
	if !errors.As(err, &fault) || fault.Reason != reason {
		t.Errorf("got the error %v, want a *signer.CheckError with reason %s", err, reason)
	}
	wantError(t, err, words)
}

func TestEntry(t *testing.T) {
	other := secret("other", map[string]string{"token": "theirs"})
	other.Namespace = "other"
	secrets := remote.Secrets{Namespace: "certwright", Reader: fake.NewClientBuilder().WithObjects(
		secret("vault", map[string]string{"token": "hvs.secret\n", "empty": " \n"}), other).Build()}
	if got, err := secrets.Entry(t.Context(), v1alpha1.SecretKeyRef{Name: "vault", Key: "token"}); err != nil || string(got) != "hvs.secret" {
		t.Errorf("got %q and the error %v", got, err)
	}
	for name, c := range map[string]struct {
		ref           v1alpha1.SecretKeyRef
		reason, words string
	}{
		"no Secret":         {v1alpha1.SecretKeyRef{Name: "absent", Key: "token"}, remote.ReasonSecretNotFound, "Secret certwright/absent does not exist: create it"},
		"of somebody else":  {v1alpha1.SecretKeyRef{Name: "other", Key: "token"}, remote.ReasonSecretNotFound, "Secret certwright/other does not exist"},
		"no such key":       {v1alpha1.SecretKeyRef{Name: "vault", Key: "absent"}, remote.ReasonSecretIncomplete, `Secret certwright/vault has no key "absent"`},
		"only white space":  {v1alpha1.SecretKeyRef{Name: "vault", Key: "empty"}, remote.ReasonSecretIncomplete, `has no key "empty", or it is empty`},
		"key of the Secret": {v1alpha1.SecretKeyRef{Name: "vault"}, remote.ReasonSecretIncomplete, `has no key ""`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := secrets.Entry(t.Context(), c.ref)
			wantReason(t, err, c.reason, c.words)
			if err != nil && strings.Contains(err.Error(), "hvs.secret") {
				t.Errorf("the error holds the secret: %v", err)
			}
		})
	}
}

func TestTroubleOfTheClusterIsNoFaultOfTheSecret(t *testing.T) {
	down := errors.New("the API server is away")
	secrets := remote.Secrets{Namespace: "certwright", Reader: fake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return down
		},
	}).Build()}
	_, err := secrets.Entry(t.Context(), v1alpha1.SecretKeyRef{Name: "vault", Key: "token"})
	var fault *signer.CheckError
	if !errors.Is(err, down) || errors.As(err, &fault) {
		t.Errorf("got the error %v, want that of the API server as it is", err)
	}
	wantError(t, err, "reading Secret certwright/vault")
}

func TestCertificateOfASecret(t *testing.T) {
	pair := keyPair(t, "client")
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, key := string(encode(pair.Certificate[0])), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	secrets := remote.Secrets{Namespace: "certwright", Reader: fake.NewClientBuilder().WithObjects(
		secret("good", map[string]string{"tls.crt": cert, "tls.key": key}),
		secret("keyless", map[string]string{"tls.crt": cert}),
		secret("another", map[string]string{"tls.crt": string(encode(keyPair(t, "another").Certificate[0])), "tls.key": key}),
	).Build()}
	got, err := secrets.Certificate(t.Context(), v1alpha1.SecretRef{Name: "good"})
	if err != nil || got.Leaf.Subject.CommonName != "client" {
		t.Errorf("got %v and the error %v", got, err)
	}
	for name, want := range map[string][2]string{
		"absent":  {remote.ReasonSecretNotFound, "does not exist"},
		"keyless": {remote.ReasonSecretIncomplete, `has no key "tls.key"`},
		"another": {remote.ReasonSecretInvalid, "holds no usable certificate and key"},
	} {
		_, err := secrets.Certificate(t.Context(), v1alpha1.SecretRef{Name: name})
		wantReason(t, err, want[0], want[1])
	}
}

func TestCheckRef(t *testing.T) {
	wantError(t, remote.CheckRef(v1alpha1.SecretKeyRef{Key: "k"}, "vault.auth.tokenSecretRef"), "vault.auth.tokenSecretRef.name: is empty")
	wantError(t, remote.CheckRef(v1alpha1.SecretKeyRef{Name: "n"}, "vault.auth.tokenSecretRef"), "vault.auth.tokenSecretRef.key: is empty")
	if err := remote.CheckRef(v1alpha1.SecretKeyRef{Name: "n", Key: "k"}, "f"); err != nil {
		t.Error(err)
	}
}

// Whoever names a server of his own sends no key of a CA there.
func TestSecretsThatCertwrightKeepsAreNotSent(t *testing.T) {
	for _, name := range []string{"certwright-ca-internal.local", "certwright-acme-public.letsencrypt", "certwright-venafi-internal.tpp", "certwright-webhook-tls"} {
		wantError(t, remote.CheckRef(v1alpha1.SecretKeyRef{Name: name, Key: "tls.key"}, "vault.auth.appRole.secretIDRef"), "vault.auth.appRole.secretIDRef.name: \""+name+"\"")
		wantError(t, remote.CheckSecret(v1alpha1.SecretRef{Name: name}, "venafi.tpp.credentialsRef"), "venafi.tpp.credentialsRef.name: \""+name+"\"")
	}
}

func TestBound(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"as it is":           {"role forbids it", "role forbids it"},
		"lines":              {"\n1 error:\n\t* sealed\r\n\n", "1 error: * sealed"},
		"control characters": {"a\x1b[31mb\x00c", "a [31mb c"},
		"direction marks":    {"a\u202eb", "a b"},
		"long":               {strings.Repeat("x", 1000), strings.Repeat("x", 297) + "…"},
		"not UTF-8":          {"a\xffb", "a\ufffdb"},
		"nothing":            {" \n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := remote.Bound(c.in); got != c.want {
				t.Errorf("Bound(%q) is %q, want %q", c.in, got, c.want)
			}
		})
	}
}

func FuzzBound(f *testing.F) {
	f.Add("a \u00a0 b\n")
	f.Fuzz(func(t *testing.T, text string) {
		got := remote.Bound(text)
		if n := len(got); n > 300 || !utf8.ValidString(got) || strings.ContainsAny(got, "\n\r\x00\x1b") {
			t.Errorf("Bound(%q) is %q with %d bytes", text, got, n)
		}
	})
}
