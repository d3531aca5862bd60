// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acme_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/acme"
	"github.com/certwright/certwright/signer/acme/account"
	"github.com/certwright/certwright/signer/acme/acmetest"
	"github.com/certwright/certwright/signer/remote"
)

func secret(name, key string, value []byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: acmetest.Namespace, Name: name}, Data: map[string][]byte{key: value}}
}

// checkReason checks that an error has a reason, and words for people.
func checkReason(t testing.TB, err error, reason string, words ...string) {
	t.Helper()
	var check *signer.CheckError
	if !errors.As(err, &check) || check.Reason != reason {
		t.Fatalf("got the error %v, want a *signer.CheckError of reason %s", err, reason)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error %q does not hold %q", err, word)
		}
	}
}

// trouble checks that an error is no verdict.
func trouble(t testing.TB, err error) {
	t.Helper()
	var permanent *signer.PermanentError
	var pending *signer.PendingError
	if err == nil || errors.As(err, &permanent) || errors.As(err, &pending) {
		t.Fatalf("got the error %v, want trouble", err)
	}
}

func TestAccountIsMadeOnceAndKept(t *testing.T) {
	t.Parallel()
	r, pebble := start(t, acmetest.PebbleConfig{}, func(c *v1alpha1.ACME) { c.Emails = []string{"ops@example.com"} })
	for range 2 {
		if err := r.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := r.sign(t, request(t, "web.example.com")); err != nil {
			t.Fatal(err)
		}
		r.restart(t)
	}
	if n := strings.Count(pebble.Output(), "There are now 1 accounts"); n != 1 || strings.Contains(pebble.Output(), "There are now 2 accounts") {
		t.Errorf("pebble has made %d accounts, or more", n)
	}
	var kept corev1.Secret
	if err := r.cluster.Get(t.Context(), client.ObjectKey{Namespace: acmetest.Namespace, Name: "certwright-acme-public.letsencrypt"}, &kept); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(kept.Data["account.url"]), "https://") || string(kept.Data["directory.url"]) != pebble.Server.URL {
		t.Errorf("the Secret holds the URLs %q and %q", kept.Data["account.url"], kept.Data["directory.url"])
	}
	if kept.Type != corev1.SecretTypeOpaque {
		t.Errorf("the Secret is of type %s", kept.Type)
	}
}

func TestAccountWhoseSecretWasDeleted(t *testing.T) {
	t.Parallel()
	r, _ := start(t, acmetest.PebbleConfig{})
	req := request(t, "web.example.com")
	r.waits(t, req)
	if err := r.cluster.Delete(t.Context(), secret("certwright-acme-public.letsencrypt", "", nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.eventually(t, req); err != nil {
		t.Error(err)
	}
}

func TestTermsOfService(t *testing.T) {
	t.Parallel()
	r, _ := start(t, acmetest.PebbleConfig{}, func(c *v1alpha1.ACME) { c.AcceptTerms = false })
	checkReason(t, r.Check(t.Context()), account.ReasonTermsNotAccepted, "acme.acceptTerms", "data:text/plain")
	_, err := r.Sign(t.Context(), request(t, "web.example.com"))
	trouble(t, err)
}

func TestExternalAccountBinding(t *testing.T) {
	t.Parallel()
	mac := "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	bound := func(key string) func(*v1alpha1.ACME) {
		return func(c *v1alpha1.ACME) {
			c.ExternalAccountBinding = &v1alpha1.ExternalAccountBinding{KeyID: "customer-1", KeyRef: v1alpha1.SecretKeyRef{Name: "eab", Key: key}}
		}
	}
	r, pebble := start(t, acmetest.PebbleConfig{EAB: map[string]string{"customer-1": mac}})
	checkReason(t, r.Check(t.Context()), account.ReasonExternalAccountRequired, "acme.externalAccountBinding")

	missing := newRig(t, r.cluster, pebble.Server, bound("mac"))
	checkReason(t, missing.Check(t.Context()), remote.ReasonSecretNotFound, "eab")
	eab := secret("eab", "mac", []byte(mac+"==\n"))
	eab.Data["other"] = []byte("b10lLJs8l1GPIzsLP0s6pMt8O0XVGnfTaCeROxQM0BIt2XrJMDHJZBM5NuQmQJQH")
	if err := r.cluster.Create(t.Context(), eab); err != nil {
		t.Fatal(err)
	}
	wrong := newRig(t, r.cluster, pebble.Server, bound("other"))
	err := wrong.Check(t.Context())
	checkReason(t, err, account.ReasonAccountRefused, "unauthorized")
	if strings.Contains(err.Error(), "b10lLJs8") {
		t.Error("the error holds the MAC key")
	}
	if err := missing.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := missing.sign(t, request(t, "web.example.com")); err != nil {
		t.Error(err)
	}
}

func TestAccountThatWasDeactivated(t *testing.T) {
	t.Parallel()
	r, pebble := start(t, acmetest.PebbleConfig{})
	if err := r.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	under := request(t, "web.example.com")
	r.waits(t, under)
	acmetest.Deactivate(t, pebble, r.cluster, "certwright-acme-public.letsencrypt")
	checkReason(t, r.Check(t.Context()), account.ReasonAccountDeactivated, "deactivated", "delete the Secret")
	r.pass(10e9)
	_, err := r.Sign(t.Context(), under)
	trouble(t, err)
	_, err = r.Sign(t.Context(), request(t, "web.example.com"))
	trouble(t, err)
}

func TestImportedKeys(t *testing.T) {
	t.Parallel()
	encode := func(kind string, der []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(p384)
	sec1PEM := encode("EC PRIVATE KEY", sec1, err)
	edDER, err := x509.MarshalPKCS8PrivateKey(ed)
	edPEM := encode("PRIVATE KEY", edDER, err)
	small, err := x509.MarshalPKCS8PrivateKey(p224)
	smallPEM := encode("PRIVATE KEY", small, err)

	r, pebble := start(t, acmetest.PebbleConfig{})
	for name, c := range map[string]struct {
		key    []byte
		reason string
	}{
		"ECDSA in SEC 1":   {sec1PEM, ""},
		"RSA in PKCS #1":   {encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsa2048), nil), ""},
		"Ed25519":          {edPEM, account.ReasonAccountKeyInvalid},
		"P-224":            {smallPEM, account.ReasonAccountKeyInvalid},
		"no PEM":           {[]byte("hunter2hunter2"), account.ReasonAccountKeyInvalid},
		"two blocks":       {append(sec1PEM[:len(sec1PEM):len(sec1PEM)], sec1PEM...), account.ReasonAccountKeyInvalid},
		"a certificate":    {encode("CERTIFICATE", []byte("hunter2hunter2"), nil), account.ReasonAccountKeyInvalid},
		"an empty entry":   {[]byte(" \n"), remote.ReasonSecretIncomplete},
		"a Secret missing": {nil, remote.ReasonSecretNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			ref := &v1alpha1.SecretKeyRef{Name: strings.ToLower(strings.NewReplacer(" ", "-", "#", "").Replace(name)), Key: "key"}
			if c.key != nil {
				if err := r.cluster.Create(t.Context(), secret(ref.Name, "key", c.key)); err != nil {
					t.Fatal(err)
				}
			}
			imported := newRig(t, r.cluster, pebble.Server, func(c *v1alpha1.ACME) { c.AccountKeyRef = ref })
			err := imported.Check(t.Context())
			if c.reason != "" {
				checkReason(t, err, c.reason, ref.Name)
				if strings.Contains(err.Error(), "hunter2") {
					t.Error("the error holds what the Secret does")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := imported.sign(t, request(t, "web.example.com")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestServerThatIsNotThere(t *testing.T) {
	t.Parallel()
	r, pebble := start(t, acmetest.PebbleConfig{})
	pebble.Kill()
	checkReason(t, r.Check(t.Context()), acme.ReasonServerUnreachable, "connection refused")
	_, err := r.Sign(t.Context(), request(t, "web.example.com"))
	trouble(t, err)
}
