// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"bytes"
	"crypto/tls"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/agent/agenttest"
	"github.com/certwright/certwright/agent/credential"
	"github.com/certwright/certwright/agent/files"
)

// visible are the names in the directory that programs list.
func (r *agentRun) visible() (names []string) {
	r.t.Helper()
	for _, entry := range agenttest.Must(os.ReadDir(r.config.Directory))(r.t) {
		if !strings.HasPrefix(entry.Name(), "..") {
			names = append(names, entry.Name())
		}
	}
	return names
}

func (r *agentRun) file(name string) []byte {
	r.t.Helper()
	return agenttest.Must(os.ReadFile(filepath.Join(r.config.Directory, name)))(r.t)
}

// stop ends the run as SIGTERM does.
func (r *agentRun) stop() {
	r.t.Helper()
	r.cancel()
	if err := r.result(); err != nil {
		r.t.Fatal(err)
	}
}

func TestFilesAreThoseOfTheConfig(t *testing.T) {
	pem := []string{"ca.crt", "tls.crt", "tls.key"}
	for name, test := range map[string]struct {
		change func(*agent.Config)
		want   []string
	}{
		"as ever":      {func(*agent.Config) {}, pem},
		"public roots": {func(c *agent.Config) { c.PublicRoots = true }, append([]string{"ca-bundle.crt"}, pem...)},
		"PKCS #12":     {func(c *agent.Config) { c.Formats = []string{agent.FormatPKCS12} }, append([]string{"keystore-password", "keystore.p12", "truststore.p12"}, pem...)},
		"JKS":          {func(c *agent.Config) { c.Formats = []string{agent.FormatJKS} }, append([]string{"keystore-password", "keystore.jks", "truststore.jks"}, pem...)},
		"combined PEM": {func(c *agent.Config) { c.Formats = []string{agent.FormatPEM} }, append([]string{"tls-combined.pem"}, pem...)},
		"all": {
			func(c *agent.Config) {
				c.PublicRoots, c.Formats = true, []string{agent.FormatPKCS12, agent.FormatJKS, agent.FormatPEM}
			},
			append([]string{"ca-bundle.crt", "keystore-password", "keystore.jks", "keystore.p12", "tls-combined.pem", "truststore.jks", "truststore.p12"}, pem...),
		},
		"trust only": {trustOnly, []string{"ca.crt"}},
		"trust only, all": {func(c *agent.Config) {
			trustOnly(c)
			c.PublicRoots, c.Formats = true, []string{agent.FormatPKCS12, agent.FormatJKS}
		}, []string{"ca-bundle.crt", "ca.crt", "truststore.jks", "truststore.p12"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				config := c.config()
				test.change(&config)
				if err := config.Validate(); err != nil {
					t.Fatal(err)
				}
				run := c.start(config)
				if run.after(time.Second) == nil {
					t.Fatal("no files")
				}
				slices.Sort(test.want)
				if got := run.visible(); !slices.Equal(got, test.want) {
					t.Errorf("files %q, want %q", got, test.want)
				}
				if _, err := Health(config, "", time.Now()); err != nil {
					t.Errorf("health: %v", err)
				}
			})
		})
	}
}

// trustOnly makes a Config one for trust anchors alone.
func trustOnly(c *agent.Config) {
	*c = agent.Config{TrustOnly: true, Directory: c.Directory, TrustBundleFiles: c.TrustBundleFiles}
}

// Servers refuse a key of their own user that others may read; where they are other
// users, they read it by way of their group.
func TestWhoMayReadTheKey(t *testing.T) {
	for _, test := range []struct {
		reload  *agent.Reload
		private os.FileMode
	}{
		{nil, 0o640},
		{&agent.Reload{URL: "http://localhost:1/"}, 0o640},
		{&agent.Reload{Process: "postgres", Signal: "HUP"}, 0o600},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t)
			config := c.config()
			config.Reload, config.Formats, config.PublicRoots = test.reload, []string{agent.FormatPKCS12, agent.FormatJKS, agent.FormatPEM}, true
			run := c.start(config)
			run.after(time.Second)
			secret := []string{"tls.key", "tls-combined.pem", "keystore.p12", "keystore.jks", "keystore-password"}
			for _, name := range run.visible() {
				want := os.FileMode(0o640)
				if slices.Contains(secret, name) {
					want = test.private
				}
				if mode := agenttest.Must(os.Stat(filepath.Join(config.Directory, name)))(t).Mode(); mode != want {
					t.Errorf("with %+v, %s has mode %v, want %v", test.reload, name, mode, want)
				}
			}
		})
	}
}

func TestKeystoresOpenWithTheirPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		config := c.config()
		config.Formats = []string{agent.FormatPKCS12, agent.FormatJKS, agent.FormatPEM}
		run := c.start(config)
		run.after(time.Second)
		password := string(run.file(files.Password))
		if len(password) != 32 {
			t.Errorf("password of %d characters", len(password))
		}
		for range 2 {
			for store, want := range map[string]string{"keystore.p12": "BEGIN PRIVATE KEY", "truststore.p12": "BEGIN CERTIFICATE"} {
				out, err := exec.Command("openssl", "pkcs12", "-nodes", "-in", filepath.Join(config.Directory, store),
					"-passin", "file:"+filepath.Join(config.Directory, files.Password)).CombinedOutput()
				if err != nil || !strings.Contains(string(out), want) {
					t.Errorf("%s: %v\n%s", store, err, out)
				}
			}
			combined := filepath.Join(config.Directory, files.Combined)
			if _, err := tls.LoadX509KeyPair(combined, combined); err != nil {
				t.Errorf("combined: %v", err)
			}
			if !bytes.HasPrefix(run.file(files.Combined), []byte("-----BEGIN PRIVATE KEY")) {
				t.Error("the key does not come first")
			}
			run.after(17 * time.Hour)
		}
		if n := c.count("POST"); n != 3 {
			t.Errorf("%d requests, want 3", n)
		}
		if again := string(run.file(files.Password)); again != password {
			t.Error("the password changed with the renewal")
		}
		run.stop()
		later := c.start(config)
		later.after(17 * time.Hour)
		if again := string(later.file(files.Password)); again != password {
			t.Error("the password changed with the restart")
		}
		if strings.Contains(run.log.String()+later.log.String(), password) {
			t.Error("the log holds the password")
		}
	})
}

func TestTrustOnlyTruststoresHaveTheUsualPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		config := c.config()
		trustOnly(&config)
		config.Formats = []string{agent.FormatPKCS12}
		c.start(config).after(time.Second)
		out, err := exec.Command("openssl", "pkcs12", "-nokeys", "-in", filepath.Join(config.Directory, "truststore.p12"), "-passin", "pass:changeit").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "first root") {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// A restart with another Config shows the files that it wants and no others, at
// once and without asking for another certificate.
func TestFilesOfAnotherConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		config := c.config()
		run := c.start(config)
		first := run.after(time.Minute)
		run.stop()
		for _, step := range []struct {
			formats []string
			public  bool
			want    int // visible files
		}{
			{[]string{agent.FormatJKS}, true, 7},
			{[]string{agent.FormatPKCS12, agent.FormatPEM}, false, 7},
			{nil, false, 3},
		} {
			config.Formats, config.PublicRoots = step.formats, step.public
			if _, err := Health(config, "", time.Now()); err == nil {
				t.Error("healthy before the files are those of the Config")
			}
			run := c.start(config)
			now := run.after(time.Second)
			if got := run.visible(); len(got) != step.want {
				t.Errorf("%q of %v", got, step)
			}
			if now == nil || !now.Pair.Leaf().Equal(first.Pair.Leaf()) || c.count("POST") != 1 {
				t.Errorf("another pair was asked for: %d requests", c.count("POST"))
			}
			if _, err := Health(config, "", time.Now()); err != nil {
				t.Error(err)
			}
			run.stop()
		}
	})
}

func TestPublicRootsFollowTheAnchors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		config := c.config()
		config.PublicRoots = true
		run := c.start(config)
		run.after(time.Second)
		certs := agenttest.Must(credential.ParseCertificates(run.file(files.Public), credential.MaxBundleBytes))(t)
		if !certs[0].Equal(c.ca.Root) || len(certs) < 100 {
			t.Errorf("%d certificates, want the anchor and more than 100 public roots behind it", len(certs))
		}
		for _, cert := range certs {
			if !cert.IsCA || time.Now().AddDate(30, 0, 0).Before(cert.NotBefore) {
				t.Errorf("%s is no CA", cert.Subject)
			}
		}
	})
}

func TestTrustOnlyFollowsItsFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		second := agenttest.NewAuthority(t, "second")
		config := c.config()
		trustOnly(&config)
		config.TrustBundleFiles = append(config.TrustBundleFiles, filepath.Join(c.dir, "other"))
		run := c.start(config)
		if run.after(time.Minute) != nil {
			t.Error("written though one of the bundles is missing")
		}
		run.wantLog("waiting for the trust bundle")
		if _, err := Health(config, "", time.Now()); err == nil || !strings.Contains(err.Error(), "other: no such file") {
			t.Errorf("health: %v", err)
		}
		c.write("other", second.Bundle())
		if now := run.after(tick); now == nil || len(now.Bundle.Certs) != 2 {
			t.Fatal("not written once both were there")
		}
		c.write("other", []byte("garbage"))
		if now := run.after(time.Minute); len(now.Bundle.Certs) != 2 {
			t.Error("garbage replaced a good bundle")
		}
		c.write("other", slices.Concat(second.Bundle(), c.ca.Bundle()))
		c.write("bundle", agenttest.NewAuthority(t, "third").Bundle())
		if now := run.after(time.Minute); len(now.Bundle.Certs) != 3 {
			t.Errorf("%d anchors, want 3 different ones", len(now.Bundle.Certs))
		}
		run.stop()
		if err := os.Remove(filepath.Join(c.dir, "other")); err != nil {
			t.Fatal(err)
		}
		if now := c.start(config).after(time.Minute); len(now.Bundle.Certs) != 3 {
			t.Error("a restart without one of the files took its anchors away")
		}
		if n := len(c.calls); n != 0 {
			t.Errorf("%d calls to the API server, want none", n)
		}
	})
}

func TestTrustOnlyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		config := c.config()
		trustOnly(&config)
		config.Once = true
		run := c.start(config)
		run.after(time.Second)
		if err := run.result(); err != nil || load(config.Directory) == nil {
			t.Errorf("error %v", err)
		}
	})
}

// The anchors of others are for the application: no certificate may lead to them.
func TestAnchorsOfOthersDoNotVouchForTheCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		second := agenttest.NewAuthority(t, "second")
		c.write("other", second.Bundle())
		c.ca = second
		config := c.config()
		config.TrustBundleFiles = append(config.TrustBundleFiles, filepath.Join(c.dir, "other"))
		run := c.start(config)
		if run.after(5*time.Minute) != nil {
			t.Error("wrote a certificate of another signer")
		}
		run.wantLog("holding the issued certificate back")
	})
}

func TestHugeBundleIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		run := c.start(c.config())
		first := run.after(time.Second)
		c.write("bundle", bytes.Repeat(agenttest.NewAuthority(t, "x").Bundle(), 10000))
		if now := run.after(time.Minute); !now.Bundle.Equal(first.Bundle) {
			t.Error("the good bundle is gone")
		}
		run.wantLog("more than 4194304 bytes of PEM")
	})
}
