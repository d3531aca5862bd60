// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package podcert

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// The API server takes what is signed for the shortest, the usual and the longest life, by a signer whose clock is off by four minutes.
func TestLifetimesAndClocks(t *testing.T) {
	for _, seconds := range []int32{3600, 3601, day, 91 * day} {
		for _, off := range []time.Duration{-4 * time.Minute, 0, 4 * time.Minute} {
			for _, late := range []time.Duration{0, 999 * time.Millisecond, 15 * time.Second} {
				t.Run(fmt.Sprintf("%ds, off by %s, written after %s", seconds, off, late), func(t *testing.T) {
					w := newWorld(t, V1, nil, in(V1, asked(podKey, seconds, false)))
					w.clock.SetTime(now.Add(off).Add(time.Duration(seconds%2) * 777 * time.Millisecond))
					w.apiNow = now.Add(late)
					if _, err := w.reconcile(); err != nil {
						t.Fatal(err)
					}
					leaf := w.leaf()
					if got, want := leaf.NotAfter.Sub(leaf.NotBefore), time.Duration(seconds)*time.Second; got != want {
						t.Errorf("it lives for %s, want %s", got, want)
					}
				})
			}
		}
	}
}

// Limits of the Signer and of the policy shorten a life, as for all other requests.
func TestLifetimeIsShortened(t *testing.T) {
	for name, change := range map[string]func(client.Object){
		"by the Signer": func(o client.Object) {
			onSigner(o, func(s *v1alpha1.Signer) { s.Spec.Limits.MaxDuration.Duration = 2 * time.Hour })
		},
		"by the policy": func(o client.Object) {
			onPolicy(o, func(p *v1alpha1.CertificatePolicy) {
				p.Spec.Allow.MaxDuration = &metav1.Duration{Duration: 2 * time.Hour}
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, V1, change, in(V1, asked(podKey, day, false)))
			if _, err := w.reconcile(); err != nil {
				t.Fatal(err)
			}
			if leaf := w.leaf(); leaf.NotAfter.Sub(leaf.NotBefore) != 2*time.Hour {
				t.Errorf("it lives for %s, want 2h", leaf.NotAfter.Sub(leaf.NotBefore))
			}
		})
	}
}

// A clock that is off by more is trouble: what the API server does not take is told, and not bought again and again.
func TestClockThatIsOff(t *testing.T) {
	for _, off := range []time.Duration{-6 * time.Minute, 6 * time.Minute} {
		t.Run(off.String(), func(t *testing.T) {
			w := newWorld(t, V1, nil, in(V1, asked(podKey, day, false)))
			w.clock.SetTime(now.Add(off))
			for range 20 {
				result, err := w.reconcile()
				if err == nil && result.RequeueAfter <= 0 {
					t.Fatal("it is not looked at again")
				}
				w.pass(5 * time.Second)
			}
			if len(w.stored().Status.Conditions) > 0 || w.local.calls > 2 {
				t.Errorf("conditions %+v, signed %d times, want no word and two attempts at the most", w.stored().Status.Conditions, w.local.calls)
			}
			notes := w.notes("PodCertificateRequest")
			if len(notes) != 1 || !strings.Contains(notes[0], "status.notBefore: must be set to within 5 minutes") || strings.Contains(notes[0], "kilobytes") {
				t.Errorf("told %q, want once what the API server said, without the value", notes)
			}
			w.clock.SetTime(w.apiNow.Add(2 * time.Minute)) // somebody mends it
			w.pass(10 * time.Minute)
			if _, err := w.reconcile(); err != nil {
				t.Fatal(err)
			}
			w.leaf()
		})
	}
}

func TestBeginRefreshAt(t *testing.T) {
	for _, life := range []time.Duration{time.Hour, 24 * time.Hour, 91 * 24 * time.Hour} {
		leaf := &x509.Certificate{NotBefore: now, NotAfter: now.Add(life)}
		var all []time.Duration
		for range 1000 {
			all = append(all, beginRefreshAt(leaf, time.Time{}).Sub(now))
		}
		first, last := slices.Min(all), slices.Max(all)
		if first < life*3/5 || last > life*2/3 || last-first < life/30 {
			t.Errorf("of %s: between %s and %s, want spread from three fifths to two thirds", life, first, last)
		}
	}
	leaf := &x509.Certificate{NotBefore: now, NotAfter: now.Add(24 * time.Hour)}
	for name, c := range map[string]struct{ advised, want time.Duration }{
		"advice to renew earlier":      {2 * time.Hour, 2 * time.Hour},
		"advice to renew at once":      {time.Second, 10 * time.Minute},
		"advice of the time before it": {-time.Hour, 10 * time.Minute},
	} {
		if got := beginRefreshAt(leaf, now.Add(c.advised)).Sub(now); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	if got := beginRefreshAt(leaf, now.Add(23*time.Hour)).Sub(now); got > 16*time.Hour {
		t.Errorf("advice to renew later: %s, want no later than two thirds", got)
	}
	if got := beginRefreshAt(&x509.Certificate{NotBefore: now, NotAfter: now.Add(20 * time.Minute)}, time.Time{}); !got.Equal(now.Add(10 * time.Minute)) {
		t.Errorf("of the shortest life that has such a time: %s", got)
	}
}
