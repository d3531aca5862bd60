// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/status"
)

// clocks are those of leaders who must not make anything, and what a person is told.
var clocks = map[string]struct {
	ahead time.Duration
	away  error // the API server's answer
	says  string
}{
	"a day ahead":                     {24 * time.Hour, nil, "the clock of the node that this runs on is 24h0m0s ahead of the API server's: set right the one that is wrong"},
	"a day behind":                    {-24 * time.Hour, nil, "is 24h0m0s behind the API server's"},
	"a little more than five minutes": {5*time.Minute + time.Second, nil, "is 5m0s ahead of"},
	"the API server does not answer":  {0, errors.New("connection refused"), "connection refused"},
}

// leader is a backend whose clock is wrong, or that cannot know.
func (w *world) leader(ahead time.Duration, away error) (rotate func() (signer.Rotated, error)) {
	w.ahead = ahead
	w.clock.Step(ahead)
	b := w.backend(w.client, w.config, false)
	w.Backend = b
	return func() (signer.Rotated, error) {
		ask := w.ask(b.TrustAnchors, nil)
		ask.MaxDuration = 24 * time.Hour
		ask.Time = func(context.Context) (time.Time, error) { return w.serverTime(), away }
		return b.Rotate(w.t.Context(), ask)
	}
}

// A root of tomorrow would be trusted by everybody and verify nothing today, and one of yesterday ends a day too early.
func TestFirstCAIsNotMadeByAWrongClock(t *testing.T) {
	for name, c := range clocks {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, managed(), false)
			rotate := w.leader(c.ahead, c.away)
			for range 3 {
				if r, err := rotate(); err == nil || !strings.Contains(err.Error(), "making the CA: ") || !strings.Contains(err.Error(), c.says) || r.Changed || r.Issuer != nil {
					t.Errorf("%+v, error %v, want it to say %q", r, err, c.says)
				}
				err := w.Check(t.Context())
				wantReason(t, err, "CANotMade")
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("Check: %v, want it to say %q", err, c.says)
				}
				_, err = w.sign(time.Hour)
				wantTrouble(t, err)
			}
			if w.hasSecret() || w.writes != 0 {
				t.Fatalf("a CA was made, with %d writes", w.writes)
			}
			rotate = w.leader(-c.ahead, nil)
			w.ahead = 0
			if r, err := rotate(); err != nil || !r.Changed {
				t.Fatalf("when the clock is right: %+v, error %v", r, err)
			}
			if err := w.Check(t.Context()); err != nil {
				t.Error(err)
			}
			anchors, err := w.TrustAnchors(t.Context())
			if err != nil || anchors[0].NotBefore.After(w.serverTime()) {
				t.Errorf("the root is valid from %s, error %v", anchors[0].NotBefore, err)
			}
		})
	}
}

// A clock that is ahead renews nothing too early, and one that is wrong makes nothing at all: the intermediate that is there signs.
func TestIntermediateIsNotRenewedByAWrongClock(t *testing.T) {
	config := v1alpha1.CA{Managed: &v1alpha1.ManagedCA{IntermediateDuration: metav1.Duration{Duration: 36 * time.Hour}}}
	for name, c := range clocks {
		t.Run(name, func(t *testing.T) {
			w := newManagedWorld(t, config, false)
			first := w.mustSign(time.Hour)[1]
			w.clock.Step(25*time.Hour - c.ahead) // it is due by its own clock
			rotate := w.leader(c.ahead, c.away)
			for range 3 {
				r, err := rotate()
				wantReason(t, err, "IntermediateNotRenewing")
				if err == nil || !strings.Contains(err.Error(), "renewing the intermediate: ") || !strings.Contains(err.Error(), c.says) || r.Changed || !r.Issuer.Equal(first) {
					t.Errorf("%+v, error %v, want it to say %q", r, err, c.says)
				}
				if by := w.mustSign(10 * time.Minute)[1]; !by.Equal(first) {
					t.Error("another intermediate signs")
				}
			}
			if w.writes != 1 {
				t.Errorf("%d writes, want the one that made the CA", w.writes)
			}
		})
	}
}

// A clock that is behind finds nothing due, and so is told of while there is time.
func TestClockIsComparedAlways(t *testing.T) {
	root := newIssuer(t, "Root", "ECDSA-P256", nil, nil)
	for source, config := range map[string]v1alpha1.CA{"managed": managed(), "imported": importedCA()} {
		for name, c := range clocks {
			t.Run(source+", "+name, func(t *testing.T) {
				w := newWorld(t, config, false, tlsSecret(t, root.key, root))
				rotate := w.leader(0, nil)
				for range 2 {
					if _, err := rotate(); err != nil {
						t.Fatal(err)
					}
				}
				w.clock.Step(10 * 24 * time.Hour)
				writes := w.writes
				if r, err := w.leader(c.ahead, c.away)(); err == nil || !strings.Contains(err.Error(), c.says) || r.Changed || r.Issuer == nil {
					t.Errorf("%+v, error %v, want it to say %q", r, err, c.says)
				}
				if err := w.Check(t.Context()); err != nil {
					t.Errorf("the CA signs, and Check says %v", err)
				}
				w.mustSign(time.Hour)
				if w.writes != writes {
					t.Errorf("%d writes", w.writes-writes)
				}
			})
		}
	}
}

// By a clock that is wrong by years a CA seems to have expired, or not to have begun. A person is told of the clock, and the CA stays.
func TestCAThatIsOverByAWrongClock(t *testing.T) {
	root := newIssuer(t, "Root", "ECDSA-P256", nil, nil)
	for name, c := range map[string]struct {
		ahead  time.Duration
		reason string
		says   string
	}{
		"eleven years ahead": {11 * 365 * 24 * time.Hour, "CAExpired", "is 96360h0m0s ahead of the API server's"},
		"two days behind":    {-48 * time.Hour, "CANotYetValid", "is 48h0m0s behind the API server's"},
	} {
		for source, config := range map[string]v1alpha1.CA{"managed": managed(), "imported": importedCA()} {
			t.Run(source+", "+name, func(t *testing.T) {
				w := newWorld(t, config, false, tlsSecret(t, root.key, root))
				if config.Managed != nil {
					w.begin(24 * time.Hour)
				} else if _, err := w.rotate(); err != nil {
					t.Fatal(err)
				}
				writes := w.writes
				rotate := w.leader(c.ahead, nil)
				if _, err := rotate(); err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("Rotate: %v, want it to say %q", err, c.says)
				}
				err := w.Check(t.Context())
				wantReason(t, err, c.reason)
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("Check: %v, want it to say %q", err, c.says)
				}
				_, err = w.sign(time.Hour)
				wantTrouble(t, err)
				if w.writes != writes {
					t.Errorf("%d writes", w.writes-writes)
				}
			})
		}
	}
}

// The time from which the former roots of an administrator's CA are kept is not that of a clock that is wrong: one that is behind would
// have them dropped too early.
func TestFormerRootsStayWhateverTheClock(t *testing.T) {
	one, two := newIssuer(t, "One", "ECDSA-P256", nil, nil), newIssuer(t, "Two", "ECDSA-P256", nil, nil)
	for name, c := range clocks {
		t.Run(name, func(t *testing.T) {
			secret := tlsSecret(t, one.key, one)
			secret.Data["ca.crt"] = pemCerts(one, two)
			w := newWorld(t, quick(importedCA()), false, secret)
			if _, err := w.rotate(); err != nil {
				t.Fatal(err)
			}
			w.change(imported, func(d map[string][]byte) { // to one that everybody can verify
				d["tls.crt"], d["tls.key"] = pemCerts(two), pemKey(t, two.key)
				delete(d, "ca.crt")
			})
			w.clock.Step(12 * time.Hour)
			writes := w.writes
			rotate := w.leader(c.ahead, c.away)
			if r, err := rotate(); err == nil || !strings.Contains(err.Error(), c.says) || r.Changed {
				t.Errorf("%+v, error %v, want it to say %q", r, err, c.says)
			}
			wantBoth := func(when string) {
				t.Helper()
				anchors, err := w.TrustAnchors(t.Context())
				if err != nil || len(anchors) != 2 {
					t.Errorf("%s: %d anchors, error %v, want both roots", when, len(anchors), err)
				}
			}
			if wantBoth("with the wrong clock"); w.writes != writes {
				t.Error("it was written down")
			}
			rotate = w.leader(-c.ahead, nil)
			w.ahead = 0
			if r, err := rotate(); err != nil || !r.Changed || r.Rotation == nil || r.Rotation.Phase != v1alpha1.RotationSigning {
				t.Fatalf("when the clock is right: %+v, error %v", r, err)
			}
			w.clock.Step(lifetime)
			if _, err := rotate(); err != nil {
				t.Fatal(err)
			}
			wantBoth("while certificates below the old root may live")
		})
	}
}

// A story with a leader whose clock is wrong from the beginning: the Signer says so, and all goes on when the clock is set right.
func TestSignerSaysThatTheClockIsWrong(t *testing.T) {
	w := newWorld(t, quick(managed()), false)
	w.limit(lifetime)
	w.ahead = 24 * time.Hour
	w.clock.Step(w.ahead)
	published := &bundle{}
	reason, message := w.process(published).look()
	if reason != "BackendNotReady" && reason != "CANotMade" || !strings.Contains(message, "24h0m0s ahead of the API server's") || len(published.anchors) > 0 {
		t.Errorf("it says %s: %s; %d roots are published", reason, message, len(published.anchors))
	}
	w.clock.Step(-w.ahead)
	w.ahead = 0
	if reason, message := w.process(published).look(); reason != status.ReasonReady || len(published.anchors) != 1 {
		t.Errorf("when the clock is right it says %s: %s", reason, message)
	}
}
