// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/agent/agenttest"
	"github.com/certwright/certwright/agent/apiserver"
	"github.com/certwright/certwright/agent/credential"
)

func TestRenewFile(t *testing.T) {
	now := func(add time.Duration) func() string {
		return func() string { return time.Now().Add(add).UTC().Format(time.RFC3339) }
	}
	text := func(text string) func() string { return func() string { return text } }
	for name, test := range map[string]struct {
		content func() string
		within  time.Duration // until when requests are counted
		posts   int
		log     string
	}{
		"now":                    {now(0), 40 * time.Second, 2, "the annotation of the pod asks for it"},
		"now, and an hour later": {now(0), time.Hour, 2, ""},
		"a newline behind":       {func() string { return now(0)() + "\n" }, time.Hour, 2, ""},
		"in another time zone": {func() string {
			return time.Now().In(time.FixedZone("", 7200)).Format(time.RFC3339)
		}, time.Hour, 2, ""},
		"soon, not yet":           {now(10 * time.Minute), 5 * time.Minute, 1, ""},
		"soon, then":              {now(2 * time.Minute), 3 * time.Minute, 2, ""},
		"in the far future":       {text("9999-12-31T23:59:59Z"), 12 * time.Hour, 1, ""},
		"before the certificate":  {now(-48 * time.Hour), 12 * time.Hour, 1, ""},
		"long ago":                {text("0001-01-01T00:00:00Z"), 12 * time.Hour, 1, ""},
		"empty":                   {text(""), 12 * time.Hour, 1, ""},
		"blank":                   {text(" \n\t"), 12 * time.Hour, 1, ""},
		"garbage":                 {text("tomorrow"), 12 * time.Hour, 1, "is not a time in the form of RFC 3339"},
		"a year that overflows":   {text("99999-01-01T00:00:00Z"), 12 * time.Hour, 1, "is not a time"},
		"as long as annotations":  {text(strings.Repeat("2", 256<<10)), 12 * time.Hour, 1, "is not a time"},
		"binary":                  {text("\x00\xff\x1b[2J"), 12 * time.Hour, 1, "is not a time"},
		"a time and more":         {func() string { return now(0)() + " and more" }, 12 * time.Hour, 1, "is not a time"},
		"a time far behind space": {func() string { return strings.Repeat(" ", 100) + now(0)() }, 12 * time.Hour, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				config := c.config()
				config.RenewFile = filepath.Join(c.dir, "renew") // at first it is missing
				run := c.start(config)
				first := run.after(time.Hour)
				c.write("renew", []byte(test.content()))
				last := run.after(test.within)
				if n := c.count("POST"); n != test.posts {
					t.Errorf("%d requests, want %d", n, test.posts)
				}
				if test.posts > 1 && equalKeys(first.Pair, last.Pair) {
					t.Error("renewed with the same key")
				}
				run.wantLog(test.log)
				if n := strings.Count(run.log.String(), "is not a time"); n > 1 {
					t.Errorf("complained %d times, want once", n)
				}
				// A restart does not follow it again.
				run.stop()
				c.start(config).after(time.Minute)
				if n := c.count("POST"); n != test.posts {
					t.Errorf("%d requests after a restart, want %d", n, test.posts)
				}
			})
		})
	}
}

// Whoever can annotate the pod can have it renew, but not without end.
func TestRenewFileThatChangesAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		config := c.config()
		config.RenewFile = filepath.Join(c.dir, "renew")
		run := c.start(config)
		for range 3600 {
			c.write("renew", []byte(time.Now().UTC().Format(time.RFC3339)))
			run.after(time.Second)
		}
		if n := c.count("POST"); n > 61 || n < 30 {
			t.Errorf("%d requests in an hour of new annotations, want at most one a minute", n)
		}
	})
}

// With a clock that is wrong, a time that lay in the future is followed; once it
// is right again, nothing goes round in circles.
func TestRenewFileWithClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		config := c.config()
		config.RenewFile = filepath.Join(c.dir, "renew")
		var by atomic.Int64
		run := c.startAt(config, shifted{by: &by})
		run.after(time.Minute)
		c.write("renew", []byte(time.Now().Add(5*time.Hour).UTC().Format(time.RFC3339)))
		run.after(time.Hour)
		if n := c.count("POST"); n != 1 {
			t.Fatalf("%d requests before the time has come", n)
		}
		by.Store(int64(5 * time.Hour))
		run.after(2 * time.Hour)
		if n := c.count("POST"); n != 2 {
			t.Errorf("%d requests with a clock that is 5 h ahead, want 2", n)
		}
		by.Store(int64(-5 * time.Hour))
		run.after(time.Hour)
		by.Store(0)
		run.after(4 * time.Hour)
		if n := c.count("POST"); n != 2 {
			t.Errorf("%d requests once the clock was right again, want still 2", n)
		}
		run.after(4 * time.Minute)
		c.write("renew", []byte(time.Now().UTC().Format(time.RFC3339)))
		run.after(2 * time.Minute)
		if n := c.count("POST"); n != 3 {
			t.Errorf("%d requests, want one for the next annotation", n)
		}
	})
}

// rotated is the authority with a new root, which is what bundles show; it still
// signs with the old one.
func rotated(t testing.TB, c *cluster, start time.Time) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "next root"},
		NotBefore: start, NotAfter: start.Add(10 * 365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key := agenttest.Must(credential.GenerateKey("ECDSA-P256"))(t)
	root := agenttest.Must(x509.ParseCertificate(agenttest.Must(x509.CreateCertificate(nil, template, template, key.Public(), key))(t)))(t)
	return append(c.ca.Bundle(), credential.EncodeCertificates([]*x509.Certificate{root})...)
}

func TestNewAnchorRenewsOnce(t *testing.T) {
	for name, test := range map[string]struct {
		start      time.Duration // of the anchor, from when it is seen
		duration   agent.Duration
		from, to   time.Duration // when the renewal is, from then on, with jitter 0.5
		unaffected bool
	}{
		// 24 h were issued 10 min before: 22h50m are left an hour later, half of a third is 3h48m.
		"published now":    {0, 0, 4*time.Hour + 47*time.Minute, 4*time.Hour + 50*time.Minute, false},
		"backdated":        {-5 * time.Minute, 0, 4*time.Hour + 42*time.Minute, 4*time.Hour + 46*time.Minute, false},
		"older than ours":  {-time.Hour, 0, 0, 8 * time.Hour, true},
		"in a year":        {365 * 24 * time.Hour, 0, 0, 8 * time.Hour, true},
		"short-lived ours": {0, agent.Duration(time.Hour), 0, 25 * time.Minute, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				config := c.config()
				if test.duration != 0 {
					config.Duration = test.duration
				}
				run := c.start(config)
				run.after(10 * time.Minute)
				c.write("bundle", rotated(t, c, time.Now().Add(test.start)))
				run.after(test.from)
				if n := c.count("POST"); n != 1 {
					t.Fatalf("%d requests, want none yet for the new anchor", n)
				}
				run.after(test.to - test.from)
				want := 2
				if test.unaffected {
					want = 1
				}
				if n := c.count("POST"); n != want {
					t.Fatalf("%d requests, want %d", n, want)
				}
				if !test.unaffected {
					run.wantLog("a trust anchor is newer than the certificate")
				}
				run.after(5 * time.Hour)
				if n := c.count("POST"); n > want && test.duration == 0 {
					t.Errorf("%d requests 5 h later: the anchor counts more than once", n)
				}
			})
		})
	}
}

// A signer that issues certificates which are older than its anchor must not have
// the agent renew without end.
func TestNewAnchorAndBackdatedCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.spoil = func(cert *x509.Certificate) { cert.NotBefore = time.Now().Add(-9 * time.Hour) }
		c.ca.Intermediate.NotBefore = time.Now().Add(-24 * time.Hour)
		run := c.start(c.config())
		run.after(10 * time.Minute)
		c.write("bundle", rotated(t, c, time.Now().Add(-2*time.Hour)))
		run.after(8 * time.Hour)
		if n := c.count("POST"); n > 2 {
			t.Errorf("%d requests in 8 h, want at most one for the anchor", n)
		}
	})
}

// Each early renewal has a new key and spares the old pair until the new one is there.
func TestEarlyRenewalKeepsThePairUntilThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		config := c.config()
		config.RenewFile = filepath.Join(c.dir, "renew")
		run := c.start(config)
		first := run.after(time.Hour)
		c.with(func() {
			c.decide = func(r *apiserver.Request) { r.Status.Conditions = []apiserver.RequestCondition{{Type: "Denied"}} }
		})
		c.write("renew", []byte(time.Now().UTC().Format(time.RFC3339)))
		if now := run.after(3 * time.Hour); !now.Pair.Leaf().Equal(first.Pair.Leaf()) {
			t.Error("the valid pair is gone")
		}
		if n := c.count("POST"); n < 10 || n > 25 {
			t.Errorf("%d requests in 3 h of refusals, want one about every 15 minutes", n)
		}
		c.with(func() { c.decide = nil })
		if now := run.after(16 * time.Minute); equalKeys(now.Pair, first.Pair) {
			t.Error("not renewed once it was permitted")
		}
	})
}
