// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/trust"
)

func TestAssemble(t *testing.T) {
	a := newCert(t, "A", nil)
	b := newCert(t, "B", func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(time.Hour) })
	next := newCert(t, "Next", func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) })
	old, leaf := newCert(t, "Old", expired), newCert(t, "Leaf", noCA)
	for name, c := range map[string]struct {
		anchors  []*x509.Certificate
		want     string
		warnings int
		err      string
	}{
		"one":                      {[]*x509.Certificate{a}, pemOf(a), 0, ""},
		"longest life first":       {[]*x509.Certificate{a, b}, pemOf(b, a), 0, ""},
		"in any order":             {[]*x509.Certificate{b, a}, pemOf(b, a), 0, ""},
		"repeated":                 {[]*x509.Certificate{a, b, a, a, b}, pemOf(b, a), 0, ""},
		"not valid yet":            {[]*x509.Certificate{next}, pemOf(next), 0, ""},
		"expired and no CA":        {[]*x509.Certificate{old, a, leaf}, pemOf(a), 2, ""},
		"nothing":                  {nil, "", 0, "a bundle cannot be empty"},
		"nothing fit":              {[]*x509.Certificate{old, leaf}, "", 0, "none of the 2 trust anchors can be published: CN=Old (serial number 7) expired at 2028-02-29T12:34:55Z; CN=Leaf (serial number 7) is no CA certificate"},
		"valid to the last second": {[]*x509.Certificate{newCert(t, "Last", func(c *x509.Certificate) { c.NotAfter = now })}, "", 0, "expired"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := trust.Assemble(c.anchors, now)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %v, want it to say %q", err, c.err)
				}
				return
			}
			if err != nil || b.PEM != c.want || len(b.Warnings) != c.warnings {
				t.Errorf("got error %v, warnings %q and\n%swant\n%s", err, b.Warnings, b.PEM, c.want)
			}
		})
	}
}

func TestAssembleRefusesWhatIsTooLarge(t *testing.T) {
	var many []*x509.Certificate
	for range 40 {
		many = append(many, newCert(t, "Large", func(c *x509.Certificate) {
			for range 1200 {
				c.DNSNames = append(c.DNSNames, "a-name-that-takes.example.com")
			}
		}))
	}
	if b, err := trust.Assemble(many, now); err == nil {
		t.Errorf("a bundle of %d bytes was made", len(b.PEM))
	}
}
