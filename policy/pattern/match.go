// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pattern

import (
	"net/url"
	"strings"
)

// MatchDNSName reports whether a requested DNS name matches an expanded pattern: label by label, without regard to the case
// of ASCII letters. A * in the pattern stands for one label that is not itself a *; wildcards allows that too, for the first label.
func MatchDNSName(pattern, name string, wildcards bool) bool {
	for first := true; ; first = false {
		p, morePattern, pok := strings.Cut(pattern, ".")
		n, moreName, nok := strings.Cut(name, ".")
		switch {
		case n == "":
			return false
		case p == "*" && n == "*":
			if !first || !wildcards {
				return false
			}
		case strings.Contains(n, "*"):
			return false
		case p != "*" && !equalFold(p, n):
			return false
		}
		if !pok || !nok {
			return pok == nok
		}
		pattern, name = morePattern, moreName
	}
}

// MatchURI reports whether a requested URI matches an expanded pattern: scheme and host without regard to case, the path
// segment by segment, where * in the pattern stands for one segment that is a name. A query never matches.
func MatchURI(pattern string, uri *url.URL) bool {
	scheme, rest, ok := strings.Cut(pattern, "://")
	if !ok || uri.RawQuery != "" || uri.ForceQuery || uri.Fragment != "" || uri.User != nil || uri.Opaque != "" {
		return false
	}
	host, path, hasPath := strings.Cut(rest, "/")
	if !equalFold(scheme, uri.Scheme) || !equalFold(host, uri.Host) {
		return false
	}
	requested, requestedHasPath := strings.CutPrefix(uri.EscapedPath(), "/")
	if !hasPath || !requestedHasPath {
		return hasPath == requestedHasPath
	}
	want, got := strings.Split(path, "/"), strings.Split(requested, "/")
	if len(want) != len(got) {
		return false
	}
	for i := range want {
		if want[i] == "*" && isName(got[i]) {
			continue
		}
		if want[i] == "*" || want[i] != got[i] {
			return false
		}
	}
	return true
}

// isName reports whether a path segment stands for itself: not for nothing, for a place up or down the path, or, once it is
// decoded, for several segments.
func isName(segment string) bool {
	text, err := url.PathUnescape(segment)
	return err == nil && text != "" && text != "." && text != ".." && !strings.ContainsAny(text, `/\`)
}

// MatchEmail reports whether a requested email address matches an expanded pattern: the domain without regard to case
// (RFC 5321, section 2.4), the local part exactly, or any if it is * in the pattern.
func MatchEmail(pattern, address string) bool {
	wantLocal, wantDomain, _ := strings.Cut(pattern, "@")
	local, domain, _ := strings.Cut(address, "@")
	return local != "" && domain != "" && (wantLocal == "*" || wantLocal == local) && equalFold(wantDomain, domain)
}

// MatchGlob reports whether text matches an expanded pattern in which * stands for any run of characters, none included.
func MatchGlob(pattern, text string) bool {
	pieces := strings.Split(pattern, "*")
	if len(pieces) == 1 {
		return pattern == text
	}
	first, last := pieces[0], pieces[len(pieces)-1]
	if len(text) < len(first)+len(last) || !strings.HasPrefix(text, first) || !strings.HasSuffix(text, last) {
		return false
	}
	text = text[len(first) : len(text)-len(last)]
	for _, piece := range pieces[1 : len(pieces)-1] {
		i := strings.Index(text, piece)
		if i < 0 {
			return false
		}
		text = text[i+len(piece):]
	}
	return true
}

// equalFold compares without regard to the case of ASCII letters, and of no others: strings.EqualFold would take the Kelvin
// sign for a k and the long s for an s.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
