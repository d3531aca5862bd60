// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func TestRenewalIsSpread(t *testing.T) {
	pair := newAuthority(t, "ca").pair(t, names{dns: []string{"a"}}, time.Hour)
	start := pair.Leaf().NotBefore // 65 minutes in all, of which a third is 21m40s
	for jitter, want := range map[float64]time.Duration{
		0:   43*time.Minute + 20*time.Second - 130*time.Second,
		0.5: 43*time.Minute + 20*time.Second,
		1:   43*time.Minute + 20*time.Second + 130*time.Second,
	} {
		m := &Manager{requester: requester{jitter: func() float64 { return jitter }}}
		if got := m.renewal(pair).Sub(start); got != want {
			t.Errorf("jitter %v: renewal after %v, want %v", jitter, got, want)
		}
	}
}

func TestOutageDuringRenewalKeepsThePair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		run := c.start(c.config())
		first := run.after(15 * time.Hour)
		c.with(func() {
			c.intercept = func(w http.ResponseWriter, _ *http.Request) bool {
				refuse(w, http.StatusInternalServerError, "InternalError", "etcd is away")
				return true
			}
		})
		if now := run.after(8 * time.Hour); !now.Pair.Leaf().Equal(first.Pair.Leaf()) {
			t.Error("the valid pair is gone")
		}
		run.wantLog("etcd is away")
		run.wantLog("keepingUntil=" + timestamp(first.Pair.Leaf().NotAfter))
		c.with(func() { c.intercept = nil })
		if now := run.after(maxCallBackoff + tick); now.Pair.Leaf().Equal(first.Pair.Leaf()) {
			t.Error("not renewed once the API server was back")
		}
	})
}

// A CA near its end cuts certificates short: two thirds of their nominal lifetime
// may be over at once.
func TestCutShortCertificateIsNotRenewedInALoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.spoil = func(cert *x509.Certificate) {
			cert.NotBefore, cert.NotAfter = time.Now().Add(-10*time.Hour), time.Now().Add(30*time.Minute)
		}
		run := c.start(c.config())
		run.after(9 * time.Minute)
		if n := c.count("POST"); n != 1 {
			t.Errorf("%d requests in 9 of 30 minutes, want 1", n)
		}
		run.after(2 * time.Minute)
		if n := c.count("POST"); n != 2 {
			t.Errorf("%d requests in 11 of 30 minutes, want 2", n)
		}
	})
}

func TestRefusedRenewalIsRetriedSoonerNearTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		config := c.config()
		config.Duration = MinDuration
		run := c.start(config)
		run.after(time.Second)
		c.with(func() {
			c.decide = func(r *Request) { r.Status.Conditions = []RequestCondition{{Type: "Denied"}} }
		})
		run.after(9*time.Minute + 50*time.Second)
		if n := c.count("POST"); n < 8 {
			t.Errorf("%d requests in the 5 minutes before the end, want at least 7 renewals", n)
		}
		c.with(func() { c.decide = nil })
		run.after(time.Second)
		if _, err := Health(config, "", time.Now()); err != nil {
			t.Errorf("the last second did not save it: %v", err)
		}
	})
}

func TestBackoffStartsAnewAfterARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		run := c.start(c.config())
		deny := func() { c.decide = func(r *Request) { r.Status.Conditions = []RequestCondition{{Type: "Denied"}} } }
		run.after(15 * time.Hour)
		c.with(deny)
		run.after(6 * time.Hour)
		c.with(func() { c.decide = nil })
		run.after(20 * time.Minute)
		c.with(deny)
		run.after(15*time.Hour + 30*time.Minute) // short of the next renewal
		before := c.count("POST")
		run.after(38 * time.Minute)
		if n := c.count("POST") - before; n < 3 {
			t.Errorf("%d requests after the second refusal, want quick ones again", n)
		}
	})
}

func TestIssuedCertificateExpiresWithoutABundle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		if err := os.Remove(filepath.Join(c.dir, "bundle")); err != nil {
			t.Fatal(err)
		}
		config := c.config()
		config.Duration = MinDuration
		run := c.start(config)
		run.after(time.Hour)
		c.write("bundle", c.ca.bundle())
		if run.after(tick) == nil {
			t.Fatal("nothing was written once the bundle came")
		}
		if _, err := Health(config, "", time.Now()); err != nil {
			t.Error(err)
		}
	})
}

func TestRestartWithADistrustedCertificateRenews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		second := newAuthority(t, "second")
		first := c.start(c.config())
		first.after(time.Second)
		c.with(func() { c.decide = func(*Request) {} })
		c.write("bundle", second.bundle())
		first.after(10 * time.Second)
		first.cancel()
		if err := first.result(); err != nil {
			t.Fatal(err)
		}
		c.with(func() { c.decide, c.ca = nil, second })
		again := c.start(c.config())
		if now := again.after(time.Second); now.Pair.leadsTo(now.Bundle, time.Now()) != nil {
			t.Error("not renewed at once")
		}
	})
}

func TestCertificateWithoutApprovalIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.decide = func(r *Request) {
			c.issue(r)
			r.Status.Conditions = nil
		}
		run := c.start(c.config())
		if run.after(time.Minute) != nil {
			t.Error("took a certificate that nobody approved")
		}
	})
}

func TestDirectoryThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		blocker := filepath.Join(c.dir, "out", "tls.key")
		if err := os.Mkdir(blocker, 0o700); err != nil {
			t.Fatal(err)
		}
		run := c.start(c.config())
		if run.after(time.Minute) != nil {
			t.Error("written though a directory is in the way")
		}
		run.wantLog("trying again to write")
		if err := os.Remove(blocker); err != nil {
			t.Fatal(err)
		}
		if run.after(time.Second) == nil || c.count("POST") != 1 {
			t.Errorf("the issued pair was not written afterwards; %d requests", c.count("POST"))
		}
		if status := run.status(); status != "" {
			t.Errorf("status %q is left behind", status)
		}
	})
}
