// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package challenge_test

import (
	"strings"
	"testing"

	"github.com/certwright/certwright/signer/acme/challenge"
)

// The token is that of RFC 8555, section 8.3, and the value its SHA-256 digest as OpenSSL computes it.
func TestRecord(t *testing.T) {
	c := challenge.Challenge{Type: challenge.DNS01, Domain: "www.example.org", KeyAuthorization: "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"}
	if got := c.RecordName(); got != "_acme-challenge.www.example.org" {
		t.Errorf("the record's name is %s", got)
	}
	if got := c.RecordValue(); got != "LPsIwTo7o8BoG0-vjCyGQGBWSVIPxI-i_X336eUOQZo" {
		t.Errorf("the record's value is %s", got)
	}
}

func TestLegalToken(t *testing.T) {
	for token, want := range map[string]bool{
		"LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0": true, "a-b_c": true, strings.Repeat("t", 256): true,
		"": false, strings.Repeat("t", 257): false, "../x": false, "a/b": false, "a b": false, "a\n": false, "a=": false, "ä": false, "a.b": false, "a%2f": false,
	} {
		if challenge.LegalToken(token) != want {
			t.Errorf("%q: legal is %t", token, !want)
		}
	}
}
