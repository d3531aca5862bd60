// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certwright/certwright/agent/credential"
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

// MaxBundleFiles caps Config.TrustBundleFiles.
const MaxBundleFiles = 16

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
	if c.TrustOnly {
		c.validateTrustOnly(&e)
	} else {
		c.validateCertificate(&e)
	}
	c.validateFiles(&e)
	c.validateDelivery(&e)
	if e != nil {
		return e
	}
	return nil
}

func (e *ConfigError) bad(field, value, allowed string) {
	*e = append(*e, fmt.Sprintf("%s: %q is not allowed, use %s", field, value, allowed))
}

// validateTrustOnly checks that nothing concerns a certificate.
func (c Config) validateTrustOnly(e *ConfigError) {
	for _, field := range []struct {
		name  string
		given bool
	}{
		{"signerName", c.SignerName != ""},
		{"dnsNames", len(c.DNSNames) > 0},
		{"uris", len(c.URIs) > 0},
		{"ipAddresses", len(c.IPAddresses) > 0},
		{"usages", len(c.Usages) > 0},
		{"duration", c.Duration != 0},
		{"keyAlgorithm", c.KeyAlgorithm != ""},
		{"renewFile", c.RenewFile != ""},
		{"spiffeSocket", c.SPIFFESocket != ""},
		{"formats", slices.Contains(c.Formats, FormatPEM)},
	} {
		if field.given {
			*e = append(*e, field.name+": is not allowed together with trustOnly, leave out what concerns a certificate")
		}
	}
}

// validateCertificate checks what is asked for.
func (c Config) validateCertificate(e *ConfigError) {
	switch {
	case len(c.SignerName) > 571 || !signerNamePattern.MatchString(c.SignerName):
		e.bad("signerName", c.SignerName, "domain/name in lower case, such as example.com/internal")
	case kubernetesSigner(c.SignerName):
		e.bad("signerName", c.SignerName, "a signer outside kubernetes.io")
	}
	c.validateNames(e)
	for i, usage := range c.Usages {
		if !slices.Contains(usageNames, usage) {
			e.bad(fmt.Sprintf("usages[%d]", i), usage, "one of "+strings.Join(usageNames, ", "))
		} else if slices.Contains(c.Usages[:i], usage) {
			e.bad(fmt.Sprintf("usages[%d]", i), usage, "each usage only once")
		}
	}
	if d := time.Duration(c.Duration); d != 0 && (c.Duration < MinDuration || d > math.MaxInt32*time.Second || d%time.Second != 0) {
		e.bad("duration", d.String(), "whole seconds from 10m to 596523h14m7s")
	}
	if c.KeyAlgorithm != "" && !slices.Contains(credential.KeyAlgorithms(), c.KeyAlgorithm) {
		e.bad("keyAlgorithm", c.KeyAlgorithm, "one of "+strings.Join(credential.KeyAlgorithms(), ", "))
	}
}

func (c Config) validateNames(e *ConfigError) {
	if len(c.DNSNames)+len(c.URIs)+len(c.IPAddresses) == 0 {
		*e = append(*e, "dnsNames, uris, ipAddresses: all are empty, give at least one name")
	}
	for i, name := range c.DNSNames {
		if len(name) > 253 || !dnsNamePattern.MatchString(name) {
			e.bad(fmt.Sprintf("dnsNames[%d]", i), name, "a DNS name in lower case of at most 253 characters, with at most a leading *. as wildcard")
		}
	}
	for i, uri := range c.URIs {
		if u, err := url.Parse(uri); err != nil || u.Scheme == "" || u.Host == "" || u.String() != uri || !ascii(uri) {
			e.bad(fmt.Sprintf("uris[%d]", i), uri, "an absolute URI with scheme and host, such as spiffe://example.org/ns/shop/sa/cart")
		}
	}
	for i, ip := range c.IPAddresses {
		if a, err := netip.ParseAddr(ip); ip != PodIP && (err != nil || a.Zone() != "") {
			e.bad(fmt.Sprintf("ipAddresses[%d]", i), ip, "an IP address without zone, or \"pod\" for every address of the pod")
		}
	}
}

// validateFiles checks what is read and written.
func (c Config) validateFiles(e *ConfigError) {
	const allowed = "a clean absolute path other than /"
	if !cleanAbsolute(c.Directory) {
		e.bad("directory", c.Directory, allowed)
	}
	if n := len(c.TrustBundleFiles); n == 0 || n > MaxBundleFiles {
		e.bad("trustBundleFiles", strconv.Itoa(n)+" files", fmt.Sprintf("1 to %d", MaxBundleFiles))
	}
	for i, name := range c.TrustBundleFiles {
		if field := fmt.Sprintf("trustBundleFiles[%d]", i); !cleanAbsolute(name) {
			e.bad(field, name, allowed)
		} else if slices.Contains(c.TrustBundleFiles[:i], name) {
			e.bad(field, name, "each file only once")
		}
	}
	for i, format := range c.Formats {
		if field := fmt.Sprintf("formats[%d]", i); !slices.Contains([]string{FormatPKCS12, FormatJKS, FormatPEM}, format) {
			e.bad(field, format, "one of PKCS12, JKS, PEM")
		} else if slices.Contains(c.Formats[:i], format) {
			e.bad(field, format, "each format only once")
		}
	}
	if c.RenewFile != "" && !cleanAbsolute(c.RenewFile) {
		e.bad("renewFile", c.RenewFile, allowed)
	}
}

// validateDelivery checks how programs beside the agent are served.
func (c Config) validateDelivery(e *ConfigError) {
	if c.Reload != nil {
		*e = append(*e, c.Reload.Violations("reload")...)
	}
	if c.SPIFFESocket != "" {
		// A socket's path has 107 bytes (unix(7)), four of which it needs while it is made; an X.509-SVID exactly one URI (X509-SVID, section 2).
		if !cleanAbsolute(c.SPIFFESocket) || len(c.SPIFFESocket) > 103 {
			e.bad("spiffeSocket", c.SPIFFESocket, "a clean absolute path of at most 103 bytes")
		}
		if !c.TrustOnly && (len(c.URIs) != 1 || !strings.HasPrefix(c.URIs[0], "spiffe://")) {
			*e = append(*e, "spiffeSocket: needs exactly one URI in uris, which starts with spiffe://")
		}
	}
	if c.MetricsAddress != "" {
		host, port, err := net.SplitHostPort(c.MetricsAddress)
		_, notIP := netip.ParseAddr(host)
		number, notNumber := strconv.ParseUint(port, 10, 16)
		if err != nil || host != "" && notIP != nil || notNumber != nil || number == 0 {
			e.bad("metricsAddress", c.MetricsAddress, "an IP address or nothing, a colon and a port from 1 to 65535, such as :9402")
		}
	}
	if c.Once && (c.Reload != nil || c.SPIFFESocket != "" || c.MetricsAddress != "") {
		*e = append(*e, "once: is not allowed together with reload, spiffeSocket or metricsAddress, which need an agent that stays")
	}
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
