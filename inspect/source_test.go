// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/certwright/certwright/terminal"
)

func TestSecretAndDirectory(t *testing.T) {
	t.Parallel()
	root, key := newRoot(t, "root"), newKey(t)
	cert := encode(root.issue(t, key, leaf()))
	for name, tc := range map[string]struct {
		files    map[string][]byte
		verified bool
		want     []string
	}{
		"all is well":       {map[string][]byte{"tls.crt": cert, "tls.key": encodeKey(t, key), "ca.crt": encode(root.cert)}, true, nil},
		"another key":       {map[string][]byte{"tls.crt": cert, "tls.key": encodeKey(t, newKey(t)), "ca.crt": encode(root.cert)}, true, []string{"error: the private key is not that of the certificate"}},
		"another bundle":    {map[string][]byte{"tls.crt": cert, "tls.key": encodeKey(t, key), "ca.crt": encode(newRoot(t, "other").cert)}, false, []string{"error: the chain does not lead"}},
		"no bundle":         {map[string][]byte{"tls.crt": cert, "tls.key": encodeKey(t, key)}, false, nil},
		"a broken bundle":   {map[string][]byte{"tls.crt": cert, "tls.key": encodeKey(t, key), "ca.crt": []byte("x")}, false, []string{"error: the trust bundle in ca.crt cannot be read"}},
		"no key":            {map[string][]byte{"tls.crt": cert}, false, []string{"warning: there is no tls.key"}},
		"no certificate":    {map[string][]byte{"tls.key": encodeKey(t, key)}, false, []string{"warning: there is no tls.crt", "warning: there is a private key and no certificate"}},
		"empty certificate": {map[string][]byte{"tls.crt": {}, "tls.key": encodeKey(t, key)}, false, []string{"error: tls.crt: it holds no PEM block", "warning: there is a private key"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			secret := &corev1.Secret{Data: tc.files}
			secret.Namespace, secret.Name = "shop", "web"
			dir := t.TempDir()
			for file, data := range tc.files {
				if err := os.WriteFile(filepath.Join(dir, file), data, 0o640); err != nil {
					t.Fatal(err)
				}
			}
			fromSecret, err := Secret(secret, now)
			if err != nil {
				t.Fatal(err)
			}
			fromDirectory, err := Directory(dir, now)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range []Report{fromSecret, fromDirectory} {
				wantFindings(t, r, tc.want...)
				if got := r.Trust != nil && r.Trust.Verified; got != tc.verified {
					t.Errorf("%s: verified: got %v, want %v", r.Source, got, tc.verified)
				}
			}
		})
	}
}

func TestNothingToInspect(t *testing.T) {
	t.Parallel()
	if _, err := Secret(&corev1.Secret{}, now); err == nil || !strings.Contains(err.Error(), "holds none of tls.crt, tls.key and ca.crt") {
		t.Errorf("an empty secret: got %v", err)
	}
	if _, err := Directory(filepath.Join(t.TempDir(), "missing"), now); err == nil {
		t.Error("a directory that does not exist: got no error")
	}
	if _, err := ReadFile(t.TempDir()); err == nil || !strings.Contains(err.Error(), "is a directory: use inspect dir") {
		t.Errorf("a directory for a file: got %v", err)
	}
}

func TestDirectoryWarnsOfAKeyThatEveryoneMayRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tls.key"), encodeKey(t, newKey(t)), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "tls.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := Directory(dir, now)
	if err != nil {
		t.Fatal(err)
	}
	wantFindings(t, r, "warning: tls.key can be read by every user of the machine (mode 0644)", "there is no tls.crt", "no certificate")
}

// Not a byte of a private key may be in what is written, and no control character of what others chose.
func TestTextKeepsSecretsAndEscapes(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	template := leaf()
	template.Subject.CommonName = "a\x1b[2Jb\u202e"
	pemKey := encodeKey(t, key)
	cert := newRoot(t, "root\n\x1b]0;x\x07").issue(t, key, template)
	r, err := PEM("file \x1b[31m", append(encode(cert), pemKey...), nil, now)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := r.WriteText(&out, terminal.Palette{}, now); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"\x1b", "\u202e", "\x07", strings.Split(string(pemKey), "\n")[1][:20]} {
		if strings.Contains(out.String(), bad) {
			t.Errorf("%q is in the output:\n%s", bad, out.String())
		}
	}
	for _, want := range []string{`file \x1b[31m`, `CN=a\x1b[2Jb\u202e`, "web.shop.svc", "ECDSA 256, matches", "abcdef", "(in 12h)", "(12h ago)", "not verified: no trust bundle was found"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in the output:\n%s", want, out.String())
		}
	}
}
