// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package hsm

// Idle reports whether no module is loaded.
func (m *Modules) Idle() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, known := range m.loaded {
		known.mu.Lock()
		users := known.users
		known.mu.Unlock()
		if users > 0 {
			return false
		}
	}
	return true
}

// MayTry says by the flags of a token why a PIN is not to be tried.
var MayTry = mayTry
