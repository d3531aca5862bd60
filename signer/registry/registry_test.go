// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/internal/example"
	"github.com/certwright/certwright/signer/member"
	"github.com/certwright/certwright/signer/metrics"
)

// world is a registry before a fake API server.
type world struct {
	*example.Cluster
	*Registry
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	w := &world{Cluster: example.NewCluster(t, objects...)}
	w.Registry = w.made(example.Backends{"local": example.Backend(example.Honest)}.New)
	return w
}

// made returns another registry, whose backends are made otherwise.
func (w *world) made(newBackend signer.NewBackend) *Registry {
	return New(w.Client, newBackend, w.Clock, metrics.New(prometheus.NewRegistry()))
}

func TestOldestSignerOwnsASignerName(t *testing.T) {
	for name, c := range map[string]struct {
		signers []*v1alpha1.Signer
		want    string
	}{
		"the only one": {[]*v1alpha1.Signer{example.Called(example.Signer("local"), "b", "1", time.Hour)}, "b"},
		"the older of two": {[]*v1alpha1.Signer{
			example.Called(example.Signer("local"), "a", "1", time.Minute), example.Called(example.Signer("local"), "b", "2", time.Hour),
		}, "b"},
		"of the same second, the first by name": {[]*v1alpha1.Signer{
			example.Called(example.Signer("local"), "b", "1", time.Hour), example.Called(example.Signer("local"), "a", "2", time.Hour),
		}, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for _, s := range c.signers {
				if err := w.Client.Create(t.Context(), s); err != nil {
					t.Fatal(err)
				}
			}
			s, err := w.Lookup(t.Context(), example.SignerName)
			if err != nil || s == nil || s.Name != c.want {
				t.Errorf("found %v, error %v, want %s", s, err, c.want)
			}
		})
	}
}

func TestSignerNameOfNobody(t *testing.T) {
	w := newWorld(t, example.Signer("local"))
	if s, err := w.Lookup(t.Context(), "example.com/other"); s != nil || err != nil {
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
		"one more":           {func(s *v1alpha1.Signer) { s.Spec.Backends = example.Signer("local", "second", "third").Spec.Backends }, []string{"third"}},
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
			r := w.made(func(c signer.BackendConfig) (signer.Backend, error) {
				made = append(made, c.Backend.Name)
				return &example.Able{}, nil
			})
			before, err := r.Load(example.Signer("local", "second"))
			if err != nil {
				t.Fatal(err)
			}
			changed := example.Signer("local", "second")
			changed.Generation = 2
			c.change(changed)
			made = nil
			after, err := r.Load(changed)
			if err != nil || !slices.Equal(made, c.made) {
				t.Fatalf("made anew are %q, error %v, want %q", made, err, c.made)
			}
			if kept := after == before; kept != (changed.Generation < 2) {
				t.Errorf("it is the Signer from before: %t", kept)
			}
			for _, b := range after.Members {
				i := slices.IndexFunc(before.Members, func(old *member.Member) bool { return old.Name() == b.Name() })
				if same := i >= 0 && before.Members[i] == b; same == slices.Contains(c.made, b.Name()) {
					t.Errorf("backend %s is the one before: %t", b.Name(), same)
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
			s := example.Signer("local")
			c.change(s)
			w := newWorld(t, s)
			loaded, err := w.Lookup(t.Context(), s.Spec.SignerName)
			check := (*signer.CheckError)(nil)
			if loaded != nil || !errors.As(err, &check) || check.Reason != c.reason || !strings.Contains(err.Error(), c.text) {
				t.Errorf("found %v, error %v, want a CheckError of reason %s with %q", loaded, err, c.reason, c.text)
			}
		})
	}
}

// A Signer whose new generation is wrong does not go on with the old limits: somebody may just have made them narrower.
func TestInvalidGenerationDoesNotSignWithTheOldLimits(t *testing.T) {
	w := newWorld(t, example.Signer("local"))
	if _, err := w.Lookup(t.Context(), example.SignerName); err != nil {
		t.Fatal(err)
	}
	changed := example.Signer("local")
	changed.Generation, changed.Spec.Limits.PermittedDNSDomains = 2, []string{"Example.com"}
	if s, err := w.Load(changed); err == nil {
		t.Errorf("got %v without an error", s)
	}
}

func TestFormerSigners(t *testing.T) {
	w := newWorld(t)
	for _, s := range []*v1alpha1.Signer{
		example.Called(example.Signer("local"), "a", "1", 0), example.Called(example.Signer("local"), "a", "2", 0), example.Called(example.Signer("local"), "b", "3", 0),
	} {
		if _, err := w.Load(s); err != nil {
			t.Fatal(err)
		}
	}
	if gone := w.Former("a", "2"); len(gone) != 1 || gone["1"] != example.SignerName {
		t.Errorf("gone are %v, want the one with UID 1", gone)
	}
	if gone := w.Former("a", ""); len(gone) != 2 {
		t.Errorf("gone are %v, want both of name a", gone)
	}
	w.Forget("1")
	if gone := w.Former("a", "2"); len(gone) != 0 {
		t.Errorf("gone are %v after they were forgotten", gone)
	}
}

// closing is a backend that counts how often it is closed.
type closing struct {
	example.Backend
	closed atomic.Int64
}

func (c *closing) Close() error {
	c.closed.Add(1)
	return nil
}

func TestBackendsAreClosed(t *testing.T) {
	w := newWorld(t)
	made := map[string]*closing{}
	r := w.made(func(c signer.BackendConfig) (signer.Backend, error) {
		if c.Backend.Name == "bad" {
			var none *closing
			return none, errors.New("boom")
		}
		made[c.Backend.Name] = &closing{}
		return made[c.Backend.Name], nil
	})
	closed := func(name string) int64 { return made[name].closed.Load() }
	s := example.Signer("kept", "gone")
	if _, err := r.Load(s); err != nil {
		t.Fatal(err)
	}
	bad := example.Signer("kept", "new", "bad")
	bad.Generation = 2
	if _, err := r.Load(bad); err == nil || closed("new") != 1 || closed("kept") != 0 || closed("gone") != 0 {
		t.Errorf("error %v, closed are new %d, kept %d, gone %d: want what was made for a Signer that is wrong", err, closed("new"), closed("kept"), closed("gone"))
	}
	changed := example.Signer("kept")
	changed.Generation = 3
	if _, err := r.Load(changed); err != nil || closed("kept") != 0 || closed("gone") != 1 {
		t.Errorf("error %v, closed are kept %d, gone %d", err, closed("kept"), closed("gone"))
	}
	r.Forget(s.UID)
	if closed("kept") != 1 {
		t.Error("the backend of a Signer that is gone was not closed")
	}
	if err := Check(example.Signer("looked at"), r.newBackend); err != nil || closed("looked at") != 1 {
		t.Errorf("error %v: a Signer that was only checked left its backend open", err)
	}
}
