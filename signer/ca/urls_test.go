// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/ca"
	"github.com/certwright/certwright/signer/signertest"
)

const ldapCRL = "ldap://ldap.example.com/cn=CA,o=Example?certificateRevocationList;binary"

func withURLs(c v1alpha1.CA) v1alpha1.CA {
	c.CRLDistributionPoints = []string{"http://crl.example.com/ca.crl", ldapCRL}
	c.OCSPServers = []string{"http://ocsp.example.com"}
	c.IssuingCertificateURLs = []string{"http://ca.example.com/ca.crt"}
	return c
}

// The suite has three verifiers and zlint look at certificates with these extensions.
func TestConformanceURLs(t *testing.T) {
	signertest.Run(t, func(t *testing.T) signertest.Subject {
		w := newManagedWorld(t, withURLs(managed()), true)
		return signertest.Subject{Backend: w.Backend, Clock: w.clock, IsCA: true}
	})
}

func TestURLsAreWritten(t *testing.T) {
	config := withURLs(managed())
	leaf := newManagedWorld(t, config, false).mustSign(time.Hour)[0]
	if !slices.Equal(leaf.CRLDistributionPoints, config.CRLDistributionPoints) || !slices.Equal(leaf.OCSPServer, config.OCSPServers) ||
		!slices.Equal(leaf.IssuingCertificateURL, config.IssuingCertificateURLs) {
		t.Errorf("written are %q, %q, %q", leaf.CRLDistributionPoints, leaf.OCSPServer, leaf.IssuingCertificateURL)
	}
	bare := newManagedWorld(t, managed(), false).mustSign(time.Hour)[0]
	if len(bare.CRLDistributionPoints)+len(bare.OCSPServer)+len(bare.IssuingCertificateURL) != 0 {
		t.Error("URLs are written that nobody configured")
	}
}

func TestURLsRefused(t *testing.T) {
	w := newWorld(t, managed(), false)
	for value, text := range map[string]string{
		"":                                    "scheme must be http",
		"crl.example.com/ca.crl":              "scheme must be http",
		"https://crl.example.com/ca.crl":      "scheme must be http",
		"ldaps://ldap.example.com/o=x?a":      "scheme must be http",
		"file:///etc/passwd":                  "scheme must be http",
		"javascript:alert(1)":                 "scheme must be http",
		"http:///ca.crl":                      "must have a host",
		"http://:80/ca.crl":                   "must have a host",
		"http://user:hush@crl.example.com/":   "credentials",
		"http://crl.example.com/#a":           "fragment",
		"http://crl.example.com/a b":          "white space",
		"http://crl.example.com/a\nb":         "white space",
		"http://crl.exämple.com/":             "ASCII",
		"http://crl.example.com/%zz":          "no URL",
		"http://" + strings.Repeat("a", 2048): "at most 2048",
	} {
		for field, set := range map[string]func(*v1alpha1.CA){
			"crlDistributionPoints[1]":  func(c *v1alpha1.CA) { c.CRLDistributionPoints = []string{"http://a.example.com", value} },
			"ocspServers[0]":            func(c *v1alpha1.CA) { c.OCSPServers = []string{value} },
			"issuingCertificateURLs[0]": func(c *v1alpha1.CA) { c.IssuingCertificateURLs = []string{value} },
		} {
			wantURLError(t, w, set, "ca."+field, text)
		}
	}
	for value, text := range map[string]string{"ldap://ldap.example.com": "distinguished name", "ldap:///o=x?a": "must have a host", "ldap://ldap.example.com/o=x": "attribute"} {
		wantURLError(t, w, func(c *v1alpha1.CA) { c.CRLDistributionPoints = []string{value} }, "ca.crlDistributionPoints[0]", text)
	}
	wantURLError(t, w, func(c *v1alpha1.CA) { c.OCSPServers = []string{ldapCRL} }, "ca.ocspServers[0]", "scheme must be http")
	wantURLError(t, w, func(c *v1alpha1.CA) { c.OCSPServers = make([]string, 9) }, "ca.ocspServers", "at most 8")
}

func wantURLError(t *testing.T, w *world, set func(*v1alpha1.CA), field, text string) {
	t.Helper()
	config := managed()
	set(&config)
	_, err := ca.New(ca.Options{Client: w.client, Reader: w.client, Namespace: namespace, Signer: "internal", SignerName: "example.com/internal", Backend: "local", CA: config})
	if err == nil || !strings.Contains(err.Error(), field) || !strings.Contains(err.Error(), text) {
		t.Errorf("New: %v, want it to name %s and say %q", err, field, text)
	}
}
