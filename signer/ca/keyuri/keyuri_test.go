// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keyuri_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/certwright/certwright/signer/ca/keyuri"
)

const module = "?module-path=/usr/lib/softhsm/libsofthsm2.so"

func TestParse(t *testing.T) {
	slot := uint(17)
	path := "/usr/lib/softhsm/libsofthsm2.so"
	version := "0123456789abcdef0123456789abcdef"
	cloudKey := "projects/shop-1/locations/europe-north1/keyRings/pki/cryptoKeys/ca/cryptoKeyVersions/2"
	for raw, want := range map[string]keyuri.URI{
		"pkcs11:token=hsm;object=ca" + module:                    &keyuri.PKCS11{ModulePath: path, Token: "hsm", Object: "ca", ID: []byte{}},
		"pkcs11:serial=12ab;id=%00%ff%3b%41" + module:            &keyuri.PKCS11{ModulePath: path, Serial: "12ab", ID: []byte{0, 0xff, ';', 'A'}},
		"pkcs11:slot-id=17;object=my%20ca;type=private" + module: &keyuri.PKCS11{ModulePath: path, SlotID: &slot, Object: "my ca", ID: []byte{}},
		// A plus sign is one, and not a space (RFC 7512, section 2.3).
		"pkcs11:token=a+b;object=ca?module-name=softhsm2":                           &keyuri.PKCS11{ModuleName: "softhsm2", Token: "a+b", Object: "ca", ID: []byte{}},
		"pkcs11:manufacturer=M;model=N;token=T;object=ca" + module:                  &keyuri.PKCS11{ModulePath: path, Manufacturer: "M", Model: "N", Token: "T", Object: "ca", ID: []byte{}},
		"awskms:region=eu-north-1;key-id=0c2f-1":                                    &keyuri.AWSKMS{Region: "eu-north-1", KeyID: "0c2f-1"},
		"awskms:key-id=alias/ca":                                                    &keyuri.AWSKMS{KeyID: "alias/ca"},
		"awskms:key-id=arn:aws:kms:eu-north-1:123456789012:key/0c2f-1":              &keyuri.AWSKMS{KeyID: "arn:aws:kms:eu-north-1:123456789012:key/0c2f-1"},
		"cloudkms:" + cloudKey:                                                      &keyuri.CloudKMS{Version: cloudKey},
		"azurekms:vault=shop-pki;name=ca?version=" + version:                        &keyuri.AzureKMS{Vault: "shop-pki", Name: "ca", Version: version},
		"azurekms:vault=shop-pki;name=ca;version=" + version + ";environment=china": &keyuri.AzureKMS{Vault: "shop-pki", Name: "ca", Version: version, Environment: "china"},
	} {
		got, err := keyuri.Parse(raw)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, want %+v", raw, got, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	version := "0123456789abcdef0123456789abcdef"
	for raw, text := range map[string]string{
		"":                        "scheme",
		"file:/etc/passwd":        "scheme",
		"PKCS11:token=a;object=b": "scheme",
		"pkcs11:" + module:        "token, serial and slot-id",
		"pkcs11:token=a" + module: "object (its label) or id",
		"pkcs11:token=a;object=b": "module-path or module-name",
		"pkcs11:token=a;object=b?module-name=x&module-path=/y.so":                                           "module-path or module-name",
		"pkcs11:token=a;object=b?module-path=lib.so":                                                        "absolute",
		"pkcs11:token=a;object=b?module-path=/usr/lib/pkcs11/../../../tmp/x.so":                             "without detours",
		"pkcs11:token=a;object=b?module-path=/usr/lib/pkcs11/%2e%2e/x.so":                                   "without detours",
		"pkcs11:token=a;object=b?module-path=/usr/lib/pkcs11/x.so%00":                                       "without detours",
		"pkcs11:token=a;object=b?module-name=../x":                                                          "file name",
		"pkcs11:token=a;object=b?module-name=a%2fb":                                                         "file name",
		"pkcs11:token=a;object=b;slot-id=-1" + module:                                                       "number",
		"pkcs11:token=a;object=b;slot-id=0x1" + module:                                                      "number",
		"pkcs11:token=a;object=b;type=public" + module:                                                      "private",
		"pkcs11:token=a;token=b;object=c" + module:                                                          "twice",
		"pkcs11:token=a;object=b;x-vendor=1" + module:                                                       "x-vendor",
		"pkcs11:token=a;object=%zz" + module:                                                                "percent-encoded",
		"pkcs11:token=a;object=" + module:                                                                   "must have a value",
		"pkcs11:token=a;;object=b" + module:                                                                 "name=value",
		"pkcs11:token=a;object=b c" + module:                                                                "position 24",
		"pkcs11:token=a;object=é" + module:                                                                  "percent-encoded",
		"pkcs11:token=a;object=b" + module + "&pin-value=hush":                                              "pinRef",
		"pkcs11:token=a;object=b;pin-value=hush" + module:                                                   "pinRef",
		"pkcs11:token=a;object=b" + module + "&pin-source=file:/hush":                                       "pinRef",
		"awskms:key-id=ABC":                                                                                 "lower case",
		"awskms:region=nowhere;key-id=a":                                                                    "region",
		"awskms:key-id=a;profile=x":                                                                         "profile",
		"awskms:key-id=a;credentials-file=/hush":                                                            "identity",
		"azurekms:vault=shop;name=ca":                                                                       "version",
		"azurekms:vault=shop;name=ca?version=x":                                                             "hexadecimal",
		"azurekms:vault=evil.example;name=ca?version=" + version:                                            "vault",
		"azurekms:vault=shop;name=../x?version=" + version:                                                  "name",
		"azurekms:vault=shop;name=ca;client-secret=hush?version=" + version:                                 "identity",
		"azurekms:vault=shop;name=ca;aad-endpoint=https://evil.example?version=" + version:                  "aad-endpoint",
		"azurekms:vault=shop;name=ca;environment=moon?version=" + version:                                   "environment",
		"azurekms:vault=shop;name=ca;version=" + version + "?version=" + version:                            "one version",
		"cloudkms:projects/a/locations/b/keyRings/c/cryptoKeys/d":                                           "cryptoKeyVersions",
		"cloudkms:projects/a/locations/b/keyRings/c/cryptoKeys/d/cryptoKeyVersions/1?credentials-file=hush": "cryptoKeyVersions",
	} {
		u, err := keyuri.Parse(raw)
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, %v, want it to say %q", raw, u, err, text)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: the error repeats the secret: %v", raw, err)
		}
	}
}

// What is read is the same again when it is written and read.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"pkcs11:token=a;serial=1;slot-id=3;object=b%3B;id=%00%ff" + module, "pkcs11:token=a;object=b?module-name=x", "awskms:region=eu-north-1;key-id=alias/a",
		"cloudkms:projects/a/locations/b/keyRings/c/cryptoKeys/d/cryptoKeyVersions/1", "azurekms:vault=shop;name=ca?version=0123456789abcdef0123456789abcdef",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := keyuri.Parse(raw)
		if err != nil {
			return
		}
		again, err := keyuri.Parse(u.String())
		if err != nil || !reflect.DeepEqual(u, again) {
			t.Errorf("%q became %q: %+v, then %+v, %v", raw, u, u, again, err)
		}
	})
}
