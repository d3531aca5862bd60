// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certwright/certwright/agent/agenttest"
	"github.com/certwright/certwright/agent/credential"
)

func TestTrustFileKeepsTheLastGoodBundle(t *testing.T) {
	a := agenttest.NewAuthority(t, "ca")
	name := filepath.Join(t.TempDir(), "ca.crt")
	files := followFiles([]string{name})
	now := time.Now()
	if err := files.read(now); !errors.Is(err, fs.ErrNotExist) || files.all != nil {
		t.Fatalf("missing file: %v", err)
	}
	for step, test := range []struct {
		data []byte
		at   time.Time
		ok   bool
		size int
	}{
		{nil, now, false, 0},
		{slices.Concat(a.Bundle(), a.Bundle()), now, true, 1},
		{[]byte("garbage"), now, false, 1},
		{slices.Concat(a.Bundle(), credential.EncodeCertificates([]*x509.Certificate{a.Intermediate})), now, true, 2},
		{a.Bundle(), a.Root.NotAfter, false, 2},
		{a.Bundle(), now, true, 1},
	} {
		if err := os.WriteFile(name, test.data, 0o600); err != nil {
			t.Fatal(err)
		}
		err := files.read(test.at)
		size := 0
		if files.all != nil {
			size = len(files.all.Certs)
		}
		if (err == nil) != test.ok || size != test.size {
			t.Errorf("step %d: error %v and %d certificates, want success %t and %d", step, err, size, test.ok, test.size)
		}
	}
}

func TestBundleComesLate(t *testing.T) {
	for name, bundle := range map[string]string{"missing": "", "empty": " ", "broken": "garbage", "no CA": "leaf"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				c.write("bundle", []byte(bundle))
				switch bundle {
				case "":
					os.Remove(filepath.Join(c.dir, "bundle"))
				case "leaf":
					c.write("bundle", credential.EncodeCertificates(pair(t, c.ca, credential.Names{DNS: []string{"x"}}, time.Hour).Chain[:1]))
				}
				run := c.start(c.config())
				if run.after(time.Hour) != nil {
					t.Error("written without a trust bundle")
				}
				run.wantLog("waiting for the trust bundle")
				if _, err := Health(run.config, "", time.Now()); err == nil || !strings.Contains(err.Error(), "waiting for the trust bundle") {
					t.Errorf("health: %v", err)
				}
				c.write("bundle", c.ca.Bundle())
				if run.after(tick) == nil || c.count("POST") != 1 {
					t.Errorf("not written after the bundle came, %d requests", c.count("POST"))
				}
			})
		})
	}
}

func TestBundleFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		run := c.start(c.config())
		first := run.after(time.Minute)
		second := agenttest.NewAuthority(t, "second")

		for _, bad := range []string{"", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
			c.write("bundle", []byte(bad))
			if now := run.after(time.Minute); !now.Bundle.Equal(first.Bundle) {
				t.Errorf("bundle %q replaced a good one", bad)
			}
		}
		run.wantLog("keeping the last good trust bundle")

		c.write("bundle", append(second.Bundle(), c.ca.Bundle()...))
		both := run.after(10 * time.Second)
		if len(both.Bundle.Certs) != 2 || !both.Pair.Leaf().Equal(first.Pair.Leaf()) || c.count("POST") != 1 {
			t.Errorf("bundle of %d with %d requests, want 2 with the same pair", len(both.Bundle.Certs), c.count("POST"))
		}
		before := agenttest.Must(os.Readlink(filepath.Join(run.config.Directory, "..data")))(t)
		c.write("bundle", append(c.ca.Bundle(), second.Bundle()...))
		run.after(10 * time.Second)
		if after := agenttest.Must(os.Readlink(filepath.Join(run.config.Directory, "..data")))(t); after != before {
			t.Error("another order of the bundle rewrote the directory")
		}

		// The old root is withdrawn: trusted no longer, at once; renewed as soon as the signer has moved.
		c.write("bundle", second.Bundle())
		moved := run.after(10 * time.Second)
		if !moved.Bundle.Certs[0].Equal(second.Root) || !moved.Pair.Leaf().Equal(first.Pair.Leaf()) {
			t.Error("want the new bundle with the old pair until the signer uses the new root")
		}
		c.with(func() { c.ca = second })
		renewed := run.after(distrustLimit + 2*time.Minute)
		if renewed.Pair.Leaf().Equal(first.Pair.Leaf()) || renewed.Pair.LeadsTo(renewed.Bundle, time.Now()) != nil {
			t.Error("not renewed from the new root")
		}
	})
}

func TestBundleOvertakenByTheSigner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		second := agenttest.NewAuthority(t, "second")
		c.ca = second
		run := c.start(c.config())
		if run.after(5*time.Minute) != nil {
			t.Error("wrote a pair that does not lead to the bundle")
		}
		run.wantLog("holding the issued certificate back")
		c.write("bundle", second.Bundle())
		if run.after(time.Second) == nil || c.count("POST") != 1 {
			t.Error("the held certificate was not used once the bundle came")
		}
		if status := run.status(); status != "" {
			t.Errorf("status %q is left behind", status)
		}
	})
}
