// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/ca"
	"github.com/certwright/certwright/signer/ca/device"
	"github.com/certwright/certwright/signer/ca/keyuri"
	"github.com/certwright/certwright/signer/signertest"
)

const tokenURI = "pkcs11:token=hsm;object=ca?module-name=softhsm2"

func keyCA(chain ...*issuer) v1alpha1.CA {
	return v1alpha1.CA{Key: &v1alpha1.CAKey{
		URI: tokenURI, PINRef: &v1alpha1.SecretKeyRef{Name: "pin", Key: "user"}, Chain: string(pemCerts(chain...)),
	}}
}

func pinSecret() *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "pin"}, Data: map[string][]byte{"user": []byte("4711\n")}}
}

// openTo opens a key as a device would that has it.
func openTo(key crypto.Signer) ca.OpenKey {
	return func(_ context.Context, uri keyuri.URI, pin string, public crypto.PublicKey) (crypto.Signer, error) {
		if pin != "4711" || uri.String() != tokenURI || !key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(public) {
			return nil, errors.New("asked for another key, or with another PIN")
		}
		return key, nil
	}
}

func (w *world) keyBackend(config v1alpha1.CA, open ca.OpenKey) (*ca.Backend, error) {
	return ca.New(ca.Options{
		Client: w.client, Reader: w.client, Namespace: namespace, Signer: "internal", SignerName: "example.com/internal", Backend: "local",
		CA: config, Clock: w.clock, OpenKey: open,
	})
}

// Keys in real tokens pass the same suite in certwright-kms.
func TestConformanceKey(t *testing.T) {
	signertest.Run(t, func(t *testing.T) signertest.Subject {
		root := newIssuer(t, "Root", "RSA-2048", nil, nil)
		lower := newIssuer(t, "Lower", "ECDSA-P384", root, nil)
		w := newWorld(t, managed(), false, pinSecret())
		b, err := w.keyBackend(keyCA(lower, root), openTo(lower.key))
		if err != nil {
			t.Fatal(err)
		}
		return signertest.Subject{Backend: b, Clock: w.clock}
	})
}

func TestKeyConfiguration(t *testing.T) {
	root := newIssuer(t, "Root", "ECDSA-P256", nil, nil)
	lower := newIssuer(t, "Lower", "ECDSA-P256", root, nil)
	leaf := newIssuer(t, "Leaf", "ECDSA-P256", nil, func(c *x509.Certificate) { c.IsCA = false })
	w := newWorld(t, managed(), false)
	for name, c := range map[string]struct {
		change func(*v1alpha1.CAKey)
		text   string
	}{
		"no scheme":          {func(k *v1alpha1.CAKey) { k.URI = "ca" }, "ca.key.uri: the scheme must be"},
		"PIN in the URI":     {func(k *v1alpha1.CAKey) { k.URI += "&pin-value=hush" }, "ca.key.uri: "},
		"PIN for a cloud":    {func(k *v1alpha1.CAKey) { k.URI = "awskms:key-id=alias/ca" }, "ca.key.pinRef: only tokens"},
		"no name of the PIN": {func(k *v1alpha1.CAKey) { k.PINRef.Name = "" }, "ca.key.pinRef.name"},
		"no key of the PIN":  {func(k *v1alpha1.CAKey) { k.PINRef.Key = "" }, "ca.key.pinRef.key"},
		"no chain":           {func(k *v1alpha1.CAKey) { k.Chain = "x" }, "ca.key.chain: there is no PEM block"},
		"a key in the chain": {func(k *v1alpha1.CAKey) { k.Chain = string(pemKey(t, root.key)) }, "ca.key.chain: PEM block 1"},
		"no root":            {func(k *v1alpha1.CAKey) { k.Chain = string(pemCerts(lower)) }, "ca.key.chain: the last certificate (CN=Lower) is issued by CN=Root"},
		"no CA":              {func(k *v1alpha1.CAKey) { k.Chain = string(pemCerts(leaf)) }, "ca.key.chain: the certificate CN=Leaf is not a CA certificate"},
		"wrong order":        {func(k *v1alpha1.CAKey) { k.Chain = string(pemCerts(root, lower, root)) }, "ca.key.chain: certificate 1"},
	} {
		t.Run(name, func(t *testing.T) {
			config := keyCA(root)
			c.change(config.Key)
			_, err := w.keyBackend(config, openTo(root.key))
			if err == nil || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "hush") {
				t.Errorf("New: %v, want it to say %q", err, c.text)
			}
		})
	}
	t.Run("the lean image", func(t *testing.T) {
		if _, err := w.keyBackend(keyCA(root), nil); err == nil || !strings.Contains(err.Error(), "certwright-kms") {
			t.Errorf("New: %v, want it to name the image", err)
		}
	})
	t.Run("two sources", func(t *testing.T) {
		config := keyCA(root)
		config.SecretRef = &v1alpha1.SecretRef{Name: "x"}
		if _, err := w.keyBackend(config, openTo(root.key)); err == nil || !strings.Contains(err.Error(), "exactly one") {
			t.Errorf("New: %v", err)
		}
	})
}

// What verifiers must trust is known while the device is not there, and nothing is Failed for its absence.
func TestDeviceAway(t *testing.T) {
	root := newIssuer(t, "Root", "ECDSA-P256", nil, nil)
	w := newWorld(t, managed(), false, pinSecret())
	away := errors.New("pulled out")
	b, err := w.keyBackend(keyCA(root), func(context.Context, keyuri.URI, string, crypto.PublicKey) (crypto.Signer, error) {
		return root.key, away
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Sign(t.Context(), w.request(time.Hour))
	wantTrouble(t, err)
	wantReason(t, b.Check(t.Context()), "KeyUnavailable")
	anchors, err := b.TrustAnchors(t.Context())
	if err != nil {
		t.Error(err)
	}
	wantCerts(t, "trust anchors", anchors, []*issuer{root})
	if end, err := b.NotAfter(t.Context()); err != nil || !end.Equal(root.cert.NotAfter) {
		t.Errorf("NotAfter is %s, %v", end, err)
	}
	away = nil
	w.clock.Step(device.RetryPause)
	if _, err := b.Sign(t.Context(), w.request(time.Hour)); err != nil {
		t.Error(err)
	}
	if err := b.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if w.writes != 0 {
		t.Errorf("%d writes: nothing of such a CA is in the API but its certificate", w.writes)
	}
	w.clock.SetTime(root.cert.NotAfter)
	wantReason(t, b.Check(t.Context()), "CAExpiring")
}

func TestPINSecret(t *testing.T) {
	root := newIssuer(t, "Root", "ECDSA-P256", nil, nil)
	w := newWorld(t, managed(), false)
	b, err := w.keyBackend(keyCA(root), openTo(root.key))
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, b.Check(t.Context()), "SecretNotFound")
	secret := pinSecret()
	secret.Data["user"] = []byte("\n")
	if err := w.client.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	w.clock.Step(device.RetryPause)
	wantReason(t, b.Check(t.Context()), "SecretIncomplete")
	w.change("pin", func(d map[string][]byte) { d["user"] = []byte("4711") })
	w.clock.Step(device.RetryPause)
	if err := b.Check(t.Context()); err != nil {
		t.Error(err)
	}
}
