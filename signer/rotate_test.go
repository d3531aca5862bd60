// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// turning is a backend that says what it is told to of its rotation.
type turning struct {
	able
	rotated   Rotated
	rotateErr error
	asked     Rotation
}

func (b *turning) Rotate(_ context.Context, ask Rotation) (Rotated, error) {
	b.asked = ask
	return b.rotated, b.rotateErr
}

func newTurning(issuer, root *authority) *turning {
	return &turning{able: *newAble(now.Add(time.Hour), root.Certificate), rotated: Rotated{Issuer: issuer.Certificate}}
}

// told are the reasons and kinds of the events about rotations since the last time, with what they say.
func (w *watcher) told(t *testing.T) (all []string) {
	t.Helper()
	var list eventsv1.EventList
	if err := w.Client.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	for _, e := range list.Items {
		all = append(all, e.Type+" "+e.Reason+" "+e.Note)
		if err := w.Client.Delete(t.Context(), &e); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestRotationInStatus(t *testing.T) {
	w := newWatcher(t, newSigner("first", "second"))
	b := newTurning(intermediate, root)
	w.backends["first"], w.backends["second"] = b, newAble(now.Add(time.Hour), root.Certificate)
	third, other := newAuthority("third", nil, nil), newAuthority("other intermediate", root, nil)
	oldRoot, newRoot := Fingerprint(root.Certificate), Fingerprint(stranger.Certificate)
	in := func(phase v1alpha1.RotationPhase) *v1alpha1.Rotation {
		return &v1alpha1.Rotation{Phase: phase, Since: metav1.NewTime(now), OldRoot: oldRoot, NewRoot: newRoot}
	}
	for _, step := range []struct {
		name     string
		issuer   *authority
		anchors  []*authority
		rotation *v1alpha1.Rotation
		metric   float64
		event    string // of which reason; none if empty
		kind     string
	}{
		{"at first", intermediate, []*authority{root}, nil, 0, "", ""},
		{"again", intermediate, []*authority{root}, nil, 0, "", ""},
		{"another intermediate", other, []*authority{root}, nil, 0, ReasonIssuerReplaced, "Normal"},
		{"publishing", other, []*authority{root, stranger}, in(v1alpha1.RotationPublishing), 1, ReasonRotationPublishing, "Normal"},
		{"still publishing", other, []*authority{root, stranger}, in(v1alpha1.RotationPublishing), 1, "", ""},
		{"signing", intermediate, []*authority{stranger, root}, in(v1alpha1.RotationSigning), 2, ReasonRotationSigning, "Normal"},
		{"done", intermediate, []*authority{stranger}, nil, 0, ReasonRotationFinished, "Normal"},
		{"compromised", other, []*authority{third}, nil, 0, ReasonRootReplaced, "Warning"},
		{"publishing again", other, []*authority{third, root}, &v1alpha1.Rotation{
			Phase: v1alpha1.RotationPublishing, Since: metav1.NewTime(now), OldRoot: Fingerprint(third.Certificate), NewRoot: oldRoot,
		}, 1, ReasonRotationPublishing, "Normal"},
		{"compromised meanwhile", other, []*authority{stranger}, nil, 0, ReasonRootReplaced, "Warning"},
	} {
		b.rotated.Issuer, b.rotated.Rotation, b.anchors = step.issuer.Certificate, step.rotation, nil
		for _, a := range step.anchors {
			b.anchors = append(b.anchors, a.Certificate)
		}
		if _, err := w.check(t, "internal"); err != nil {
			t.Fatal(err)
		}
		s := w.signer(t, "internal").Status.Backends[0]
		if s.Issuer != Fingerprint(step.issuer.Certificate) || s.Root != Fingerprint(step.anchors[0].Certificate) || (s.Rotation == nil) != (step.rotation == nil) ||
			s.Rotation != nil && s.Rotation.Phase != step.rotation.Phase {
			t.Errorf("%s: the status says %+v", step.name, s)
		}
		if got := w.count(t, "certwright_signer_rotation_phase", signerName, "first"); got != step.metric {
			t.Errorf("%s: the metric says %v", step.name, got)
		}
		switch told := w.told(t); {
		case step.event == "" && len(told) > 0, step.event != "" && (len(told) != 1 || !strings.HasPrefix(told[0], step.kind+" "+step.event+` Backend "first": `)):
			t.Errorf("%s: the events are %q", step.name, told)
		}
	}
	if s := w.signer(t, "internal").Status.Backends[1]; s.Issuer != "" || s.Rotation != nil {
		t.Errorf("of a backend that says nothing the status says %+v", s)
	}
}

// timekeeper is an API server that says what time it is.
type timekeeper struct {
	client.Client
	time time.Time
	err  error
}

func (k *timekeeper) Create(ctx context.Context, o client.Object, opts ...client.CreateOption) error {
	review, ok := o.(*authenticationv1.SelfSubjectReview)
	if !ok {
		return k.Client.Create(ctx, o, opts...)
	}
	review.CreationTimestamp = metav1.NewTime(k.time)
	return k.err
}

// slow is a publisher that knows where its bundles have not arrived.
type slow struct {
	*publisher
	where []string
	err   error
}

func (s *slow) Behind(context.Context, string) ([]string, error) { return s.where, s.err }

func TestRotatorIsToldWhoIsBehind(t *testing.T) {
	for name, c := range map[string]struct {
		publisher Publisher
		behind    bool
	}{
		"one that does not know":   {&publisher{}, false},
		"it arrived":               {&slow{publisher: &publisher{}}, false},
		"it has not arrived":       {&slow{publisher: &publisher{}, where: []string{"namespace legacy"}}, true},
		"nobody knows for trouble": {&slow{publisher: &publisher{}, err: errors.New("503")}, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWatcher(t, newSigner("local"))
			b := newTurning(intermediate, root)
			w.backends["local"], w.status.Publisher = b, c.publisher
			if _, err := w.check(t, "internal"); err != nil {
				t.Fatal(err)
			}
			if got := b.asked.Behind(t.Context()); got != c.behind {
				t.Errorf("behind: %t, want %t", got, c.behind)
			}
		})
	}
}

func TestRotatorIsTold(t *testing.T) {
	s := newSigner("local")
	s.Annotations = map[string]string{v1alpha1.AnnotationRotateRoot: "something"}
	w := newWatcher(t, s)
	b := newTurning(intermediate, root)
	w.backends["local"], w.publisher.current = b, []*x509.Certificate{stranger.Certificate}
	server := &timekeeper{Client: w.Client, time: now.Add(time.Hour)}
	w.status.Client = server
	if _, err := w.check(t, "internal"); err != nil {
		t.Fatal(err)
	}
	if at, err := b.asked.Time(t.Context()); err != nil || !at.Equal(server.time) {
		t.Errorf("the time is %s, error %v, want what the API server says", at, err)
	}
	server.err = errors.New("connection refused")
	if _, err := b.asked.Time(t.Context()); !errors.Is(err, server.err) {
		t.Errorf("error %v, want %v", err, server.err)
	}
	server.time, server.err = time.Time{}, nil
	if at, err := b.asked.Time(t.Context()); err == nil {
		t.Errorf("the API server says nothing, and the time is %s", at)
	}
	if b.asked.Signer != s.UID || b.asked.Annotations[v1alpha1.AnnotationRotateRoot] != "something" || b.asked.MaxDuration != defaultMaxDuration {
		t.Errorf("it was told %+v", b.asked)
	}
	if published, err := b.asked.Published(t.Context()); err != nil || len(published) != 1 || !published[0].Equal(stranger.Certificate) {
		t.Errorf("published are %d certificates, error %v, want what the cluster has", len(published), err)
	}
}

func TestWhenARotationIsLookedAtAgain(t *testing.T) {
	for name, c := range map[string]struct {
		rotated func(at time.Time) Rotated
		want    time.Duration
	}{
		"nothing is known":    {func(time.Time) Rotated { return Rotated{} }, recheck},
		"a step was taken":    {func(time.Time) Rotated { return Rotated{Changed: true} }, soonest},
		"soon":                {func(at time.Time) Rotated { return Rotated{Next: at.Add(10 * time.Second)} }, 10 * time.Second},
		"over":                {func(at time.Time) Rotated { return Rotated{Next: at.Add(-time.Hour)} }, soonest},
		"in years":            {func(at time.Time) Rotated { return Rotated{Next: at.Add(10000 * time.Hour)} }, recheck},
		"at the end of times": {func(time.Time) Rotated { return Rotated{Next: time.Unix(1<<60, 0)} }, recheck},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWatcher(t, newSigner("local"))
			b := newTurning(intermediate, root)
			b.rotated = c.rotated(w.clock.Now().Add(2 * recheck)) // when check looks
			b.rotated.Issuer = intermediate.Certificate
			w.backends["local"] = b
			if result, err := w.check(t, "internal"); err != nil || result.RequeueAfter != c.want {
				t.Errorf("result %v, error %v, want to look again in %s", result, err, c.want)
			}
		})
	}
}

func TestRotationTrouble(t *testing.T) {
	away := errors.New("connection refused")
	for name, c := range map[string]struct {
		err    error
		reason string
	}{
		"plain":         {away, ReasonRotationTrouble},
		"with a reason": {&CheckError{Reason: "CompromisedRootInUse", Err: away, Signs: true}, "CompromisedRootInUse"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWatcher(t, newSigner("local"))
			b := newTurning(intermediate, root)
			w.backends["local"] = b
			b.rotated.Changed = true
			b.rotated.Rotation = &v1alpha1.Rotation{Phase: v1alpha1.RotationPublishing, Since: metav1.NewTime(now), OldRoot: Fingerprint(root.Certificate), NewRoot: "new"}
			if _, err := w.check(t, "internal"); err != nil {
				t.Fatal(err)
			}
			b.rotated, b.rotateErr = Rotated{}, c.err
			if result, err := w.check(t, "internal"); err != nil || result.RequeueAfter != recheck {
				t.Fatalf("result %v, error %v, want to look again in %s", result, err, recheck)
			}
			w.wantReady(t, "internal", metav1.ConditionTrue, ReasonDegraded, "connection refused")
			if s := w.signer(t, "internal").Status.Backends[0]; s.Reason != c.reason || s.State != v1alpha1.BackendServing || s.Rotation == nil || s.Issuer == "" {
				t.Errorf("the status says %+v", s)
			}
			b.rotateErr = nil
			if _, err := w.check(t, "internal"); err != nil {
				t.Fatal(err)
			}
			w.wantReady(t, "internal", metav1.ConditionTrue, ReasonReady, "")
		})
	}
}

// A compromised root must not come back with the bundle that is kept for the sake of a backend that is away.
func TestRootThatIsGoneStaysOut(t *testing.T) {
	third := newAuthority("third", nil, nil)
	for name, c := range map[string]struct {
		had  v1alpha1.BackendStatus // of the one whose root was replaced
		away string                 // root of the other one
		want []string               // besides the new root
	}{
		"its root":       {v1alpha1.BackendStatus{Root: Fingerprint(root.Certificate)}, Fingerprint(stranger.Certificate), []string{"stranger"}},
		"both its roots": {v1alpha1.BackendStatus{Root: Fingerprint(root.Certificate), Rotation: &v1alpha1.Rotation{OldRoot: Fingerprint(root.Certificate), NewRoot: Fingerprint(intermediate.Certificate)}}, Fingerprint(stranger.Certificate), []string{"stranger"}},
		"one of both":    {v1alpha1.BackendStatus{Root: Fingerprint(root.Certificate)}, Fingerprint(root.Certificate), []string{"root", "stranger"}},
		"nobody's":       {v1alpha1.BackendStatus{}, Fingerprint(stranger.Certificate), []string{"root", "stranger"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSigner("first", "second")
			c.had.Name = "first"
			s.Status.TrustBundle = "configmap/" + signerName
			s.Status.Backends = []v1alpha1.BackendStatus{c.had, {Name: "second", Root: c.away}}
			w := newWatcher(t, s)
			w.backends["first"] = newTurning(intermediate, third)
			w.backends["second"] = &able{anchored: anchored{backend: honest, err: errors.New("503 sealed")}, notAfter: now}
			w.publisher.current = []*x509.Certificate{root.Certificate, stranger.Certificate}
			if c.had.Rotation != nil {
				w.publisher.current = append(w.publisher.current, intermediate.Certificate)
			}
			if _, err := w.check(t, "internal"); err != nil {
				t.Fatal(err)
			}
			if want := []string{fmt.Sprintf("publish %s third %s", signerName, strings.Join(c.want, " "))}; !slices.Equal(w.calls, want) {
				t.Errorf("calls %q, want %q", w.calls, want)
			}
		})
	}
}
