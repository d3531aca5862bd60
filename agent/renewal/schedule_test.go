// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package renewal

import (
	"crypto/x509"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/agent/agenttest"
	"github.com/certwright/certwright/agent/credential"
)

// start is when certificates of these tests begin.
var start = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// pair is one of a lifetime that leads nowhere.
func pair(lifetime time.Duration) *credential.Pair {
	return &credential.Pair{Chain: []*x509.Certificate{{NotBefore: start, NotAfter: start.Add(lifetime)}}}
}

// anchors are a bundle with CAs that begin so much later than the certificates.
func anchors(after ...time.Duration) *credential.Bundle {
	bundle := new(credential.Bundle)
	for _, d := range after {
		bundle.Certs = append(bundle.Certs, &x509.Certificate{IsCA: true, NotBefore: start.Add(d)})
	}
	return bundle
}

func fixed(jitter float64) func() float64 { return func() float64 { return jitter } }

func TestShareOfTheLifetimeIsSpread(t *testing.T) {
	for jitter, want := range map[float64]time.Duration{
		0:   40*time.Minute - 2*time.Minute,
		0.5: 40 * time.Minute,
		1:   40*time.Minute + 2*time.Minute,
	} {
		s := New(fixed(jitter))
		s.Adopt(pair(time.Hour), nil, start)
		if got := s.Normal().Sub(start); got != want {
			t.Errorf("jitter %v: renewal after %v, want %v", jitter, got, want)
		}
	}
}

// TestThousandPodsRenewApart prints when 1,000 pods whose certificates were issued
// at once renew them.
func TestThousandPodsRenewApart(t *testing.T) {
	const pods, lifetime = 1000, 24 * time.Hour
	random := rand.New(rand.NewPCG(1, 2))
	slots := make(map[int]int)
	busiest := make(map[time.Time]int)
	for range pods {
		s := New(random.Float64)
		s.Adopt(pair(lifetime), nil, start)
		at, _ := s.Next()
		share := float64(at.Sub(start)) / float64(lifetime)
		slots[int(share*100/0.5)]++ // half a percent of the lifetime each
		busiest[at.Truncate(time.Minute)]++
	}
	for slot := 120; slot < 150; slot++ {
		if n := slots[slot]; n > 0 {
			t.Logf("%4.1f %% of life: %3d %s", float64(slot)/2, n, strings.Repeat("#", n/5))
		}
	}
	most := 0
	for _, n := range busiest {
		most = max(most, n)
	}
	t.Logf("in the busiest minute: %d of %d", most, pods)
	if most > 30 {
		t.Errorf("%d of %d pods renew in one minute, want at most 30", most, pods)
	}
	if len(slots) < 13 {
		t.Errorf("renewals in %d half percents of the lifetime, want all 14 between 63.3 and 70", len(slots))
	}
}

// issued is a pair and the bundle to which it leads.
func issued(t *testing.T, name string) (*credential.Pair, *credential.Bundle) {
	t.Helper()
	a := agenttest.NewAuthority(t, name)
	key := agenttest.Must(credential.GenerateKey("ECDSA-P256"))(t)
	certificate := agenttest.Must(a.Sign(agenttest.Must(credential.RequestPEM(key, credential.Names{DNS: []string{"a"}}))(t), time.Hour, nil))(t)
	return &credential.Pair{Chain: agenttest.Must(credential.ParseChain(certificate))(t), Key: key},
		agenttest.Must(credential.ParseBundle(a.Bundle(), time.Now()))(t)
}

// When an anchor is withdrawn from all pods at once, they do not come in one second.
func TestEmergencyIsSpread(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	seconds := make(map[int]int)
	old, bundle := issued(t, "old")
	_, next := issued(t, "next")
	now := time.Now()
	for range 1000 {
		s := New(random.Float64)
		s.Adopt(old, bundle, now)
		if !s.Trusted() {
			t.Fatal("does not lead to its own anchor")
		}
		s.Follow(next, now)
		at, reason := s.Next()
		if s.Trusted() || !strings.Contains(reason, "does not lead") {
			t.Fatalf("renewed because %s", reason)
		}
		seconds[int(at.Sub(now)/time.Second)]++
	}
	for second := range 10 {
		t.Logf("second %2d: %3d", second, seconds[second])
		if n := seconds[second]; n < 50 || n > 150 {
			t.Errorf("%d of 1000 in second %d, want about 100", n, second)
		}
	}
}

// An anchor that comes back, and one that is withdrawn for long, are one renewal at the most.
func TestAnchorThatComesAndGoes(t *testing.T) {
	p, own := issued(t, "own")
	_, other := issued(t, "other")
	now := time.Now()
	s := New(fixed(1))
	s.Adopt(p, own, now)
	s.Follow(other, now)
	planned, _ := s.Next()
	s.Follow(other, now.Add(5*time.Second))
	if again, _ := s.Next(); !again.Equal(planned) {
		t.Errorf("planned for %s, then for %s: another look delays it", planned, again)
	}
	s.Follow(own, now.Add(6*time.Second))
	if !s.Trusted() || s.Due(now.Add(time.Minute)) {
		t.Error("renewed though the anchor came back")
	}
}

func TestNewerAnchor(t *testing.T) {
	const lifetime = 24 * time.Hour
	for name, test := range map[string]struct {
		own  *credential.Bundle
		now  time.Duration // since the start of the certificate, as all that follows
		want time.Duration // 0: none
	}{
		"older":                       {anchors(-time.Hour, 0), 0, 0},
		"newer":                       {anchors(-time.Hour, 2*time.Hour), 2 * time.Hour, 3*time.Hour + 7*time.Hour/2},
		"seen late":                   {anchors(2 * time.Hour), 9 * time.Hour, 9*time.Hour + 5*time.Hour/2},
		"the newest counts":           {anchors(5*time.Hour, 2*time.Hour), 5 * time.Hour, 6*time.Hour + 3*time.Hour},
		"so new that it is too late":  {anchors(23 * time.Hour), 23 * time.Hour, 0},
		"in a hundred years":          {anchors(100 * 365 * 24 * time.Hour), 0, 0},
		"a leaf that is no authority": {&credential.Bundle{Certs: []*x509.Certificate{{NotBefore: start.Add(time.Hour)}}}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(fixed(0.5))
			s.Adopt(pair(lifetime), test.own, start.Add(test.now))
			switch {
			case test.want == 0 && !s.anchor.IsZero():
				t.Errorf("renewed after %s, want not at all", s.anchor.Sub(start))
			case test.want != 0 && s.anchor.Sub(start) != test.want:
				t.Errorf("renewed after %s, want %s", s.anchor.Sub(start), test.want)
			}
			// A pair that is issued beside it has followed it, also over the end of the pair.
			s.Begin(pair(lifetime), test.own, start.Add(test.now))
			s.Clear()
			s.Adopt(pair(lifetime), test.own, start.Add(test.now))
			if !s.anchor.IsZero() {
				t.Error("renewed again for an anchor that was there when the pair was issued")
			}
		})
	}
}

func TestAsk(t *testing.T) {
	const hour = time.Hour
	now := start.Add(10 * hour)
	for name, test := range map[string]struct {
		at, last, followed time.Time
		want               time.Duration // from now on; 0: none
	}{
		"now":                          {at: now, want: 15 * time.Second},
		"an hour ago":                  {at: now.Add(-hour), want: 15 * time.Second},
		"just after another request":   {at: now, last: now.Add(-time.Second), want: 59 * time.Second},
		"in an hour":                   {at: now.Add(hour)},
		"never":                        {},
		"when the certificate began":   {at: start},
		"before that":                  {at: start.Add(-hour)},
		"what the pair followed":       {at: now.Add(-hour), followed: now.Add(-hour)},
		"before what the pair follows": {at: now.Add(-2 * hour), followed: now.Add(-hour)},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(fixed(0.5))
			if _, fresh := s.Ask(test.at, test.last, now); fresh {
				t.Error("planned without a pair")
			}
			p := pair(24 * hour)
			p.Renew = test.followed
			s.Adopt(p, nil, start)
			planned, fresh := s.Ask(test.at, test.last, now)
			if fresh != (test.want != 0) || fresh && planned.Sub(now) != test.want {
				t.Errorf("planned %t for %s, want in %s", fresh, planned, test.want)
			}
			if again, fresh := s.Ask(test.at, test.last, now.Add(time.Second)); fresh || !again.Equal(planned) {
				t.Errorf("asked once more: %s, before %s", again, planned)
			}
			if due := s.Due(now.Add(test.want)); due != (test.want != 0) {
				t.Errorf("due: %t", due)
			}
			if s.Ask(time.Time{}, test.last, now); s.Due(now.Add(hour)) {
				t.Error("renewed though it was taken back")
			}
		})
	}
}

// A CA near its end cuts certificates short, and backdates them: they are not renewed in a loop.
func TestCertificateThatIsCutShort(t *testing.T) {
	now := start.Add(10 * time.Hour)
	s := New(fixed(0.5))
	s.Begin(pair(10*time.Hour+30*time.Minute), anchors(-time.Hour), now)
	if got := s.Normal().Sub(now); got != 10*time.Minute {
		t.Errorf("renewed after %s, want a third of the 30 minutes that are left", got)
	}
}

func TestEarliestTimeCounts(t *testing.T) {
	s := New(fixed(0))
	if at, reason := s.Next(); !at.IsZero() || reason != "" || s.Due(start) {
		t.Errorf("without a pair: %s, %q", at, reason)
	}
	s.normal, s.anchor, s.distrust, s.asked = start.Add(4), start.Add(3), start.Add(1), start.Add(2)
	if at, reason := s.Next(); !at.Equal(start.Add(1)) || !strings.Contains(reason, "does not lead") || s.Due(start) || !s.Due(at) {
		t.Errorf("%s, %q", at, reason)
	}
	if s.Clear(); s.Due(start.Add(time.Hour)) {
		t.Error("due without a pair")
	}
}
