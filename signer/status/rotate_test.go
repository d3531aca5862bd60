// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package status

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
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/internal/example"
	"github.com/certwright/certwright/signer/member"
)

// turning is a backend that says what it is told to of its rotation.
type turning struct {
	example.Able
	rotated   signer.Rotated
	rotateErr error
	asked     signer.Rotation
}

func (b *turning) Rotate(_ context.Context, ask signer.Rotation) (signer.Rotated, error) {
	b.asked = ask
	return b.rotated, b.rotateErr
}

func newTurning(issuer, root *example.CA) *turning {
	return &turning{Able: *example.NewAble(example.Now.Add(time.Hour), root.Certificate), rotated: signer.Rotated{Issuer: issuer.Certificate}}
}

// told are the reasons and kinds of the events about rotations since the last time, with what they say.
func (w *watcher) told(t *testing.T) (all []string) {
	t.Helper()
	var list eventsv1.EventList
	if err := w.api.Client.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	for _, e := range list.Items {
		all = append(all, e.Type+" "+e.Reason+" "+e.Note)
		if err := w.api.Client.Delete(t.Context(), &e); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestRotationInStatus(t *testing.T) {
	w := newWatcher(t, example.Signer("first", "second"))
	b := newTurning(example.Intermediate, example.Root)
	w.backends["first"], w.backends["second"] = b, example.NewAble(example.Now.Add(time.Hour), example.Root.Certificate)
	third, other := example.NewCA("third", nil, nil), example.NewCA("other intermediate", example.Root, nil)
	oldRoot, newRoot := signer.Fingerprint(example.Root.Certificate), signer.Fingerprint(example.Stranger.Certificate)
	in := func(phase v1alpha1.RotationPhase) *v1alpha1.Rotation {
		return &v1alpha1.Rotation{Phase: phase, Since: metav1.NewTime(example.Now), OldRoot: oldRoot, NewRoot: newRoot}
	}
	for _, step := range []struct {
		name     string
		issuer   *example.CA
		anchors  []*example.CA
		rotation *v1alpha1.Rotation
		metric   float64
		event    string // of which reason; none if empty
		kind     string
	}{
		{"at first", example.Intermediate, []*example.CA{example.Root}, nil, 0, "", ""},
		{"again", example.Intermediate, []*example.CA{example.Root}, nil, 0, "", ""},
		{"another intermediate", other, []*example.CA{example.Root}, nil, 0, ReasonIssuerReplaced, "Normal"},
		{"publishing", other, []*example.CA{example.Root, example.Stranger}, in(v1alpha1.RotationPublishing), 1, ReasonRotationPublishing, "Normal"},
		{"still publishing", other, []*example.CA{example.Root, example.Stranger}, in(v1alpha1.RotationPublishing), 1, "", ""},
		{"signing", example.Intermediate, []*example.CA{example.Stranger, example.Root}, in(v1alpha1.RotationSigning), 2, ReasonRotationSigning, "Normal"},
		{"done", example.Intermediate, []*example.CA{example.Stranger}, nil, 0, ReasonRotationFinished, "Normal"},
		{"compromised", other, []*example.CA{third}, nil, 0, ReasonRootReplaced, "Warning"},
		{"publishing again", other, []*example.CA{third, example.Root}, &v1alpha1.Rotation{
			Phase: v1alpha1.RotationPublishing, Since: metav1.NewTime(example.Now), OldRoot: signer.Fingerprint(third.Certificate), NewRoot: oldRoot,
		}, 1, ReasonRotationPublishing, "Normal"},
		{"compromised meanwhile", other, []*example.CA{example.Stranger}, nil, 0, ReasonRootReplaced, "Warning"},
	} {
		b.rotated.Issuer, b.rotated.Rotation, b.Anchors = step.issuer.Certificate, step.rotation, nil
		for _, a := range step.anchors {
			b.Anchors = append(b.Anchors, a.Certificate)
		}
		if _, err := w.check(t, "internal"); err != nil {
			t.Fatal(err)
		}
		s := w.signer(t, "internal").Status.Backends[0]
		if s.Issuer != signer.Fingerprint(step.issuer.Certificate) || s.Root != signer.Fingerprint(step.anchors[0].Certificate) || (s.Rotation == nil) != (step.rotation == nil) ||
			s.Rotation != nil && s.Rotation.Phase != step.rotation.Phase {
			t.Errorf("%s: the status says %+v", step.name, s)
		}
		if got := w.count(t, "certwright_signer_rotation_phase", example.SignerName, "first"); got != step.metric {
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
			w := newWatcher(t, example.Signer("local"))
			b := newTurning(example.Intermediate, example.Root)
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
	s := example.Signer("local")
	s.Annotations = map[string]string{v1alpha1.AnnotationRotateRoot: "something"}
	w := newWatcher(t, s)
	b := newTurning(example.Intermediate, example.Root)
	w.backends["local"], w.publisher.current = b, []*x509.Certificate{example.Stranger.Certificate}
	server := &timekeeper{Client: w.api.Client, time: example.Now.Add(time.Hour)}
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
	if b.asked.Signer != s.UID || b.asked.Annotations[v1alpha1.AnnotationRotateRoot] != "something" || b.asked.MaxDuration != 24*time.Hour {
		t.Errorf("it was told %+v", b.asked)
	}
	if published, err := b.asked.Published(t.Context()); err != nil || len(published) != 1 || !published[0].Equal(example.Stranger.Certificate) {
		t.Errorf("published are %d certificates, error %v, want what the cluster has", len(published), err)
	}
}

func TestWhenARotationIsLookedAtAgain(t *testing.T) {
	for name, c := range map[string]struct {
		rotated func(at time.Time) signer.Rotated
		want    time.Duration
	}{
		"nothing is known":    {func(time.Time) signer.Rotated { return signer.Rotated{} }, recheck},
		"a step was taken":    {func(time.Time) signer.Rotated { return signer.Rotated{Changed: true} }, soonest},
		"soon":                {func(at time.Time) signer.Rotated { return signer.Rotated{Next: at.Add(10 * time.Second)} }, 10 * time.Second},
		"over":                {func(at time.Time) signer.Rotated { return signer.Rotated{Next: at.Add(-time.Hour)} }, soonest},
		"in years":            {func(at time.Time) signer.Rotated { return signer.Rotated{Next: at.Add(10000 * time.Hour)} }, recheck},
		"at the end of times": {func(time.Time) signer.Rotated { return signer.Rotated{Next: time.Unix(1<<60, 0)} }, recheck},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWatcher(t, example.Signer("local"))
			b := newTurning(example.Intermediate, example.Root)
			b.rotated = c.rotated(w.api.Clock.Now().Add(2 * recheck)) // when check looks
			b.rotated.Issuer = example.Intermediate.Certificate
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
		"plain":         {away, member.ReasonRotationTrouble},
		"with a reason": {&signer.CheckError{Reason: "CompromisedRootInUse", Err: away, Signs: true}, "CompromisedRootInUse"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWatcher(t, example.Signer("local"))
			b := newTurning(example.Intermediate, example.Root)
			w.backends["local"] = b
			b.rotated.Changed = true
			b.rotated.Rotation = &v1alpha1.Rotation{Phase: v1alpha1.RotationPublishing, Since: metav1.NewTime(example.Now), OldRoot: signer.Fingerprint(example.Root.Certificate), NewRoot: "new"}
			if _, err := w.check(t, "internal"); err != nil {
				t.Fatal(err)
			}
			b.rotated, b.rotateErr = signer.Rotated{}, c.err
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
	third := example.NewCA("third", nil, nil)
	for name, c := range map[string]struct {
		had  v1alpha1.BackendStatus // of the one whose root was replaced
		away string                 // root of the other one
		want []string               // besides the new example.Root
	}{
		"its root":       {v1alpha1.BackendStatus{Root: signer.Fingerprint(example.Root.Certificate)}, signer.Fingerprint(example.Stranger.Certificate), []string{"stranger"}},
		"both its roots": {v1alpha1.BackendStatus{Root: signer.Fingerprint(example.Root.Certificate), Rotation: &v1alpha1.Rotation{OldRoot: signer.Fingerprint(example.Root.Certificate), NewRoot: signer.Fingerprint(example.Intermediate.Certificate)}}, signer.Fingerprint(example.Stranger.Certificate), []string{"stranger"}},
		"one of both":    {v1alpha1.BackendStatus{Root: signer.Fingerprint(example.Root.Certificate)}, signer.Fingerprint(example.Root.Certificate), []string{"root", "stranger"}},
		"nobody's":       {v1alpha1.BackendStatus{}, signer.Fingerprint(example.Stranger.Certificate), []string{"root", "stranger"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := example.Signer("first", "second")
			c.had.Name = "first"
			s.Status.TrustBundle = "configmap/" + example.SignerName
			s.Status.Backends = []v1alpha1.BackendStatus{c.had, {Name: "second", Root: c.away}}
			w := newWatcher(t, s)
			w.backends["first"] = newTurning(example.Intermediate, third)
			w.backends["second"] = &example.Able{Anchored: example.Anchored{Backend: example.Honest, Err: errors.New("503 sealed")}, Expires: example.Now}
			w.publisher.current = []*x509.Certificate{example.Root.Certificate, example.Stranger.Certificate}
			if c.had.Rotation != nil {
				w.publisher.current = append(w.publisher.current, example.Intermediate.Certificate)
			}
			if _, err := w.check(t, "internal"); err != nil {
				t.Fatal(err)
			}
			if want := []string{fmt.Sprintf("publish %s third %s", example.SignerName, strings.Join(c.want, " "))}; !slices.Equal(w.calls, want) {
				t.Errorf("calls %q, want %q", w.calls, want)
			}
		})
	}
}
