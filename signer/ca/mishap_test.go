// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/ca"
	"github.com/certwright/certwright/signer/member"
)

// A Secret that somebody spoils in the middle of a rotation stops it, and nothing else: the last good CA signs, and when the Secret is
// right again, the rotation goes on.
func TestTamperedWhileRotating(t *testing.T) {
	for _, phase := range []string{"Publishing", "Signing"} {
		for name, spoil := range map[string]func(map[string][]byte){
			"the phase":      func(d map[string][]byte) { d["rotation.json"] = []byte(`{"phase":"Done"}`) },
			"everything":     func(d map[string][]byte) { clear(d) },
			"the cross":      func(d map[string][]byte) { d["cross.crt"] = d["root.crt"] },
			"the root's key": func(d map[string][]byte) { d["root.key"] = d["tls.key"] },
			"a root of mine": func(d map[string][]byte) {
				mine := pemCerts(newIssuer(t, "Mine", "ECDSA-P256", nil, nil))
				for _, name := range []string{"next-root.crt", "old-root.crt"} {
					if d[name] != nil {
						d[name] = mine
					}
				}
			},
		} {
			t.Run(phase+"/"+name, func(t *testing.T) {
				s := newStory(t, managed())
				s.until("the phase", s.begun("Publishing"))
				if phase == "Signing" {
					s.until("the phase", s.phase(phase))
				}
				anchors, good := s.bundle.anchors, s.secret(secretName)
				bad := good.DeepCopy()
				spoil(bad.Data)
				if err := s.outside.Update(t.Context(), bad); err != nil {
					t.Fatal(err)
				}
				for range 40 { // long enough for each phase to be over
					s.step()
				}
				if k := s.known(); k.Reason != "ServingLastGoodCA" || !slices.EqualFunc(s.bundle.anchors, anchors, (*x509.Certificate).Equal) || s.secret(secretName).ResourceVersion != bad.ResourceVersion {
					t.Errorf("the status says %+v, %d roots are published", k, len(s.bundle.anchors))
				}
				bad.Data = good.Data
				if err := s.outside.Update(t.Context(), bad); err != nil {
					t.Fatal(err)
				}
				s.until("the end", func() bool { return s.phase("idle")() && len(s.bundle.anchors) == 1 })
				if !s.bundle.anchors[0].Equal(newRoot(anchors, phase)) {
					t.Error("it ended with another root than it began with")
				}
			})
		}
	}
}

// newRoot is the one of two anchors that stays.
func newRoot(anchors []*x509.Certificate, phase string) *x509.Certificate {
	if phase == "Publishing" {
		return anchors[1]
	}
	return anchors[0]
}

// A CA that is lost is not replaced by the way, whatever is due or asked.
func TestNothingBeginsWhileTheSecretIsLost(t *testing.T) {
	for _, phase := range []string{"idle", "Publishing", "Signing"} {
		t.Run(phase, func(t *testing.T) {
			s := newStory(t, managed())
			s.until("a CA", func() bool { return s.known().Root != "" })
			if phase != "idle" {
				s.until("the phase", s.begun("Publishing"))
				s.until("the phase", s.phase(phase))
			}
			before, anchors := s.known(), s.bundle.anchors
			s.loseSecret()
			s.say(v1alpha1.AnnotationRotateRoot, before.Root)
			s.say(v1alpha1.AnnotationRotateIntermediate, before.Issuer)
			s.say(v1alpha1.AnnotationCompromisedRoot, before.Root)
			for range 30 {
				s.step()
			}
			if k := s.known(); k.Reason != "ServingLastGoodCA" || k.Root != before.Root || s.hasSecret() || len(s.bundle.anchors) != len(anchors) {
				t.Errorf("the status says %+v, a Secret: %t, %d roots are published", k, s.hasSecret(), len(s.bundle.anchors))
			}
			// A person's word about the lost root still lets a new CA begin, of which nobody has said anything.
			s.emergency = true
			s.say("certwright.dev/new-ca", before.Root)
			s.until("a new CA", func() bool { return s.known().Root != before.Root && len(s.bundle.anchors) == 1 })
			for range 30 {
				s.step()
			}
			if k := s.known(); k.Rotation != nil || k.Message != "" || slices.ContainsFunc(anchors, s.bundle.anchors[0].Equal) {
				t.Errorf("the status says %+v", k)
			}
		})
	}
}

// Who does not lead reads, and takes no step, whatever is asked or due.
func TestOthersOnlyRead(t *testing.T) {
	config := quick(managed())
	config.Managed.IntermediateDuration.Duration = 100 * 365 * 24 * time.Hour // ends with the root
	w := newManagedWorld(t, config, false)
	roots, err := w.TrustAnchors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.say(v1alpha1.AnnotationRotateRoot, fingerprint(roots[0]))
	w.clock.SetTime(roots[0].NotAfter.Add(-24 * time.Hour))
	follower := w.backend(w.client, config, false)
	for _, read := range []func(context.Context) error{
		follower.Check,
		func(ctx context.Context) error { _, err := follower.TrustAnchors(ctx); return err },
		func(ctx context.Context) error { _, err := follower.NotAfter(ctx); return err },
	} {
		if err := read(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if w.writes != 1 {
		t.Errorf("%d writes, want the one that made the CA", w.writes)
	}
}

// frozen is a cache that shows what it showed once, until it is let go.
type frozen struct {
	client.Client
	mu   sync.Mutex
	seen map[client.ObjectKey]*corev1.Secret
}

func (f *frozen) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	secret, ok := o.(*corev1.Secret)
	if !ok || f.seen == nil {
		return f.Client.Get(ctx, key, o, opts...)
	}
	if f.seen[key] == nil {
		f.seen[key] = &corev1.Secret{}
		if err := f.Client.Get(ctx, key, f.seen[key], opts...); err != nil {
			return err
		}
	}
	f.seen[key].DeepCopyInto(secret)
	return nil
}

func (f *frozen) freeze(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = nil
	if on {
		f.seen = map[client.ObjectKey]*corev1.Secret{}
	}
}

// A cache that lags behind does not bring back a CA that was replaced a moment ago, least of all a compromised one.
func TestStaleCacheBringsNothingBack(t *testing.T) {
	w := newWorld(t, quick(managed()), false)
	cache := &frozen{Client: w.client}
	b := w.backend(cache, w.config, false)
	w.Backend = b
	w.begin(lifetime)
	old := w.mustSign(lifetime)[1]
	anchors, err := b.TrustAnchors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cache.freeze(true)
	if err := b.Check(t.Context()); err != nil { // it has seen what it goes on to show
		t.Fatal(err)
	}
	ask := w.ask(b.TrustAnchors, map[string]string{v1alpha1.AnnotationCompromisedRoot: fingerprint(anchors[0])})
	if r, err := b.Rotate(t.Context(), ask); err != nil || !r.Changed || r.Issuer.Equal(old) {
		t.Fatalf("Rotate: %+v, %v", r, err)
	}
	for range 3 {
		if by := w.mustSign(lifetime)[1]; by.Equal(old) {
			t.Fatal("the compromised CA signs")
		}
	}
	if r, err := b.Rotate(t.Context(), ask); err != nil || r.Changed {
		t.Errorf("it was replaced again: %+v, %v", r, err)
	}
	cache.freeze(false)
	if by := w.mustSign(2 * lifetime)[1]; by.Equal(old) {
		t.Error("the compromised CA signs")
	}
}

// Two processes that both believe to lead write over nothing of each other's, and come to the same end.
func TestTwoLeaders(t *testing.T) {
	s := newStory(t, managed())
	s.until("a CA", func() bool { return s.known().Root != "" })
	old := s.bundle.anchors[0]
	cache := &frozen{Client: s.client}
	other := s.backend(cache, s.config, false)
	if err := other.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.say(v1alpha1.AnnotationRotateRoot, fingerprint(old))
	ask := s.ask(func(context.Context) ([]*x509.Certificate, error) { return s.bundle.anchors, nil }, map[string]string{v1alpha1.AnnotationRotateRoot: fingerprint(old)})
	done := func() bool { return s.phase("idle")() && len(s.bundle.anchors) == 1 && !s.bundle.anchors[0].Equal(old) }
	for i := 0; !done(); i++ {
		if i > 200 {
			t.Fatalf("it comes to no end: %v", s.phases)
		}
		cache.freeze(i%3 == 0)
		if err := other.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.step()
		if _, err := other.Rotate(t.Context(), ask); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"idle", "Publishing", "Signing", "idle"}; !slices.Equal(s.phases, want) {
		t.Errorf("phases %v, want %v", s.phases, want)
	}
	cache.freeze(false)
	s.step()
	s.wantDone(old, s.bundle.anchors[0])
}

// jumpy is a clock whose time of day somebody sets, while the time that passes goes on.
type jumpy struct{ passed, offset time.Duration }

func (j *jumpy) Now() time.Time                     { return start.Add(j.passed + j.offset) }
func (j *jumpy) Since(mark time.Time) time.Duration { return start.Add(j.passed).Sub(mark) }

// A clock that jumps while somebody waits makes no wait shorter.
func TestClockJumps(t *testing.T) {
	w := newWorld(t, quick(managed()), false)
	clk := &jumpy{}
	b, err := ca.New(ca.Options{
		Client: w.client, Reader: w.client, Namespace: namespace, Signer: "internal", SignerName: "example.com/internal", Backend: "local", CA: w.config, Clock: clk,
	})
	if err != nil {
		t.Fatal(err)
	}
	ask := w.ask(b.TrustAnchors, nil)
	ask.Time = func(context.Context) (time.Time, error) { return clk.Now(), nil } // on the same machine
	look := func() v1alpha1.RotationPhase {
		t.Helper()
		r, err := b.Rotate(t.Context(), ask)
		if err != nil {
			t.Fatal(err)
		}
		if r.Rotation == nil {
			return ""
		}
		return r.Rotation.Phase
	}
	look()
	roots, err := b.TrustAnchors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask.Annotations = map[string]string{v1alpha1.AnnotationRotateRoot: fingerprint(roots[0])}
	for range 3 {
		look()
	}
	if got := look(); got != v1alpha1.RotationPublishing {
		t.Fatalf("phase %q", got)
	}
	clk.offset = 100 * time.Hour
	if got := look(); got != v1alpha1.RotationPublishing {
		t.Errorf("a clock that jumped ahead ended the wait: %q", got)
	}
	clk.offset = -time.Hour
	if got := look(); got != v1alpha1.RotationPublishing {
		t.Errorf("a clock that jumped back ended the wait: %q", got)
	}
	clk.offset = 0
	clk.passed = 3 * propagation
	if got := look(); got != v1alpha1.RotationSigning {
		t.Errorf("the wait is over, and the phase is %q", got)
	}
	look()
	clk.offset = 100 * time.Hour
	if got := look(); got != v1alpha1.RotationSigning {
		t.Errorf("a clock that jumped ahead dropped the old root: %q", got)
	}
	clk.offset = 0
	clk.passed += lifetime + 2*propagation
	if got := look(); got != "" {
		t.Errorf("the old root may go, and the phase is %q", got)
	}
}

// Who begins to lead on a machine whose clock is ahead has waited for nothing, and asks the API server.
func TestLeaderWithAClockThatIsAhead(t *testing.T) {
	for _, phase := range []string{"Publishing", "Signing"} {
		t.Run(phase, func(t *testing.T) {
			s := newStory(t, managed())
			s.until("the phase", s.begun("Publishing"))
			s.until("the phase", s.phase(phase))
			s.until("the time", func() bool { return s.known().Rotation.Until != nil })
			before := s.bundle.anchors
			s.ahead = 24 * time.Hour
			s.clock.Step(s.ahead)
			s.process = s.world.process(s.bundle)
			s.emergency = true // certificates of today have expired by this clock
			for range 5 {
				s.step()
			}
			if k := s.known(); k.Rotation == nil || string(k.Rotation.Phase) != phase || k.Reason != member.ReasonRotationTrouble || len(s.bundle.anchors) != len(before) {
				t.Errorf("the status says %+v, %d roots are published", k, len(s.bundle.anchors))
			}
			s.clock.Step(-s.ahead)
			s.ahead = 0
			s.process = s.world.process(s.bundle)
			s.until("the end", func() bool { return s.phase("idle")() && len(s.bundle.anchors) == 1 })
			if k := s.known(); k.Message != "" {
				t.Errorf("at last the status says %+v", k)
			}
		})
	}
}

// A root whose time is over, or whose successor cannot be written, is looked at as often as all else.
func TestNoHasteWhereNothingCanBeDone(t *testing.T) {
	config := quick(managed())
	config.Managed.IntermediateDuration.Duration = 100 * 365 * 24 * time.Hour // ends with the root
	w := newManagedWorld(t, config, false)
	roots, err := w.TrustAnchors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := w.ask(w.TrustAnchors, nil)
	if r, err := w.Rotate(t.Context(), ask); err != nil || !r.Next.After(w.clock.Now()) {
		t.Fatalf("at first: %+v, error %v", r, err)
	}
	for name, at := range map[string]time.Time{"expired": roots[0].NotAfter.Add(time.Hour), "due, and not written": roots[0].NotAfter.Add(-time.Hour)} {
		w.clock.SetTime(at)
		w.fail = errors.New("etcd is away")
		r, err := w.Rotate(t.Context(), ask)
		w.fail = nil
		if !r.Next.IsZero() || r.Changed || (err != nil) != (name != "expired") {
			t.Errorf("%s: %+v, error %v", name, r, err)
		}
	}
}

// What is said about two CAs of one Signer is heard by the one that it names.
func TestOneOfTwoRotates(t *testing.T) {
	w := newWorld(t, quick(managed()), false)
	w.limit(lifetime)
	o := w.signer()
	o.Spec.Backends = append(o.Spec.Backends, v1alpha1.Backend{Name: "spare", CA: &w.config})
	o.Generation++
	if err := w.outside.Update(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	published := &bundle{}
	p := w.process(published)
	spare, err := ca.New(ca.Options{
		Client: w.client, Reader: w.client, Namespace: namespace, Signer: "internal", SignerName: "example.com/internal", Backend: "spare", CA: w.config, Clock: w.clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	p.others = map[string]*ca.Backend{"spare": spare}
	look := func(passes time.Duration) []v1alpha1.BackendStatus {
		t.Helper()
		if _, err := p.status.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: "internal"}}); err != nil {
			t.Fatal(err)
		}
		w.clock.Step(passes)
		return w.signer().Status.Backends
	}
	first := look(time.Minute)
	w.say(v1alpha1.AnnotationRotateRoot, first[1].Root)
	seen := map[v1alpha1.RotationPhase]bool{}
	for range 60 {
		now := look(time.Minute)
		if now[0].Root != first[0].Root || now[0].Rotation != nil {
			t.Fatalf("the other one's root is replaced: %+v", now[0])
		}
		if !slices.ContainsFunc(published.anchors, func(c *x509.Certificate) bool { return fingerprint(c) == first[0].Root }) {
			t.Fatal("the other one's root is not published")
		}
		if now[1].Rotation != nil {
			seen[now[1].Rotation.Phase] = true
		}
	}
	if now := look(0); len(seen) != 2 || now[1].Root == first[1].Root || now[1].Rotation != nil || len(published.anchors) != 2 {
		t.Errorf("phases %v, the status says %+v, %d roots are published", seen, now[1], len(published.anchors))
	}
}
