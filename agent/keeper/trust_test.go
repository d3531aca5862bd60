// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"bytes"
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
	followed := followFiles([]string{name})
	now := time.Now()
	if err := followed.read(now); !errors.Is(err, fs.ErrNotExist) || followed.all != nil {
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
		err := followed.read(test.at)
		size := 0
		if followed.all != nil {
			size = len(followed.all.Certs)
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

// Several bundles, none too large by itself, could fill the volume together.
func TestHugeBundlesTogetherAreRefused(t *testing.T) {
	big := func(i int) trustFile {
		cert := *agenttest.NewAuthority(t, "x").Root
		cert.Raw = bytes.Repeat([]byte{byte(i)}, credential.MaxBundleBytes/2)
		return trustFile{good: &credential.Bundle{Certs: []*x509.Certificate{&cert}}}
	}
	followed := trustFiles{files: []trustFile{big(1), big(2)}}
	if err := followed.merge(); err != nil || len(followed.all.Certs) != 2 {
		t.Errorf("2 halves: %v", err)
	}
	before := followed.all
	followed.files = append(followed.files, big(3))
	if err := followed.merge(); err == nil || !strings.Contains(err.Error(), "at most 4194304 are allowed") || followed.all != before {
		t.Errorf("3 halves: %v", err)
	}
}

// What is wrong with the files together is said for as long as it is.
func TestHugeBundlesTogetherAreRefusedAgain(t *testing.T) {
	dir := t.TempDir()
	small := agenttest.NewAuthority(t, "small").Bundle()
	huge := *agenttest.NewAuthority(t, "huge").Root
	huge.Raw = bytes.Repeat([]byte{1}, credential.MaxBundleBytes)
	followed := followFiles([]string{filepath.Join(dir, "huge"), filepath.Join(dir, "small")})
	followed.files[0].good, followed.files[0].raw = &credential.Bundle{Certs: []*x509.Certificate{&huge}}, []byte("huge")
	for name, text := range map[string][]byte{"huge": []byte("huge"), "small": small} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for look := range 3 {
		if err := followed.read(time.Now()); err == nil || !strings.Contains(err.Error(), "the trust bundles together hold") {
			t.Errorf("look %d: %v", look+1, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "huge"), agenttest.NewAuthority(t, "other").Bundle(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := followed.read(time.Now()); err != nil || followed.all == nil || len(followed.all.Certs) != 2 {
		t.Errorf("when they fit: %v", err)
	}
}
