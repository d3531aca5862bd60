// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keyuri

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// PKCS11 names a private key in a token, and the module that reaches the token (RFC 7512). What is empty is not looked at.
type PKCS11 struct {
	// ModulePath is the absolute path of the module, a shared library. Either it or ModuleName is set.
	ModulePath string
	// ModuleName is the module's file name without its ending, and perhaps without "lib" in front.
	ModuleName string
	// Token, Serial, Manufacturer and Model are what the token says of itself. Token is its label.
	Token, Serial, Manufacturer, Model string
	// SlotID is the number of the slot that the token is in, or nil. Many modules number slots anew at each start.
	SlotID *uint
	// Object is the label of the key, ID its CKA_ID. At least one is set.
	Object string
	ID     []byte
}

var moduleName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)

// The attributes of RFC 7512 that are taken, in the path and in the query of a URI.
var (
	pathAttributes  = []string{"token", "serial", "manufacturer", "model", "slot-id", "object", "id", "type"}
	queryAttributes = []string{"module-path", "module-name"}
)

func parsePKCS11(rest string) (URI, error) {
	path, query, _ := strings.Cut(rest, "?")
	p, err := attributes(path, ";", pathAttributes...)
	if err != nil {
		return nil, fmt.Errorf("pkcs11: %w", err)
	}
	q, err := attributes(query, "&", queryAttributes...)
	if err != nil {
		return nil, fmt.Errorf("pkcs11: behind the question mark: %w", err)
	}
	u := &PKCS11{
		ModulePath: q["module-path"], ModuleName: q["module-name"],
		Token: p["token"], Serial: p["serial"], Manufacturer: p["manufacturer"], Model: p["model"],
		Object: p["object"], ID: []byte(p["id"]),
	}
	if text := p["slot-id"]; text != "" {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("pkcs11: slot-id %q must be a number", text)
		}
		id := uint(n)
		u.SlotID = &id
	}
	switch {
	case p["type"] != "" && p["type"] != "private":
		return nil, fmt.Errorf("pkcs11: type %q must be private, as what signs is a private key", p["type"])
	case u.Token == "" && u.Serial == "" && u.SlotID == nil:
		return nil, errors.New("pkcs11: one of token, serial and slot-id must say which token the key is in")
	case u.Object == "" && len(u.ID) == 0:
		return nil, errors.New("pkcs11: object (its label) or id must say which key of the token it is")
	case (u.ModulePath == "") == (u.ModuleName == ""):
		return nil, errors.New("pkcs11: either module-path or module-name must say which module reaches the token, as in ?module-path=/usr/lib/softhsm/libsofthsm2.so")
	case u.ModulePath != "" && (!filepath.IsAbs(u.ModulePath) || filepath.Clean(u.ModulePath) != u.ModulePath || strings.ContainsRune(u.ModulePath, 0)):
		return nil, fmt.Errorf("pkcs11: module-path %q must be an absolute path without detours", u.ModulePath)
	case u.ModuleName != "" && !moduleName.MatchString(u.ModuleName):
		return nil, fmt.Errorf("pkcs11: module-name %q must be a file name without its ending, such as softhsm2", u.ModuleName)
	}
	return u, nil
}

// String implements URI.
func (u *PKCS11) String() string {
	var path []string
	add := func(name, value string) {
		if value != "" {
			path = append(path, name+"="+escape(value))
		}
	}
	add("token", u.Token)
	add("serial", u.Serial)
	add("manufacturer", u.Manufacturer)
	add("model", u.Model)
	if u.SlotID != nil {
		add("slot-id", strconv.FormatUint(uint64(*u.SlotID), 10))
	}
	add("object", u.Object)
	add("id", string(u.ID))
	module := "module-path=" + escape(u.ModulePath)
	if u.ModuleName != "" {
		module = "module-name=" + escape(u.ModuleName)
	}
	return "pkcs11:" + strings.Join(path, ";") + "?" + module
}

// escape percent-encodes all but what RFC 3986 never needs encoded, and slashes.
func escape(value string) string {
	var b strings.Builder
	for i := range len(value) {
		c := value[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~/", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
