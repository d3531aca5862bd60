// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package version says which build of Certwright this is.
package version

import "runtime/debug"

// version is set by the Makefile to what git describes.
var version = ""

// String returns the version the Makefile set, or the module's own where Go knows it, or "devel".
func String() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}
