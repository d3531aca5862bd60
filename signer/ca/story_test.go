// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	signerverify "github.com/certwright/certwright/signer/verify"
)

// death ends a process at one of its writes: before it is made, or after it is made and before the answer comes. A process that is dead
// writes nothing more.
type death struct {
	mu    sync.Mutex
	at    int // which write; 0 for none
	after bool
	count int
	dead  bool
}

var errDead = errors.New("the process is dead")

func (d *death) around(write func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return errDead
	}
	d.count++
	d.dead = d.count == d.at
	if d.dead && !d.after {
		return errDead
	}
	if err := write(); err != nil || !d.dead {
		return err
	}
	return errDead
}

// die reports whether the process has died, and lets another one begin.
func (d *death) die() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	was := d.dead
	d.dead = false
	return was
}

const (
	propagation = time.Minute
	lifetime    = 10 * time.Minute
)

// quick has a CA's rotation take minutes.
func quick(config v1alpha1.CA) v1alpha1.CA {
	config.TrustPropagation = metav1.Duration{Duration: propagation}
	return config
}

// published is a bundle and since when it was published.
type published struct {
	anchors []*x509.Certificate
	since   time.Time
}

// story is a signer that lives through a rotation while others verify what it signs.
type story struct {
	*world
	*process
	bundle   *bundle
	deaths   int
	bundles  []published
	chains   [][]*x509.Certificate
	verified map[string]bool
	// phases are those that the status named, in order, each once.
	phases []string
	// current leaves out those verifiers who know an old bundle only, emergency also what was signed before.
	current, emergency bool
	// holds lets nothing be signed for want of the CA of before; held is how often that was so.
	holds bool
	held  int
}

func newStory(t testing.TB, config v1alpha1.CA, objects ...client.Object) *story {
	t.Helper()
	ctrl.SetLogger(logr.Discard()) // the dead complain
	s := &story{world: newWorld(t, quick(config), false, objects...), verified: map[string]bool{}}
	s.world.limit(lifetime)
	s.bundle = &bundle{publish: s.death.around}
	s.process = s.world.process(s.bundle)
	return s
}

// limit sets how long certificates may live.
func (w *world) limit(d time.Duration) {
	w.t.Helper()
	o := w.signer()
	o.Spec.Limits.MaxDuration = metav1.Duration{Duration: d}
	o.Generation++
	if err := w.outside.Update(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

// say says something to the Signer's backends as a person would.
func (w *world) say(annotation, value string) {
	w.t.Helper()
	o := w.signer()
	metav1.SetMetaDataAnnotation(&o.ObjectMeta, annotation, value)
	if err := w.outside.Update(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

// known is what the status says of the backend.
func (s *story) known() v1alpha1.BackendStatus {
	s.t.Helper()
	all := s.signer().Status.Backends
	if len(all) == 0 {
		return v1alpha1.BackendStatus{}
	}
	return all[0]
}

// step has the process look once, signs, checks what everybody can verify, and lets the time pass until the process wants to look again.
func (s *story) step() {
	s.t.Helper()
	result, err := s.status.Reconcile(s.t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: "internal"}})
	s.note()
	if err == nil && len(s.bundle.anchors) > 0 {
		s.issue()
	}
	if s.death.die() {
		s.deaths++
		s.process = s.world.process(s.bundle)
	} else if err != nil {
		s.t.Fatalf("the process is in trouble: %v", err)
	}
	if !s.emergency {
		s.check()
	}
	s.clock.Step(max(result.RequeueAfter, time.Second))
}

// note notes what the bundle and the status are now.
func (s *story) note() {
	now := s.clock.Now()
	if n := len(s.bundles); len(s.bundle.anchors) > 0 && (n == 0 || !slices.EqualFunc(s.bundles[n-1].anchors, s.bundle.anchors, (*x509.Certificate).Equal)) {
		s.bundles = append(s.bundles, published{s.bundle.anchors, now})
	}
	phase := "idle"
	if r := s.known().Rotation; r != nil {
		phase = string(r.Phase)
	}
	if n := len(s.phases); n == 0 || s.phases[n-1] != phase {
		s.phases = append(s.phases, phase)
	}
}

// issue signs a certificate, which whoever has the current bundle must be able to verify.
func (s *story) issue() {
	s.t.Helper()
	req := s.request(lifetime)
	chain, err := s.process.Sign(s.t.Context(), req)
	if errors.Is(err, errDead) {
		return
	}
	if check := (*signer.CheckError)(nil); s.holds && errors.As(err, &check) && check.Reason == "RootNotPropagated" {
		s.held++
		return
	}
	if err != nil {
		s.t.Fatalf("Sign at %s: %v", s.clock.Now(), err)
	}
	if _, err := signerverify.Chain(chain, s.bundle.anchors, req, s.clock.Now()); err != nil {
		s.t.Fatalf("the signer does not take the chain at %s: %v", s.clock.Now(), err)
	}
	s.chains = append(s.chains, chain)
}

// check has everybody verify all certificates that have not expired: those who have the current bundle, and those who have not learned yet
// of what was published within the time that they have for that.
func (s *story) check() {
	s.t.Helper()
	now := s.clock.Now()
	s.chains = slices.DeleteFunc(s.chains, func(chain []*x509.Certificate) bool { return now.After(chain[0].NotAfter) })
	for i, b := range s.bundles {
		last := i == len(s.bundles)-1
		if !last && (s.current || s.bundles[i+1].since.Before(now.Add(-propagation))) {
			continue
		}
		for _, chain := range s.chains {
			pair := fmt.Sprintf("%d/%s", i, chain[0].SerialNumber)
			if !s.verified[pair] {
				if err := verify(chain, b.anchors, now); err != nil {
					s.t.Errorf("after %s, phases %v, a chain of %d of %s: whoever has bundle %d of %d cannot verify it: %v", now.Sub(start), s.phases, len(chain), chain[0].NotBefore, i+1, len(s.bundles), err)
				}
				s.verified[pair] = true
			}
		}
	}
}

func verify(chain, anchors []*x509.Certificate, now time.Time) error {
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now}
	for _, c := range anchors {
		o.Roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(o)
	return err
}

// until goes on until something is so.
func (s *story) until(what string, is func() bool) {
	s.t.Helper()
	for range 600 {
		if s.step(); is() {
			return
		}
	}
	s.t.Fatalf("it never comes to this: %s; after phases %v the backend is %+v", what, s.phases, s.known())
}

// phase reports whether the status names a phase; idle is one.
func (s *story) phase(phase string) func() bool {
	return func() bool { return len(s.phases) > 0 && s.phases[len(s.phases)-1] == phase }
}
