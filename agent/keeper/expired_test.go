// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/agent/agenttest"
	"github.com/certwright/certwright/agent/apiserver"
	"github.com/certwright/certwright/agent/credential"
	"github.com/certwright/certwright/agent/files"
)

// outage has the API server answer nothing from now on.
func (c *cluster) outage() {
	c.with(func() {
		c.intercept = func(w http.ResponseWriter, _ *http.Request) bool {
			refuse(w, http.StatusServiceUnavailable, "ServiceUnavailable", "out of order")
			return true
		}
	})
}

// expired runs an agent until its pair has expired and it cannot renew it.
func expired(t *testing.T, c *cluster, config agent.Config) (run *agentRun, old *files.Set) {
	t.Helper()
	run = c.start(config)
	if old = run.after(time.Minute); old == nil {
		t.Fatal("no key pair")
	}
	c.outage()
	run.after(24 * time.Hour)
	run.wantLog("has expired and there is no other yet")
	return run, old
}

// sound reports what no reader may ever find in the directory: another's key, or
// a certificate that came after the old one and does not lead to what is beside it.
func sound(t *testing.T, now, old *files.Set) {
	t.Helper()
	if now == nil || now.Pair == nil {
		t.Fatal("the files are gone")
	}
	if err := now.Pair.Answers(credential.Names{}); err != nil {
		t.Error(err)
	}
	if err := now.Pair.LeadsTo(now.Bundle, time.Now()); err != nil && !now.Pair.Leaf().Equal(old.Pair.Leaf()) {
		t.Errorf("a new certificate beside a bundle to which it does not lead: %v", err)
	}
}

// The pod has to know whom to trust also while it cannot renew.
func TestNewBundleIsWrittenBesideAnExpiredPair(t *testing.T) {
	for name, test := range map[string]struct {
		formats []string
		bundle  func(old, next *agenttest.Authority) []byte
		restart bool
		anchors int
	}{
		"a root more":                 {nil, func(old, next *agenttest.Authority) []byte { return slices.Concat(old.Bundle(), next.Bundle()) }, false, 2},
		"a compromised root removed":  {nil, func(_, next *agenttest.Authority) []byte { return next.Bundle() }, false, 1},
		"removed, and a restart":      {nil, func(_, next *agenttest.Authority) []byte { return next.Bundle() }, true, 1},
		"in every format, by restart": {[]string{agent.FormatPKCS12, agent.FormatJKS, agent.FormatPEM}, func(_, next *agenttest.Authority) []byte { return next.Bundle() }, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				next := agenttest.NewAuthority(t, "next")
				config := c.config()
				config.Formats = test.formats
				run, old := expired(t, c, config)
				if test.restart {
					run.stop()
					run = c.start(config)
					run.after(time.Minute)
					run.wantLog("keeping the files on disk until there is a new key pair")
				}
				c.write("bundle", test.bundle(c.ca, next))
				now := run.after(10 * time.Second)
				sound(t, now, old)
				if len(now.Bundle.Certs) != test.anchors || !slices.ContainsFunc(now.Bundle.Certs, next.Root.Equal) || slices.ContainsFunc(now.Bundle.Certs, c.ca.Root.Equal) != (test.anchors == 2) {
					t.Errorf("%d anchors on disk, want those that are published", len(now.Bundle.Certs))
				}
				if !now.Pair.Leaf().Equal(old.Pair.Leaf()) || now.Password != old.Password {
					t.Error("the pair or the password changed with the bundle")
				}
				if _, err := Health(config, "", time.Now()); err == nil || !strings.Contains(err.Error(), "the certificate is valid from") {
					t.Errorf("health: %v, want it to tell of the expired certificate", err)
				}

				for _, bad := range []string{"", "garbage", string(agenttest.Encode(next.Intermediate))[:100]} {
					c.write("bundle", []byte(bad))
					if again := run.after(time.Minute); !again.Bundle.Equal(now.Bundle) {
						t.Errorf("bundle %q replaced a good one", bad)
					}
				}
				// The API server is back, and the signer has moved: all is well again.
				c.write("bundle", test.bundle(c.ca, next))
				c.with(func() { c.intercept, c.ca = nil, next })
				renewed := run.after(time.Minute)
				sound(t, renewed, old)
				if renewed.Pair.Leaf().Equal(old.Pair.Leaf()) || equalKeys(renewed.Pair, old.Pair) {
					t.Error("no new pair once the API server was back")
				}
			})
		})
	}
}

// The signer has moved to a root that the bundle does not hold yet, with a pair that
// has expired meanwhile: there is no moment with the new certificate beside the old bundle.
func TestNewPairAfterAnExpiredOneWaitsForItsBundle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		next := agenttest.NewAuthority(t, "next")
		run, old := expired(t, c, c.config())
		c.with(func() { c.intercept, c.ca = nil, next })
		for range 100 {
			sound(t, run.after(time.Second), old)
		}
		if now := run.after(0); !now.Pair.Leaf().Equal(old.Pair.Leaf()) || !now.Bundle.Equal(old.Bundle) {
			t.Fatal("something was written that does not fit together")
		}
		run.wantLog("holding the issued certificate back")
		c.write("bundle", next.Bundle())
		for range 100 {
			sound(t, run.after(100*time.Millisecond), old)
		}
		if now := run.after(0); now.Pair.Leaf().Equal(old.Pair.Leaf()) {
			t.Error("the issued pair was not written once its bundle was there")
		}
	})
}

// Several bundles make ca.crt. One of others that is broken since the agent began anew
// does not keep the signer's own new root from it, and nothing that was there is lost.
func TestABrokenBundleOfOthersHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		next, other := agenttest.NewAuthority(t, "next"), agenttest.NewAuthority(t, "other")
		c.write("other", other.Bundle())
		config := c.config()
		config.TrustBundleFiles = append(config.TrustBundleFiles, filepath.Join(c.dir, "other"))
		run := c.start(config)
		old := run.after(time.Minute)
		run.stop()
		c.write("bundle", next.Bundle())
		c.write("other", []byte("garbage"))
		c.with(func() { c.ca = next })
		run = c.start(config)
		for range 60 {
			now := run.after(time.Second)
			sound(t, now, old)
		}
		now := run.after(tick)
		if now.Pair.Leaf().Equal(old.Pair.Leaf()) || len(now.Bundle.Certs) != 3 || !slices.ContainsFunc(now.Bundle.Certs, other.Root.Equal) {
			t.Errorf("%d anchors, want a new pair, its root, and what was there", len(now.Bundle.Certs))
		}
		c.write("other", other.Bundle())
		now = run.after(tick + time.Second)
		sound(t, now, old)
		if len(now.Bundle.Certs) != 2 || c.count("POST") != 2 {
			t.Errorf("%d anchors, %d requests, want both bundles and nothing else", len(now.Bundle.Certs), c.count("POST"))
		}
	})
}

// All bundles together may be too large. A certificate that leads to a root which is
// not written for that does not go beside the ones that are.
func TestNewPairWaitsForTheBundleThatIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		pair := c.start(c.config()).after(time.Minute).Pair
		parse := func(a *agenttest.Authority) *credential.Bundle {
			return agenttest.Must(credential.ParseBundle(a.Bundle(), time.Now()))(t)
		}
		own, others := parse(c.ca), parse(agenttest.NewAuthority(t, "others"))
		followed := trustFiles{files: []trustFile{{good: own}, {good: others}}, all: others}
		if err := followed.vouch(pair, time.Now()); err == nil || !strings.Contains(err.Error(), "the bundles of all signers together lack the new one of its signer") {
			t.Errorf("what is written lacks its root, and vouch says %v", err)
		}
		if err := errors.Join(followed.merge(), followed.vouch(pair, time.Now())); err != nil {
			t.Errorf("with both bundles: %v", err)
		}
	})
}

// A verdict ends a run that has no valid pair; the next one brings the bundle
// before it asks again.
func TestVerdictAfterExpiryDoesNotKeepTheBundleBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		next := agenttest.NewAuthority(t, "next")
		config := c.config()
		run, old := expired(t, c, config)
		run.stop()
		c.write("bundle", next.Bundle())
		c.with(func() {
			c.intercept = nil
			c.decide = func(r *apiserver.Request) { r.Status.Conditions = []apiserver.RequestCondition{{Type: "Denied"}} }
		})
		run = c.start(config)
		now := run.after(time.Minute)
		var verdict *apiserver.RequestError
		if err := run.result(); !errors.As(err, &verdict) {
			t.Fatalf("error %v, want the verdict", err)
		}
		sound(t, now, old)
		if len(now.Bundle.Certs) != 1 || !now.Bundle.Certs[0].Equal(next.Root) || !now.Pair.Leaf().Equal(old.Pair.Leaf()) {
			t.Error("want the new bundle and the old pair")
		}
	})
}

// Before the first pair there are no files: the containers that wait for them start with all of them.
func TestBundleAloneIsNotWrittenBeforeTheFirstPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.outage()
		run := c.start(c.config())
		for _, bundle := range [][]byte{c.ca.Bundle(), slices.Concat(c.ca.Bundle(), agenttest.NewAuthority(t, "next").Bundle())} {
			c.write("bundle", bundle)
			run.after(time.Minute)
			if names := run.visible(); len(names) > 0 {
				t.Errorf("files %q without a key pair", names)
			}
		}
		c.with(func() { c.intercept = nil })
		if now := run.after(time.Minute); now == nil || len(now.Bundle.Certs) != 2 {
			t.Error("not all files once the API server was there")
		}
	})
}
