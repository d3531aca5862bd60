// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/status"
)

// rotateRoot has the root replaced on a person's word, and goes on until that is done.
func (s *story) rotateRoot() (old, root *x509.Certificate) {
	s.t.Helper()
	s.until("a CA", func() bool { return s.known().Root != "" })
	old = s.bundle.anchors[0]
	s.say(v1alpha1.AnnotationRotateRoot, fingerprint(old))
	s.until("another root alone", func() bool {
		k := s.known()
		return k.Root != fingerprint(old) && k.Rotation == nil && len(s.bundle.anchors) == 1
	})
	return old, s.bundle.anchors[0]
}

// wantDone checks what every rotation ends with.
func (s *story) wantDone(old, root *x509.Certificate) {
	s.t.Helper()
	secret := s.secret(secretName)
	if got, want := slices.Sorted(maps.Keys(secret.Data)), []string{"root.crt", "root.key", "rotation.json", "tls.crt", "tls.key"}; !slices.Equal(got, want) {
		s.t.Errorf("the Secret has the keys %q, want %q", got, want)
	}
	if got := string(secret.Data["rotation.json"]); got != `{"longest":"10m0s"}` {
		s.t.Errorf("the Secret says %s", got)
	}
	if root.Equal(old) || string(secret.Data["root.crt"]) != string(pemCerts(&issuer{cert: root})) {
		s.t.Error("the Secret has another root than the bundle, or the old one")
	}
	k := s.known()
	if k.Root != fingerprint(root) || k.Rotation != nil || k.State != v1alpha1.BackendServing || k.Message != "" {
		s.t.Errorf("the status says %+v", k)
	}
	chain := s.mustSignBy(s.process)
	if len(chain) != 2 || fingerprint(chain[1]) != k.Issuer || chain[1].CheckSignatureFrom(root) != nil {
		s.t.Errorf("a chain of %d certificates, want leaf and intermediate of the new root, as the status says", len(chain))
	}
}

func (s *story) mustSignBy(p *process) []*x509.Certificate {
	s.t.Helper()
	chain, err := p.Sign(s.t.Context(), s.request(lifetime))
	if err != nil {
		s.t.Fatal(err)
	}
	return chain
}

func TestRotateRoot(t *testing.T) {
	s := newStory(t, managed())
	old, root := s.rotateRoot()
	s.wantDone(old, root)
	if want := []string{"idle", "Publishing", "Signing", "idle"}; !slices.Equal(s.phases, want) {
		t.Errorf("phases %v, want %v", s.phases, want)
	}
	// What was published: the old one, both, and the new one. Both do not change places in it, for who reads only the first.
	var sizes []int
	for _, b := range s.bundles {
		sizes = append(sizes, len(b.anchors))
	}
	if want := []int{1, 2, 2, 1}; !slices.Equal(sizes, want) {
		t.Errorf("bundles of %d roots were published, want %d", sizes, want)
	}
	if waited := s.bundles[2].since.Sub(s.bundles[1].since); waited < propagation {
		t.Errorf("the new root signed %s after it was published, want %s", waited, propagation)
	}
	if waited := s.bundles[3].since.Sub(s.bundles[2].since); waited < lifetime {
		t.Errorf("the old root was dropped after %s, want %s", waited, lifetime)
	}
	var events eventsv1.EventList
	if err := s.client.List(t.Context(), &events); err != nil {
		t.Fatal(err)
	}
	told := map[string]int{}
	for _, e := range events.Items {
		told[e.Reason]++
		if e.Type != "Normal" || e.Regarding.Kind != "Signer" || !strings.Contains(e.Note, fingerprint(old)) || !strings.Contains(e.Note, fingerprint(root)) {
			t.Errorf("event %s %s: %s", e.Type, e.Reason, e.Note)
		}
	}
	if want := map[string]int{status.ReasonRotationPublishing: 1, status.ReasonRotationSigning: 1, status.ReasonRotationFinished: 1}; !maps.Equal(told, want) {
		t.Errorf("events %v, want %v", told, want)
	}
	// The word was about the root that is gone.
	for range 100 {
		s.step()
	}
	if len(s.bundles) != 4 {
		t.Errorf("what was said about the old root was heard again: %v", s.phases)
	}
}

func TestRootIsReplacedInTime(t *testing.T) {
	config := managed()
	config.Managed.RootDuration = metav1.Duration{Duration: 90 * time.Minute}
	config.Managed.IntermediateDuration = metav1.Duration{Duration: time.Hour}
	s := newStory(t, config)
	for s.clock.Now().Before(start.Add(10 * time.Hour)) {
		s.step()
	}
	if n := len(s.bundles); n < 4*7 || n > 4*11 {
		t.Errorf("%d bundles in 10 hours, phases %v", n, s.phases)
	}
}

// Whoever is killed at any write leaves behind what the next one goes on with, to the same end.
func TestRotationSurvivesDeathAtEveryWrite(t *testing.T) {
	once := newStory(t, managed())
	once.rotateRoot()
	writes := once.death.count
	if writes < 10 {
		t.Fatalf("%d writes are too few for a rotation", writes)
	}
	for at := range writes {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d, made %t", at+1, after), func(t *testing.T) {
				s := newStory(t, managed())
				s.death.at, s.death.after = at+1, after
				old, root := s.rotateRoot()
				s.step()
				s.step()
				s.wantDone(old, root)
				if s.deaths != 1 {
					t.Errorf("%d deaths, want one", s.deaths)
				}
			})
		}
	}
}

func TestCompromisedSurvivesDeathAtEveryWrite(t *testing.T) {
	emergency := func(s *story, setUp func(*death)) (old []*x509.Certificate) {
		s.until("both roots", s.begun("Publishing"))
		old = s.bundle.anchors
		s.say(v1alpha1.AnnotationCompromisedRoot, fingerprint(old[0]))
		s.emergency = true
		s.death.count = 0
		setUp(&s.death)
		s.until("another root alone", func() bool {
			k := s.known()
			return !slices.ContainsFunc(old, func(c *x509.Certificate) bool { return fingerprint(c) == k.Root }) && len(s.bundle.anchors) == 1
		})
		return old
	}
	once := newStory(t, managed())
	emergency(once, func(*death) {})
	for at := range once.death.count {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d, made %t", at+1, after), func(t *testing.T) {
				s := newStory(t, managed())
				old := emergency(s, func(d *death) { d.at, d.after = at+1, after })
				s.step()
				s.step()
				s.wantDone(old[0], s.bundle.anchors[0])
				s.wantDone(old[1], s.bundle.anchors[0])
			})
		}
	}
}

// begun says a word about the first root and returns what is so when the phase has come.
func (s *story) begun(phase string) func() bool {
	s.t.Helper()
	s.until("a CA", func() bool { return s.known().Root != "" })
	s.say(v1alpha1.AnnotationRotateRoot, s.known().Root)
	return s.phase(phase)
}

func TestCompromisedRoot(t *testing.T) {
	for name, c := range map[string]struct {
		phase string
		names func(s *story) string
	}{
		"in use":                         {"idle", func(s *story) string { return s.known().Root }},
		"the old one while publishing":   {"Publishing", func(s *story) string { return s.known().Rotation.OldRoot }},
		"the next one while publishing":  {"Publishing", func(s *story) string { return s.known().Rotation.NewRoot }},
		"the old one that signs no more": {"Signing", func(s *story) string { return s.known().Rotation.OldRoot }},
		"the new one that signs":         {"Signing", func(s *story) string { return s.known().Rotation.NewRoot }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t, managed())
			s.until("the phase", func() bool { return s.known().Root != "" })
			if c.phase != "idle" {
				s.until("the phase", s.begun(c.phase))
			}
			before := s.bundle.anchors
			stolen := s.mustSignBy(s.process)
			s.clock.Step(5 * time.Second)
			s.say(v1alpha1.AnnotationCompromisedRoot, c.names(s))
			s.emergency = true
			if _, err := s.status.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: "internal"}}); err != nil {
				t.Fatal(err)
			}
			// After one look, nothing of before is trusted, and what is signed verifies.
			now := s.bundle.anchors
			if len(now) != 1 || slices.ContainsFunc(before, now[0].Equal) {
				t.Fatalf("%d roots are published, want a new one", len(now))
			}
			if verify(stolen, now, s.clock.Now()) == nil {
				t.Error("what the compromised root signed is still trusted")
			}
			chain := s.mustSignBy(s.process)
			if err := verify(chain, now, s.clock.Now()); err != nil {
				t.Errorf("what is signed now: %v", err)
			}
			if verify(chain, before, s.clock.Now()) == nil {
				t.Error("the new root is below one of before")
			}
			for range 50 {
				s.step()
			}
			s.wantDone(before[0], now[0])
			var events eventsv1.EventList
			if err := s.client.List(t.Context(), &events); err != nil {
				t.Fatal(err)
			}
			if n := len(slices.DeleteFunc(events.Items, func(e eventsv1.Event) bool { return e.Reason != status.ReasonRootReplaced || e.Type != "Warning" })); n != 1 {
				t.Errorf("it was told %d times", n)
			}
		})
	}
}

// What is said must name what it is about, whole.
func TestWordsThatMeanNothing(t *testing.T) {
	s := newStory(t, managed())
	s.until("a CA", func() bool { return s.known().Root != "" })
	before := s.secret(secretName)
	k := s.known()
	for _, value := range []string{"", "true", k.Root[:63], strings.ToUpper(k.Root) + " ", fingerprint(s.chains[0][0])} {
		for _, annotation := range []string{v1alpha1.AnnotationRotateRoot, v1alpha1.AnnotationRotateIntermediate, v1alpha1.AnnotationCompromisedRoot} {
			s.say(annotation, value)
			s.step()
		}
	}
	// Each kind of CA certificate has its own word.
	s.say(v1alpha1.AnnotationRotateRoot, k.Issuer)
	s.say(v1alpha1.AnnotationRotateIntermediate, k.Root)
	s.say(v1alpha1.AnnotationCompromisedRoot, k.Issuer)
	s.step()
	if after := s.secret(secretName); after.ResourceVersion != before.ResourceVersion || k.Root == "" || k.Issuer == "" {
		t.Errorf("the Secret was written to; the status says %+v", k)
	}
}

func TestRotateIntermediate(t *testing.T) {
	for _, phase := range []string{"idle", "Publishing", "Signing"} {
		t.Run(phase, func(t *testing.T) {
			s := newStory(t, managed())
			s.until("a CA", func() bool { return s.known().Root != "" })
			if phase != "idle" {
				s.until("the phase", s.begun("Publishing"))
				s.until("the phase", s.phase(phase))
			}
			before := s.known()
			s.say(v1alpha1.AnnotationRotateIntermediate, before.Issuer)
			s.until("another intermediate", func() bool { return s.known().Issuer != before.Issuer })
			after := s.known()
			if after.Root != before.Root || !sameRotation(after.Rotation, before.Rotation) {
				t.Errorf("the status says %+v, before it was %+v", after, before)
			}
			// The word was about the one that is gone.
			s.step()
			s.step()
			if now := s.known(); s.phase(phase)() && now.Issuer != after.Issuer {
				t.Error("what was said was heard again")
			}
		})
	}
}

func sameRotation(a, b *v1alpha1.Rotation) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Phase == b.Phase && a.OldRoot == b.OldRoot && a.NewRoot == b.NewRoot && a.Since.Equal(&b.Since)
}

// The wait begins when both roots are seen in the cluster, and not before.
func TestOutageOfPublishing(t *testing.T) {
	s := newStory(t, managed())
	s.until("a CA", func() bool { return s.known().Root != "" })
	old := s.bundle.anchors
	s.bundle.publish = func(func() error) error { return nil } // it says that it did
	s.say(v1alpha1.AnnotationRotateRoot, fingerprint(old[0]))
	for range 100 {
		s.step()
	}
	if r := s.known().Rotation; r == nil || r.Phase != v1alpha1.RotationPublishing || r.Until != nil || s.clock.Since(r.Since.Time) < 10*propagation {
		t.Fatalf("nothing was published for long, and the status says %+v", r)
	}
	s.bundle.publish = s.death.around
	published := s.clock.Now()
	s.until("the new root signs", s.phase("Signing"))
	if waited := s.clock.Since(published); waited < propagation {
		t.Errorf("it signed after %s", waited)
	}
	// A bundle that is put back to what it was is what everybody reads.
	t.Run("taken away", func(t *testing.T) {
		s := newStory(t, managed())
		s.until("both", s.begun("Publishing"))
		s.until("seen", func() bool { return s.known().Rotation.Until != nil })
		s.bundle.publish = func(func() error) error { return nil }
		s.bundle.anchors = s.bundle.anchors[:1]
		for range 30 {
			s.step()
		}
		if !s.phase("Publishing")() {
			t.Errorf("phases %v, although the new root is not published any more", s.phases)
		}
	})
}

// Certificates below the old root live as long as was ever granted, whatever the limit is now.
func TestLongestLifetimeIsRemembered(t *testing.T) {
	s := newStory(t, managed())
	s.until("a CA", func() bool { return s.known().Root != "" })
	s.world.limit(2 * time.Hour)
	s.step()
	long, err := s.process.Sign(t.Context(), s.request(2*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	s.chains = append(s.chains, long)
	s.world.limit(lifetime)
	s.process = s.world.process(s.bundle)
	s.rotateRoot()
	if s.clock.Now().Before(long[0].NotAfter) {
		t.Errorf("the old root was dropped at %s, and what it signed lives until %s", s.clock.Now(), long[0].NotAfter)
	}
	// The next one need not wait for what the first root signed.
	began := s.clock.Now()
	s.rotateRoot()
	if took := s.clock.Since(began); took > time.Hour {
		t.Errorf("the second rotation took %s", took)
	}
}

// A lifetime is written down before a certificate has it.
func TestLifetimeIsWrittenDownFirst(t *testing.T) {
	w := newWorld(t, managed(), false)
	w.begin(time.Hour)
	w.death.at, w.death.count = 1, 0
	if chain, err := w.sign(2 * time.Hour); err == nil {
		t.Errorf("signed until %s, and nothing was written", chain[0].NotAfter)
	}
	w.death.die()
	w.mustSign(2 * time.Hour)
	if got := string(w.secret(secretName).Data["rotation.json"]); got != `{"longest":"2h0m0s"}` {
		t.Errorf("the Secret says %s", got)
	}
	// What cannot be written down is not granted.
	w.change(secretName, func(d map[string][]byte) { delete(d, "root.key") })
	if leaf := w.mustSign(3 * time.Hour)[0]; leaf.NotAfter.After(w.clock.Now().Add(2 * time.Hour)) {
		t.Errorf("the last good CA signed until %s", leaf.NotAfter)
	}
}
