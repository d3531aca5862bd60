// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

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

// A backend knows things that cannot be read again, such as the last good CA when its Secret is broken. To change the limits
// of the Signer, or another backend, must not take that from it.
func TestOnlyBackendsThatChangeAreMadeAnew(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		change func(*v1alpha1.Signer)
		made   []string
	}{
		"nothing":            {func(s *v1alpha1.Signer) { s.Generation = 1 }, nil},
		"limits":             {func(s *v1alpha1.Signer) { s.Spec.Limits.MaxDuration.Duration = time.Hour }, nil},
		"one more":           {func(s *v1alpha1.Signer) { s.Spec.Backends = newSigner("local", "second", "third").Spec.Backends }, []string{"third"}},
		"one less":           {func(s *v1alpha1.Signer) { s.Spec.Backends = s.Spec.Backends[1:] }, nil},
		"the order":          {func(s *v1alpha1.Signer) { slices.Reverse(s.Spec.Backends) }, nil},
		"one backend":        {func(s *v1alpha1.Signer) { s.Spec.Backends[0].CA.Managed.CommonName = "other" }, []string{"local"}},
		"a name":             {func(s *v1alpha1.Signer) { s.Spec.Backends[1].Name = "other" }, []string{"other"}},
		"the limit of CAs":   {func(s *v1alpha1.Signer) { s.Spec.Limits.IsCA = true }, []string{"local", "second"}},
		"all, made anew":     {func(s *v1alpha1.Signer) { s.UID = "signer-2" }, []string{"local", "second"}},
		"less than was seen": {func(s *v1alpha1.Signer) { s.Generation, s.Spec.Backends = 0, nil }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var made []string
			registry := NewRegistry(w.Client, func(c BackendConfig) (Backend, error) {
				made = append(made, c.Backend.Name)
				return &able{}, nil
			}, w.clock, w.Metrics)
			before, err := registry.load(newSigner("local", "second"))
			if err != nil {
				t.Fatal(err)
			}
			changed := newSigner("local", "second")
			changed.Generation = 2
			c.change(changed)
			made = nil
			after, err := registry.load(changed)
			if err != nil || !slices.Equal(made, c.made) {
				t.Fatalf("made anew are %q, error %v, want %q", made, err, c.made)
			}
			if kept := after == before; kept != (changed.Generation < 2) {
				t.Errorf("it is the Signer from before: %t", kept)
			}
			for _, b := range after.members {
				i := slices.IndexFunc(before.members, func(old *member) bool { return old.name == b.name })
				if same := i >= 0 && before.members[i] == b; same == slices.Contains(c.made, b.name) {
					t.Errorf("backend %s is the one before: %t", b.name, same)
				}
			}
		})
	}
}

func TestSignerThatCannotBeMadeReady(t *testing.T) {
	for name, c := range map[string]struct {
		change       func(*v1alpha1.Signer)
		reason, text string
	}{
		"invalid limits": {func(s *v1alpha1.Signer) { s.Spec.Limits.PermittedIPRanges = []string{"nonsense"} }, ReasonLimitsInvalid, "spec.limits.permittedIPRanges[0]: "},
		"names of pods that are none": {func(s *v1alpha1.Signer) {
			s.Spec.PodCertificates = &v1alpha1.PodCertificates{DNSNames: []string{"{svc}.x"}, Usages: s.Spec.Limits.Usages}
		}, ReasonPodCertificatesInvalid, "spec.podCertificates.dnsNames[0]: "},
		"an invalid backend":     {func(s *v1alpha1.Signer) { s.Spec.Backends[0].Name = "nobody" }, ReasonBackendInvalid, `spec.backends[0]: Invalid value: "nobody": there is no backend nobody`},
		"no backends":            {func(s *v1alpha1.Signer) { s.Spec.Backends = nil }, ReasonBackendInvalid, "spec.backends: Required value: at least one is needed"},
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

// Whoever writes a Signer should see all that is wrong with it at once, and each mistake at its field.
func TestCheck(t *testing.T) {
	newBackend := func(c BackendConfig) (Backend, error) {
		if c.Backend.Name != "local" {
			return nil, errors.New("boom")
		}
		return &able{}, nil
	}
	if err := Check(newSigner("local"), newBackend); err != nil {
		t.Errorf("nothing is wrong, but: %v", err)
	}
	s := newSigner("bad", "local", "worse")
	s.Spec.SignerName = "kubernetes.io/kube-apiserver-client"
	s.Spec.Limits.PermittedIPRanges = []string{"nonsense"}
	err := Check(s, newBackend)
	var all utilerrors.Aggregate
	var check *CheckError
	if !errors.As(err, &all) || !errors.As(err, &check) || check.Reason != ReasonSignerNameReserved {
		t.Fatalf("got %#v, want a CheckError for the signerName that holds many", err)
	}
	var got []string
	for _, err := range all.Errors() {
		if one := (*field.Error)(nil); errors.As(err, &one) {
			got = append(got, one.Field)
		}
	}
	if want := []string{"spec.signerName", "spec.limits.permittedIPRanges[0]", "spec.backends[0]", "spec.backends[2]"}; !slices.Equal(got, want) {
		t.Errorf("wrong are %q, want %q", got, want)
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
