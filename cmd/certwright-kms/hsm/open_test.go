// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package hsm_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/cmd/certwright-kms/hsm"
	"github.com/certwright/certwright/cmd/certwright-kms/provision"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca/keyuri"
)

func TestOpenRefuses(t *testing.T) {
	module := "?module-path=" + softHSM
	for name, c := range map[string]struct{ uri, chain, reason, text string }{
		"another token's key":       {uriOf("other", "ECDSA-P256"), "ECDSA-P256", "KeyMismatch", "not the one"},
		"a key of another kind":     {uriOf("test", "Ed25519"), "ECDSA-P256", "KeyUnavailable", "of the CA certificate's kind"},
		"a key of another curve":    {uriOf("test", "ECDSA-P384"), "ECDSA-P256", "KeyMismatch", "not the one"},
		"no such key":               {uriOf("test", "nothing"), "ECDSA-P256", "KeyUnavailable", "object and id"},
		"no such id":                {"pkcs11:token=test;object=ECDSA-P256;id=%00%01" + module, "ECDSA-P256", "KeyUnavailable", "object and id"},
		"no such token":             {uriOf("nothing", "ECDSA-P256"), "ECDSA-P256", "KeyUnavailable", "no token"},
		"no such serial":            {"pkcs11:token=test;serial=0;object=ECDSA-P256" + module, "ECDSA-P256", "KeyUnavailable", "no token"},
		"no such slot":              {"pkcs11:token=test;slot-id=1;object=ECDSA-P256" + module, "ECDSA-P256", "KeyUnavailable", "no token"},
		"a token that is empty":     {"pkcs11:slot-id=2;object=ECDSA-P256" + module, "ECDSA-P256", "KeyUnavailable", "no token"},
		"several tokens":            {"pkcs11:token=twin;object=ca" + module, "ECDSA-P256", "KeyUnavailable", "2 tokens"},
		"a module that is not":      {"pkcs11:token=test;object=x?module-path=/usr/lib/pkcs11/missing.so", "ECDSA-P256", "KeyUnavailable", "no such file"},
		"a module name that is not": {"pkcs11:token=test;object=x?module-name=missing", "ECDSA-P256", "KeyUnavailable", "libmissing.so"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.uri, string(certificates[c.chain]), pin)
			err := w.Check(t.Context())
			wantReason(t, err, c.reason)
			if err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("Check: %v, want it to say %q", err, c.text)
			}
			if err := w.sign(5 * time.Second); err == nil {
				t.Error("it signed")
			}
		})
	}
}

func TestOpenByEveryAttribute(t *testing.T) {
	id := "%" + strings.Join(pairs(provision.ID("ECDSA-P256")), "%")
	for name, uri := range map[string]string{
		"id":          "pkcs11:token=test;id=" + id + "?module-path=" + softHSM,
		"id, object":  "pkcs11:token=test;id=" + id + ";object=ECDSA%2dP256;type=private?module-path=" + softHSM,
		"model":       "pkcs11:token=test;manufacturer=SoftHSM%20project;model=SoftHSM%20v2;object=ECDSA-P256?module-path=" + softHSM,
		"module name": "pkcs11:token=test;object=ECDSA-P256?module-name=softhsm2",
		"file name":   "pkcs11:token=test;object=ECDSA-P256?module-name=libsofthsm2",
	} {
		t.Run(name, func(t *testing.T) {
			if err := newWorld(t, uri, string(certificates["ECDSA-P256"]), pin).sign(5 * time.Second); err != nil {
				t.Error(err)
			}
		})
	}
}

// Whoever may write a Signer must not get the signer to run a file of their choice.
func TestModulesThatMayNotBeLoaded(t *testing.T) {
	planted := filepath.Join(t.TempDir(), "libplanted.so")
	text, err := os.ReadFile(softHSM)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(planted, text, 0o755); err != nil {
		t.Fatal(err)
	}
	chain, err := signer.ParsePEM(certificates["ECDSA-P256"])
	if err != nil {
		t.Fatal(err)
	}
	open := func(m *hsm.Modules, module string) error {
		u, err := keyuri.Parse("pkcs11:token=test;object=ECDSA-P256?" + module)
		if err != nil {
			t.Fatal(err)
		}
		key, err := m.Open(u.(*keyuri.PKCS11), pin, chain[0].PublicKey)
		if err == nil {
			t.Cleanup(func() { key.Close() })
		}
		return err
	}
	for _, module := range []string{"module-path=" + planted, "module-name=planted", "module-path=/proc/self/fd/3", "module-path=/usr/lib/softhsm/x/libsofthsm2.so", "module-path=/usr/lib/softhsm.so"} {
		if err := open(&hsm.Modules{}, module); err == nil || !strings.Contains(err.Error(), "--pkcs11-module") {
			t.Errorf("%s: %v, want it refused, naming the flag", module, err)
		}
	}
	named := &hsm.Modules{Named: []string{planted}}
	for _, module := range []string{"module-path=" + planted, "module-name=planted", "module-name=libplanted"} {
		if err := open(named, module); err != nil {
			t.Errorf("%s, which a flag names: %v", module, err)
		}
	}
}

func pairs(b []byte) (out []string) {
	for _, c := range b {
		out = append(out, string("0123456789abcdef"[c>>4])+string("0123456789abcdef"[c&15]))
	}
	return out
}
