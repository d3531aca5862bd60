// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package csr

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxURI is the limit of a SPIFFE ID in bytes (SPIFFE-ID section 2.3), used for all URIs.
const maxURI = 2048

// ParseURI returns a URI that a certificate may hold and that every parser splits and compares alike. The error is a
// *Refusal without a Field.
//
// A URI is absolute and hierarchical, has a host that is a DNS name or an IP address, and has no user, no fragment, no dot
// segment, no empty path segment and no percent-encoding that another spelling could stand for. A spiffe URI follows the
// narrower rules of the SPIFFE ID standard.
func ParseURI(raw string) (*url.URL, error) {
	bad := func(what string) (*url.URL, error) { return nil, refuse(ReasonURI, "", "URI %s %s", quote(raw), what) }
	if len(raw) > maxURI {
		return bad("is too long; at most 2048 bytes are allowed")
	}
	if !isOf(raw, alphanumeric+"-._~:/?#[]@!$&'()*+,;=%") {
		return bad("has a character that URIs do not have (RFC 3986 section 2), such as a space or one outside ASCII; it must be percent-encoded")
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return bad("does not parse; it must be one such as https://example.com/path")
	case u.Scheme == "spiffe":
		return parseSPIFFEID(raw, u)
	case u.Scheme == "" || u.Opaque != "" || u.Host == "":
		return bad("is not absolute with a host; it must be one such as https://example.com/path")
	case u.User != nil:
		return bad("names a user; only scheme, host, port, path and query are allowed")
	case strings.Contains(raw, "#"):
		return bad("has a fragment; only scheme, host, port, path and query are allowed")
	case u.String() != raw:
		return bad("is not in its normal form, " + quote(u.String()))
	case !isURIHost(u):
		return bad("has a host that is not allowed; it must be a lower-case DNS name or an IP address, with a port from 1 to 65535 if any")
	case strings.ContainsAny(u.EscapedPath()+u.RawQuery, "[]"):
		return bad("has a bracket outside of its host; it must be percent-encoded")
	case !isURIPath(u.EscapedPath()):
		return bad("has an empty segment, . or .. in its path; segments must have a name")
	case !isURIEncoding(u.EscapedPath()) || !isURIEncoding(u.RawQuery):
		return bad("has a percent-encoding that is not allowed; only printable text that cannot be written plainly is encoded, in upper case, and never a slash")
	}
	return u, nil
}

// parseSPIFFEID checks raw against sections 2.1 to 2.3 of the SPIFFE ID standard.
func parseSPIFFEID(raw string, u *url.URL) (*url.URL, error) {
	bad := func(what string) (*url.URL, error) {
		return nil, refuse(ReasonSPIFFEID, "", "SPIFFE ID %s %s", quote(raw), what)
	}
	rest, ok := strings.CutPrefix(raw, "spiffe://")
	if !ok {
		return bad("does not begin with spiffe:// in lower case")
	}
	segments := strings.Split(rest, "/")
	trustDomain := segments[0]
	if len(trustDomain) > 255 || !isOf(trustDomain, labelCharacters+"._") {
		return bad("has a trust domain that is not allowed; it must be 1 to 255 lower-case letters, digits, dots, hyphens and underscores")
	}
	// The standard leaves such names open, but no verifier made with crypto/x509 reads them.
	if slices.Contains(strings.Split(trustDomain, "."), "") {
		return bad("has a trust domain that is empty, or with a dot at an end or two in a row; its labels must not be empty")
	}
	for _, segment := range segments[1:] {
		if segment == "" || segment == "." || segment == ".." {
			return bad("has an empty segment, . or .. in its path, or a slash at its end; segments must have a name")
		}
		if !isOf(segment, alphanumeric+"-._") {
			return bad("has a character in its path that is not allowed; segments are of letters, digits, dots, hyphens and underscores")
		}
	}
	return u, nil
}

func isURIHost(u *url.URL) bool {
	host, port := u.Hostname(), u.Port()
	if n, err := strconv.Atoi(port); port != "" && (err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != port) {
		return false
	}
	canonical := host
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Is4In6() || addr.Zone() != "" || addr.String() != host {
			return false
		}
		if addr.Is6() {
			canonical = "[" + host + "]"
		}
	} else if CheckDNSName(host) != nil || strings.Contains(host, "*") {
		return false
	}
	if port != "" {
		canonical += ":" + port
	}
	return u.Host == canonical
}

func isURIPath(path string) bool {
	if path == "" || path == "/" {
		return true
	}
	for _, segment := range strings.Split(path[1:], "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

// isURIEncoding reports whether each percent-encoding in s is in upper case (RFC 3986 section 6.2.2.1), and of a byte that is
// neither unreserved (section 6.2.2.2) nor a slash of either kind, which some servers decode first; and whether what is
// encoded is printable text.
func isURIEncoding(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			continue
		}
		if i+2 >= len(s) || strings.ToUpper(s[i+1:i+3]) != s[i+1:i+3] {
			return false
		}
		n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil || strings.ContainsRune(alphanumeric+"-._~/\\", rune(n)) {
			return false
		}
		i += 2
	}
	text, err := url.PathUnescape(s)
	return err == nil && printable(text)
}
