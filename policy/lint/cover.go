// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/certwright/certwright/policy/pattern"
)

// kind is how the patterns of a list are compared.
type kind int

const (
	text kind = iota
	dnsName
	uri
	email
)

var placeholder = regexp.MustCompile(`\{(\w+)\}`)

// uses reports whether a pattern has one of these placeholders.
func uses(text string, names ...string) bool {
	return slices.ContainsFunc(placeholder.FindAllStringSubmatch(text, -1), func(m []string) bool { return slices.Contains(names, m[1]) })
}

// aboutRequester are the placeholders that stand for something of the requester's own.
var aboutRequester = []string{pattern.Namespace, pattern.ServiceAccount, pattern.Pod, pattern.Service, pattern.Hostname}

// opaque replaces each placeholder by a character of its own, so that no literal text matches a part of its name.
func opaque(text string) string {
	names := append(slices.Clone(aboutRequester), pattern.TrustDomain, pattern.ClusterDomain)
	return placeholder.ReplaceAllStringFunc(text, func(m string) string {
		return string(rune(0xE000 + slices.Index(names, strings.Trim(m, "{}"))))
	})
}

// covers reports whether the wider pattern certainly allows all that the narrower allows.
func (k kind) covers(wide, narrow string) bool {
	w, n := opaque(wide), opaque(narrow)
	switch k {
	case dnsName:
		return coversParts(strings.Split(w, "."), strings.Split(n, "."))
	case uri:
		// Scheme and host are compared whole: no pattern has a * there.
		return coversParts(strings.Split(w, "/"), strings.Split(n, "/"))
	case email:
		domain, isAny := strings.CutPrefix(w, "*@")
		return w == n || isAny && strings.HasSuffix(n, "@"+domain)
	default:
		// A * in the narrower pattern is matched by nothing but a * in the wider one, which matches all that it stands for.
		return pattern.MatchGlob(w, n)
	}
}

// coversParts compares labels or path segments, of which a * stands for one. A domain placeholder stands for several labels.
func coversParts(wide, narrow []string) bool {
	domains := opaque("{" + pattern.TrustDomain + "}{" + pattern.ClusterDomain + "}")
	return slices.EqualFunc(wide, narrow, func(w, n string) bool {
		return w == n || w == "*" && !strings.ContainsAny(n, domains)
	})
}

// coversAddress is covers for ipAddresses.
func coversAddress(wide, narrow string) bool {
	if wide == narrow {
		return true
	}
	w, ok := prefix(wide)
	n, also := prefix(narrow)
	return ok && also && w.Bits() <= n.Bits() && w.Contains(n.Addr())
}

func prefix(text string) (netip.Prefix, bool) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	p, err := netip.ParsePrefix(text)
	return p, err == nil
}

// coveredBy reports whether each value is covered by one of the wider ones.
func coveredBy[T any](wide, narrow []T, covers func(wide, narrow T) bool) bool {
	return !slices.ContainsFunc(narrow, func(n T) bool {
		return !slices.ContainsFunc(wide, func(w T) bool { return covers(w, n) })
	})
}

func same[T comparable](a, b T) bool { return a == b }
