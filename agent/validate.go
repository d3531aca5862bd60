// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// usageNames are the values that Kubernetes allows in spec.usages
// (k8s.io/api/certificates/v1, KeyUsage).
var usageNames = []string{
	"signing", "digital signature", "content commitment", "key encipherment",
	"key agreement", "data encipherment", "cert sign", "crl sign",
	"encipher only", "decipher only", "any", "server auth", "client auth",
	"code signing", "email protection", "s/mime", "ipsec end system",
	"ipsec tunnel", "ipsec user", "timestamping", "ocsp signing",
	"microsoft sgc", "netscape sgc",
}

const (
	label  = `[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?`
	domain = label + `(\.` + label + `)*`
	path   = `[a-z0-9]([-a-z0-9]*[a-z0-9])?`
)

var (
	// A signer name is a domain of two labels or more, one slash and a dotted path:
	// the API server's own rule for spec.signerName.
	signerNamePattern = regexp.MustCompile(`^` + label + `(\.` + label + `)+/` + path + `(\.` + path + `)*$`)
	dnsNamePattern    = regexp.MustCompile(`^(\*\.)?` + domain + `$`)
)

// ConfigError is what Config.Validate returns: every violation at once, each with
// its field, the value found and what is allowed.
type ConfigError []string

// Error joins the violations in one line.
func (e ConfigError) Error() string {
	return "invalid agent config: " + strings.Join(e, "; ")
}

// Validate checks every field and returns a ConfigError, or nil. Fields that have
// a default may be empty.
func (c Config) Validate() error {
	var e ConfigError
	bad := func(field, value, allowed string) {
		e = append(e, fmt.Sprintf("%s: %q is not allowed, use %s", field, value, allowed))
	}
	switch {
	case len(c.SignerName) > 571 || !signerNamePattern.MatchString(c.SignerName):
		bad("signerName", c.SignerName, "domain/name in lower case, such as example.com/internal")
	case kubernetesSigner(c.SignerName):
		bad("signerName", c.SignerName, "a signer outside kubernetes.io")
	}
	if len(c.DNSNames)+len(c.URIs)+len(c.IPAddresses) == 0 {
		e = append(e, "dnsNames, uris, ipAddresses: all are empty, give at least one name")
	}
	for i, name := range c.DNSNames {
		if len(name) > 253 || !dnsNamePattern.MatchString(name) {
			bad(fmt.Sprintf("dnsNames[%d]", i), name, "a DNS name in lower case of at most 253 characters, with at most a leading *. as wildcard")
		}
	}
	for i, uri := range c.URIs {
		if u, err := url.Parse(uri); err != nil || u.Scheme == "" || u.Host == "" || u.String() != uri || !ascii(uri) {
			bad(fmt.Sprintf("uris[%d]", i), uri, "an absolute URI with scheme and host, such as spiffe://example.org/ns/shop/sa/cart")
		}
	}
	for i, ip := range c.IPAddresses {
		if a, err := netip.ParseAddr(ip); ip != PodIP && (err != nil || a.Zone() != "") {
			bad(fmt.Sprintf("ipAddresses[%d]", i), ip, "an IP address without zone, or \"pod\" for every address of the pod")
		}
	}
	for i, usage := range c.Usages {
		if !slices.Contains(usageNames, usage) {
			bad(fmt.Sprintf("usages[%d]", i), usage, "one of "+strings.Join(usageNames, ", "))
		} else if slices.Contains(c.Usages[:i], usage) {
			bad(fmt.Sprintf("usages[%d]", i), usage, "each usage only once")
		}
	}
	if d := time.Duration(c.Duration); d != 0 && (c.Duration < MinDuration || d > math.MaxInt32*time.Second || d%time.Second != 0) {
		bad("duration", d.String(), "whole seconds from 10m to 596523h14m7s")
	}
	if _, known := keyAlgorithms[c.KeyAlgorithm]; !known && c.KeyAlgorithm != "" {
		bad("keyAlgorithm", c.KeyAlgorithm, "one of "+strings.Join(slices.Sorted(maps.Keys(keyAlgorithms)), ", "))
	}
	if !cleanAbsolute(c.Directory) {
		bad("directory", c.Directory, "a clean absolute path other than /")
	}
	if !cleanAbsolute(c.TrustBundleFile) {
		bad("trustBundleFile", c.TrustBundleFile, "a clean absolute path other than /")
	}
	if e != nil {
		return e
	}
	return nil
}

// kubernetesSigner tells the signers that Kubernetes keeps for itself.
func kubernetesSigner(name string) bool {
	host, _, _ := strings.Cut(name, "/")
	return host == "kubernetes.io" || strings.HasSuffix(host, ".kubernetes.io")
}

func cleanAbsolute(name string) bool {
	return filepath.IsAbs(name) && filepath.Clean(name) == name && name != "/"
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
