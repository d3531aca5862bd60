// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/agent/agenttest"
	"github.com/certwright/certwright/agent/apiserver"
	"github.com/certwright/certwright/api/v1alpha1"
)

// The signer's advice can have a certificate renewed earlier and no more: whoever can annotate a request must neither keep the agent from
// renewing in time, nor have it ask without end.
func TestAdviceToRenew(t *testing.T) {
	const own = 15*time.Hour + 58*time.Minute // see TestRunIssuesRenewsAndStops
	for name, c := range map[string]struct {
		advice func(issued time.Time) string
		want   time.Duration
	}{
		"none":    {func(time.Time) string { return "" }, own},
		"earlier": {func(at time.Time) string { return at.Add(10 * time.Hour).Format(time.RFC3339) }, 10 * time.Hour},
		"in another time zone": {func(at time.Time) string {
			return at.Add(10 * time.Hour).In(time.FixedZone("", -7200)).Format(time.RFC3339)
		}, 10 * time.Hour},
		"later":                    {func(at time.Time) string { return at.Add(20 * time.Hour).Format(time.RFC3339) }, own},
		"never":                    {func(time.Time) string { return "9999-12-31T23:59:59Z" }, own},
		"at once":                  {func(at time.Time) string { return at.Format(time.RFC3339) }, own},
		"in the first third":       {func(at time.Time) string { return at.Add(7 * time.Hour).Format(time.RFC3339) }, own},
		"long ago":                 {func(time.Time) string { return "0001-01-01T00:00:00Z" }, own},
		"no time":                  {func(time.Time) string { return "tomorrow" }, own},
		"in another form":          {func(at time.Time) string { return at.Add(10 * time.Hour).Format(time.RFC1123) }, own},
		"as long as an annotation": {func(time.Time) string { return strings.Repeat("9", 256<<10) }, own},
		"a year that overflows":    {func(time.Time) string { return "99999-01-01T00:00:00Z" }, own},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cluster := newCluster(t)
				cluster.decide = func(r *apiserver.Request) {
					cluster.issue(r)
					r.Metadata.Annotations = map[string]string{v1alpha1.AnnotationRenewAt: c.advice(time.Now())}
				}
				run := cluster.start(cluster.config())
				first := run.after(c.want - time.Minute)
				if n := cluster.count("POST"); n != 1 {
					t.Fatalf("%d requests a minute before %s, want 1", n, c.want)
				}
				if second := run.after(2 * time.Minute); second.Pair.Leaf().Equal(first.Pair.Leaf()) {
					t.Errorf("not renewed after %s", c.want)
				}
			})
		})
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
		if now := run.after(30*time.Second + tick); now.Pair.Leaf().Equal(first.Pair.Leaf()) {
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
		config.Duration = agent.MinDuration
		run := c.start(config)
		run.after(time.Second)
		c.with(func() {
			c.decide = func(r *apiserver.Request) { r.Status.Conditions = []apiserver.RequestCondition{{Type: "Denied"}} }
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
		deny := func() {
			c.decide = func(r *apiserver.Request) { r.Status.Conditions = []apiserver.RequestCondition{{Type: "Denied"}} }
		}
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
		config.Duration = agent.MinDuration
		run := c.start(config)
		run.after(time.Hour)
		c.write("bundle", c.ca.Bundle())
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
		second := agenttest.NewAuthority(t, "second")
		first := c.start(c.config())
		first.after(time.Second)
		c.with(func() { c.decide = func(*apiserver.Request) {} })
		c.write("bundle", second.Bundle())
		first.after(10 * time.Second)
		first.stop()
		c.with(func() { c.decide, c.ca = nil, second })
		again := c.start(c.config())
		if now := again.after(time.Second); now.Pair.LeadsTo(now.Bundle, time.Now()) != nil {
			t.Error("not renewed at once")
		}
	})
}

func TestCertificateWithoutApprovalIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.decide = func(r *apiserver.Request) {
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
