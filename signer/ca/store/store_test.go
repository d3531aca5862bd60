// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca/entry"
)

var key = client.ObjectKey{Namespace: "certwright-system", Name: "certwright-ca-internal.local"}

// cluster is an API server with a cache that shows what it is told to.
type cluster struct {
	client.WithWatch
	// shows, if set, is the Secret that the cache shows; a Secret without a name is none.
	shows *corev1.Secret
}

func newStore(t *testing.T) (*Store, *cluster) {
	t.Helper()
	c := &cluster{WithWatch: fake.NewClientBuilder().Build()}
	cached := interceptor.NewClient(c.WithWatch, interceptor.Funcs{
		Get: func(ctx context.Context, w client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if c.shows == nil {
				return w.Get(ctx, key, o, opts...)
			}
			if c.shows.Name == "" {
				return apierrors.NewNotFound(corev1.Resource("secrets"), key.Name)
			}
			c.shows.DeepCopyInto(o.(*corev1.Secret))
			return nil
		},
	})
	return New(cached, c.WithWatch, key, "example.com/internal"), c
}

func data(value string) entry.Data { return entry.Data{"x": []byte(value)} }

// want checks what the Secret is seen to hold.
func want(t *testing.T, s *Store, value string) *corev1.Secret {
	t.Helper()
	secret, err := s.Get(t.Context())
	if err != nil || string(secret.Data["x"]) != value {
		t.Fatalf("the Secret holds %v, error %v, want %s", secret, err, value)
	}
	return secret
}

func TestCacheThatLags(t *testing.T) {
	s, c := newStore(t)
	if _, err := s.Get(t.Context()); !apierrors.IsNotFound(err) {
		t.Fatalf("error %v, want that there is none", err)
	}
	c.shows = &corev1.Secret{}
	if _, err := s.Create(t.Context(), data("0")); err != nil {
		t.Fatal(err)
	}
	first := want(t, s, "0").DeepCopy()
	c.shows = first
	second, err := s.Update(t.Context(), first, data("1"))
	if err != nil {
		t.Fatal(err)
	}
	want(t, s, "1")
	if _, err := s.Update(t.Context(), want(t, s, "1"), data("2")); err != nil {
		t.Fatal(err)
	}
	for _, lags := range []*corev1.Secret{first, second, first} {
		c.shows = lags
		want(t, s, "2")
	}
	// What somebody else wrote is believed, such as a backup that is restored with the very same entries.
	c.shows = nil
	restored := want(t, s, "2").DeepCopy()
	restored.Data = data("1")
	if err := c.Update(t.Context(), restored); err != nil {
		t.Fatal(err)
	}
	want(t, s, "1")
}

func TestOthersWrites(t *testing.T) {
	s, c := newStore(t)
	mine, err := s.Create(t.Context(), data("mine"))
	if err != nil {
		t.Fatal(err)
	}
	if mine.Labels["app.kubernetes.io/managed-by"] != "certwright" || mine.Type != corev1.SecretTypeOpaque {
		t.Errorf("labels %v, type %s", mine.Labels, mine.Type)
	}
	if got, err := s.Create(t.Context(), data("again")); err != nil || string(got.Data["x"]) != "mine" {
		t.Errorf("a second one was created: %v, error %v", got, err)
	}
	others := mine.DeepCopy()
	others.Data = data("other's")
	if err := c.Update(t.Context(), others); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Update(t.Context(), mine, data("mine again")); err != nil || string(got.Data["x"]) != "other's" {
		t.Errorf("it was written over: %v, error %v", got, err)
	}
	want(t, s, "other's")
}

func TestOwnerIsWritten(t *testing.T) {
	s, _ := newStore(t)
	for i, uid := range []types.UID{"1", "2"} {
		s.Owner = &metav1.OwnerReference{APIVersion: "certwright.dev/v1alpha1", Kind: "Signer", Name: "internal", UID: uid}
		secret, err := s.Create(t.Context(), data("x"))
		if err != nil {
			t.Fatal(err)
		}
		if another := s.CheckOwner(secret); (another != nil) != (i > 0) {
			t.Errorf("Signer %s: %v", uid, another)
		}
		if secret, err = s.Update(t.Context(), secret, data("y")); err != nil || s.CheckOwner(secret) != nil || len(secret.OwnerReferences) != 1 {
			t.Errorf("Signer %s: after a write the owners are %v, error %v", uid, secret.OwnerReferences, err)
		}
	}
}

func TestOwner(t *testing.T) {
	s, _ := newStore(t)
	for of, mine := range map[string]bool{"example.com/internal": true, "example.com/other": false, "": false} {
		secret := &corev1.Secret{}
		secret.Annotations = map[string]string{"certwright.dev/signer-name": of}
		err := s.CheckOwner(secret)
		var check *signer.CheckError
		if mine != (err == nil) || err != nil && (!errors.As(err, &check) || check.Reason != reasonSecretOfAnother) {
			t.Errorf("%s: %v", of, err)
		}
	}
	if err := s.CheckOwner(&corev1.Secret{}); err != nil {
		t.Errorf("one that a person restored without its annotations: %v", err)
	}
}
