// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package hsm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/pkcs11"

	"github.com/certwright/certwright/signer/ca/keyuri"
)

// Folders are where modules are taken from without being named one by one. They belong to whoever made the image.
var Folders = []string{
	"/usr/lib/pkcs11", "/usr/lib64/pkcs11", "/usr/lib/x86_64-linux-gnu/pkcs11", "/usr/lib/aarch64-linux-gnu/pkcs11", "/usr/lib/softhsm",
}

// Modules are the PKCS #11 modules of this process. A module is loaded when the first key of it is opened, and ends when the last
// one is closed, so that it can begin anew with a device that went away. It is safe for concurrent use.
type Modules struct {
	// Named are absolute paths of modules that may be loaded although they are in none of Folders.
	Named []string

	mu     sync.Mutex
	loaded map[string]*module
	// refused holds fingerprints of the PINs that tokens refused.
	refused sync.Map
}

// module is a shared library, and how many keys of it are open. It is loaded while there are some.
type module struct {
	*pkcs11.Ctx
	path string

	logins sync.Mutex // held during a login

	mu    sync.Mutex
	users int
}

// find returns the path of the module that a URI names, if it may be loaded. Whoever writes a Signer must not get the signer to
// run any file that happens to be there.
func (m *Modules) find(u *keyuri.PKCS11) (string, error) {
	if u.ModulePath != "" {
		if slices.Contains(m.Named, u.ModulePath) || slices.Contains(Folders, filepath.Dir(u.ModulePath)) {
			return u.ModulePath, nil
		}
		return "", fmt.Errorf("module-path %q is not allowed: modules must be in %s, or be named by the flag --pkcs11-module of the signer", u.ModulePath, strings.Join(Folders, ", "))
	}
	var candidates []string
	for _, path := range m.Named {
		if base := filepath.Base(path); filepath.IsAbs(path) && (base == u.ModuleName+".so" || base == "lib"+u.ModuleName+".so") {
			candidates = append(candidates, path)
		}
	}
	for _, folder := range Folders {
		candidates = append(candidates, filepath.Join(folder, u.ModuleName+".so"), filepath.Join(folder, "lib"+u.ModuleName+".so"))
	}
	for _, path := range candidates {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", fmt.Errorf("module-name %q: there is no %[1]s.so or lib%[1]s.so in %s, nor among the flags --pkcs11-module of the signer", u.ModuleName, strings.Join(Folders, ", "))
}

// use returns a module ready for use, for one more key. A module that hangs holds up only those who want the same one.
func (m *Modules) use(path string) (*module, error) {
	m.mu.Lock()
	if m.loaded == nil {
		m.loaded = map[string]*module{}
	}
	used := m.loaded[path]
	if used == nil {
		used = &module{path: path}
		m.loaded[path] = used
	}
	m.mu.Unlock()
	used.mu.Lock()
	defer used.mu.Unlock()
	if used.users == 0 {
		if err := used.load(); err != nil {
			return nil, err
		}
	}
	used.users++
	return used, nil
}

func (m *module) load() error {
	ctx := pkcs11.New(m.path)
	if ctx == nil {
		if _, err := os.Stat(m.path); err != nil {
			return fmt.Errorf("loading PKCS #11 module: %w: put it into the image, or mount it", err)
		}
		return fmt.Errorf("loading PKCS #11 module %s: it is no module for this system, or the image lacks a library that it needs", m.path)
	}
	if err := ctx.Initialize(); err != nil {
		ctx.Destroy()
		return fmt.Errorf("starting PKCS #11 module %s: %w", m.path, err)
	}
	m.Ctx = ctx
	return nil
}

// leave gives a module back for one key.
func (m *module) leave() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users--; m.users > 0 {
		return nil
	}
	err := m.Finalize()
	m.Destroy()
	return err
}

// slot returns the slot of the token that a URI describes, which must be the only one.
func (m *module) slot(u *keyuri.PKCS11) (uint, pkcs11.TokenInfo, error) {
	slots, err := m.GetSlotList(true)
	if err != nil {
		return 0, pkcs11.TokenInfo{}, fmt.Errorf("listing the tokens of module %s: %w", m.path, err)
	}
	var found []uint
	var token pkcs11.TokenInfo
	for _, slot := range slots {
		info, err := m.GetTokenInfo(slot)
		if err != nil || !matches(u, slot, info) {
			continue // a token that is broken, or was pulled a moment ago, is not the one
		}
		found, token = append(found, slot), info
	}
	switch len(found) {
	case 0:
		return 0, token, errors.New("no token that is present is the one that the URI describes")
	case 1:
		return found[0], token, nil
	}
	return 0, token, fmt.Errorf("%d tokens are as the URI describes: add their serial", len(found))
}

func matches(u *keyuri.PKCS11, slot uint, info pkcs11.TokenInfo) bool {
	same := func(want, got string) bool { return want == "" || want == strings.TrimRight(got, " \x00") }
	return (u.SlotID == nil || *u.SlotID == slot) && info.Flags&pkcs11.CKF_TOKEN_INITIALIZED != 0 && same(u.Token, info.Label) &&
		same(u.Serial, info.SerialNumber) && same(u.Manufacturer, info.ManufacturerID) && same(u.Model, info.Model)
}
