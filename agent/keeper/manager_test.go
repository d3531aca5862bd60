// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"bytes"
	"crypto/x509"
	"errors"
	"path/filepath"
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

func TestRunIssuesRenewsAndStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		run := c.start(c.config())
		first := run.after(time.Second)
		if first == nil {
			t.Fatal("no key pair after a second")
		}
		if got := first.Pair.Leaf().DNSNames; len(got) != 1 || got[0] != "cart.shop.svc" {
			t.Errorf("DNS names: %q", got)
		}
		if len(first.Pair.Chain) != 2 || len(first.Bundle.Certs) != 1 || !first.Bundle.Certs[0].Equal(c.ca.Root) {
			t.Errorf("chain of %d and bundle of %d certificates; the root belongs into the bundle only", len(first.Pair.Chain), len(first.Bundle.Certs))
		}
		// 24h05m in all, two thirds of it less the 5 minutes backdated: 15h58m.
		if again := run.after(15*time.Hour + 57*time.Minute); !again.Pair.Leaf().Equal(first.Pair.Leaf()) {
			t.Error("renewed too early")
		}
		second := run.after(2 * time.Minute)
		if second.Pair.Leaf().Equal(first.Pair.Leaf()) {
			t.Error("not renewed after two thirds of the lifetime")
		}
		if equalKeys(first.Pair, second.Pair) {
			t.Error("renewed with the same key")
		}
		if n := c.count("POST"); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
		stopped := time.Now()
		run.cancel()
		if err := run.result(); err != nil || time.Since(stopped) > 0 {
			t.Errorf("stopping: error %v after %v", err, time.Since(stopped))
		}
		for _, secret := range []string{"the-token", "PRIVATE KEY", "BEGIN CERT", "LS0tLS1"} {
			if strings.Contains(run.log.String(), secret) {
				t.Errorf("the log holds %q", secret)
			}
		}
	})
}

func TestRunOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		config := c.config()
		config.Once = true
		run := c.start(config)
		if run.after(time.Second) == nil {
			t.Fatal("no key pair")
		}
		if err := run.result(); err != nil {
			t.Error(err)
		}
		again := c.start(config)
		again.after(time.Second)
		if err := again.result(); err != nil || c.count("POST") != 1 {
			t.Errorf("second run: error %v, %d requests in all, want the pair to be reused", err, c.count("POST"))
		}
	})
}

func TestRestartReusesOnlyWhatAnswersTheConfig(t *testing.T) {
	cases := map[string]struct {
		change func(*agent.Config)
		wait   time.Duration
		spoil  string // a file to overwrite
		posts  int
	}{
		"same config":        {posts: 1},
		"past renewal":       {wait: 20 * time.Hour, posts: 2},
		"expired":            {wait: 25 * time.Hour, posts: 2},
		"other names":        {change: func(c *agent.Config) { c.DNSNames = []string{"other.shop.svc"} }, posts: 2},
		"other signer":       {change: func(c *agent.Config) { c.SignerName = "example.com/other" }, posts: 2},
		"other usages":       {change: func(c *agent.Config) { c.Usages = []string{"client auth"} }, posts: 2},
		"other algorithm":    {change: func(c *agent.Config) { c.KeyAlgorithm = "Ed25519" }, posts: 2},
		"other duration":     {change: func(c *agent.Config) { c.Duration = agent.Duration(time.Hour) }, posts: 2},
		"order of usages":    {change: func(c *agent.Config) { c.Usages = []string{"server auth", "client auth", "digital signature"} }, posts: 1},
		"broken key":         {spoil: files.Key, posts: 2},
		"broken certificate": {spoil: files.Cert, posts: 2},
		"broken bundle":      {spoil: files.Bundle, posts: 2},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				config := c.config()
				first := c.start(config)
				first.after(time.Second)
				first.stop()
				if test.spoil != "" {
					c.write(filepath.Join("out", test.spoil), []byte("garbage"))
				}
				if test.change != nil {
					test.change(&config)
				}
				time.Sleep(test.wait)
				again := c.start(config)
				if again.after(2*time.Second) == nil {
					t.Error("no key pair")
				}
				if n := c.count("POST"); n != test.posts {
					t.Errorf("%d requests in all, want %d", n, test.posts)
				}
				if _, err := Health(config, "", time.Now()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestVerdictWithoutPairEndsRun(t *testing.T) {
	deny := func(kind string) func(*cluster) {
		return func(c *cluster) {
			c.decide = func(r *apiserver.Request) {
				r.Status.Conditions = []apiserver.RequestCondition{{Type: kind, Reason: "NotPermitted", Message: "dnsNames[0]: \"x\" is not\nallowed"}}
			}
		}
	}
	cases := map[string]struct {
		setup   func(*cluster)
		verdict string
		text    string
	}{
		"denied": {deny("Denied"), "Denied", `NotPermitted: dnsNames[0]: "x" is not allowed`},
		"failed": {deny("Failed"), "Failed", "NotPermitted"},
		"failed though issued": {func(c *cluster) {
			c.decide = func(r *apiserver.Request) {
				c.issue(r)
				r.Status.Conditions = append(r.Status.Conditions, apiserver.RequestCondition{Type: "Failed", Reason: "Late"})
			}
		}, "Failed", "Late"},
		"foreign key": {func(c *cluster) {
			other := agenttest.Must(credential.GenerateKey("ECDSA-P256"))(c.t)
			c.spoil = func(cert *x509.Certificate) { cert.PublicKey = other.Public() }
		}, "Unusable", "another key"},
		"a name lacks": {func(c *cluster) { c.spoil = func(cert *x509.Certificate) { cert.URIs = nil } }, "Unusable", "lacks requested names: URI:spiffe://example.org/ns/shop/sa/cart"},
		"expired when issued": {func(c *cluster) {
			c.spoil = func(cert *x509.Certificate) { cert.NotAfter = time.Now().Add(-time.Minute) }
		}, "Unusable", "valid from"},
		"starts too late": {func(c *cluster) {
			c.spoil = func(cert *x509.Certificate) { cert.NotBefore = time.Now().Add(6 * time.Minute) }
		}, "Unusable", "valid from"},
		"garbage certificate": {func(c *cluster) {
			c.decide = func(r *apiserver.Request) { c.issue(r); r.Status.Certificate = []byte("garbage") }
		}, "Unusable", "no certificate found"},
		"a key among the certificates": {func(c *cluster) {
			c.decide = func(r *apiserver.Request) {
				c.issue(r)
				r.Status.Certificate = append(r.Status.Certificate, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"...)
			}
		}, "Unusable", "PRIVATE KEY"},
		"another CA than the bundle's": {func(c *cluster) { c.ca = agenttest.NewAuthority(c.t, "second") }, "Unusable", "Untrusted"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				test.setup(c)
				run := c.start(c.config())
				if run.after(distrustLimit+time.Minute) != nil {
					t.Error("a key pair was written")
				}
				var verdict *apiserver.RequestError
				err := run.result()
				if !errors.As(err, &verdict) || verdict.Verdict != test.verdict || !strings.Contains(err.Error(), test.text) {
					t.Errorf("error %v, want verdict %s with %q", err, test.verdict, test.text)
				}
				if n := c.count("POST"); n != 1 {
					t.Errorf("%d requests, want 1", n)
				}
			})
		})
	}
}

func TestVerdictOnRenewalKeepsThePair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		run := c.start(c.config())
		first := run.after(15 * time.Hour)
		c.with(func() {
			c.decide = func(r *apiserver.Request) {
				r.Status.Conditions = []apiserver.RequestCondition{{Type: "Denied", Reason: "Stricter"}}
			}
		})
		later := run.after(8 * time.Hour)
		if !later.Pair.Leaf().Equal(first.Pair.Leaf()) {
			t.Error("the valid pair is gone")
		}
		run.wantLog("keeping the valid certificate")
		run.wantLog("Stricter")
		if n := c.count("POST"); n < 20 || n > 60 {
			t.Errorf("%d requests in 7 hours, want one about every 15 minutes", n)
		}
		c.with(func() { c.decide = nil })
		if renewed := run.after(16 * time.Minute); renewed.Pair.Leaf().Equal(first.Pair.Leaf()) {
			t.Error("not renewed after the verdict changed")
		}
		c.with(func() {
			c.decide = func(r *apiserver.Request) { r.Status.Conditions = []apiserver.RequestCondition{{Type: "Denied"}} }
		})
		run.after(25 * time.Hour)
		var verdict *apiserver.RequestError
		if err := run.result(); !errors.As(err, &verdict) {
			t.Errorf("after expiry: error %v, want the verdict", err)
		}
	})
}

func equalKeys(a, b *credential.Pair) bool {
	return bytes.Equal(a.Leaf().RawSubjectPublicKeyInfo, b.Leaf().RawSubjectPublicKeyInfo)
}
