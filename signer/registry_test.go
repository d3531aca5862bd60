// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/certwright/certwright/api/v1alpha1"
)

// called gives a Signer another name, UID and age.
func called(s *v1alpha1.Signer, name string, uid types.UID, age time.Duration) *v1alpha1.Signer {
	s.Name, s.UID, s.CreationTimestamp = name, uid, metav1.NewTime(now.Add(-age))
	return s
}

func TestOldestSignerOwnsASignerName(t *testing.T) {
	for name, c := range map[string]struct {
		signers []*v1alpha1.Signer
		want    string
	}{
		"the only one": {[]*v1alpha1.Signer{called(newSigner("local"), "b", "1", time.Hour)}, "b"},
		"the older of two": {[]*v1alpha1.Signer{
			called(newSigner("local"), "a", "1", time.Minute), called(newSigner("local"), "b", "2", time.Hour),
		}, "b"},
		"of the same second, the first by name": {[]*v1alpha1.Signer{
			called(newSigner("local"), "b", "1", time.Hour), called(newSigner("local"), "a", "2", time.Hour),
		}, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for _, s := range c.signers {
				if err := w.Client.Create(t.Context(), s); err != nil {
					t.Fatal(err)
				}
			}
			s, err := w.Registry.Lookup(t.Context(), signerName)
			if err != nil || s == nil || s.name != c.want {
				t.Errorf("found %v, error %v, want %s", s, err, c.want)
			}
		})
	}
}

func TestSignerNameOfNobody(t *testing.T) {
	w := newWorld(t, newSigner("local"))
	if s, err := w.Registry.Lookup(t.Context(), "example.com/other"); s != nil || err != nil {
		t.Errorf("found %v, error %v, want neither", s, err)
	}
}

func TestBackendsAreMadeAnewWhenTheSpecChanges(t *testing.T) {
	w := newWorld(t)
	made := 0
	registry := NewRegistry(w.Client, func(*v1alpha1.Signer, v1alpha1.Backend) (Backend, error) {
		made++
		return backend(honest), nil
	})
	load := func(s *v1alpha1.Signer, want int, backends int) {
		t.Helper()
		loaded, err := registry.load(s)
		if err != nil || made != want || len(loaded.backends) != backends {
			t.Fatalf("%d backends made, error %v, want %d", made, err, want)
		}
	}
	one, two := newSigner("local"), newSigner("local", "second")
	two.Generation = 2
	other := called(newSigner("local"), "internal", "signer-2", 0) // deleted and made again
	load(one, 1, 1)
	load(one, 1, 1)
	load(two, 3, 2)
	load(two, 3, 2)
	load(one, 3, 2) // as a stale cache shows it
	load(other, 4, 1)
}

func TestSignerThatCannotBeMadeReady(t *testing.T) {
	for name, c := range map[string]struct {
		change       func(*v1alpha1.Signer)
		reason, text string
	}{
		"invalid limits":         {func(s *v1alpha1.Signer) { s.Spec.Limits.PermittedIPRanges = []string{"nonsense"} }, ReasonLimitsInvalid, "permittedIPRanges[0]"},
		"an invalid backend":     {func(s *v1alpha1.Signer) { s.Spec.Backends[0].Name = "nobody" }, ReasonBackendInvalid, "backend nobody: there is no backend nobody"},
		"no backends":            {func(s *v1alpha1.Signer) { s.Spec.Backends = nil }, ReasonBackendInvalid, "spec.backends is empty"},
		"a signer of Kubernetes": {func(s *v1alpha1.Signer) { s.Spec.SignerName = "kubernetes.io/kube-apiserver-client" }, ReasonSignerNameReserved, "belongs to Kubernetes"},
		"one of its subdomains":  {func(s *v1alpha1.Signer) { s.Spec.SignerName = "x.kubernetes.io/serving" }, ReasonSignerNameReserved, "belongs to Kubernetes"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSigner("local")
			c.change(s)
			w := newWorld(t, s)
			loaded, err := w.Registry.Lookup(t.Context(), s.Spec.SignerName)
			check := (*CheckError)(nil)
			if loaded != nil || !errors.As(err, &check) || check.Reason != c.reason || !strings.Contains(err.Error(), c.text) {
				t.Errorf("found %v, error %v, want a CheckError of reason %s with %q", loaded, err, c.reason, c.text)
			}
		})
	}
}

// A Signer whose new generation is wrong does not go on with the old limits: somebody may just have made them narrower.
func TestInvalidGenerationDoesNotSignWithTheOldLimits(t *testing.T) {
	w := newWorld(t, newSigner("local"))
	if _, err := w.Registry.Lookup(t.Context(), signerName); err != nil {
		t.Fatal(err)
	}
	changed := newSigner("local")
	changed.Generation, changed.Spec.Limits.PermittedDNSDomains = 2, []string{"Example.com"}
	if s, err := w.Registry.load(changed); err == nil {
		t.Errorf("got %v without an error", s)
	}
}

func TestFormerSigners(t *testing.T) {
	w := newWorld(t)
	for _, s := range []*v1alpha1.Signer{
		called(newSigner("local"), "a", "1", 0), called(newSigner("local"), "a", "2", 0), called(newSigner("local"), "b", "3", 0),
	} {
		if _, err := w.Registry.load(s); err != nil {
			t.Fatal(err)
		}
	}
	if gone := w.Registry.former("a", "2"); len(gone) != 1 || gone["1"] != signerName {
		t.Errorf("gone are %v, want the one with UID 1", gone)
	}
	if gone := w.Registry.former("a", ""); len(gone) != 2 {
		t.Errorf("gone are %v, want both of name a", gone)
	}
	w.Registry.forget("1")
	if gone := w.Registry.former("a", "2"); len(gone) != 0 {
		t.Errorf("gone are %v after they were forgotten", gone)
	}
}
