// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command coredns is CoreDNS with only the plugins that the DNS of the local cluster needs, so that it builds in
// seconds. It takes CoreDNS' own flags.
package main

import (
	"github.com/coredns/coredns/coremain"

	// Each plugin registers the directive of its name.
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() {
	coremain.Run()
}
