// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package csr_test

import (
	"bytes"
	"crypto/x509/pkix"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"k8s.io/utils/ptr"

	"github.com/certwright/certwright/csr"
)

// TestParseAcceptsLimits reads what is just allowed. What is just not allowed is among the hostile requests.
func TestParseAcceptsLimits(t *testing.T) {
	obj := object(raw{}.pem())
	obj.Spec.ExpirationSeconds = ptr.To[int32](600)
	obj.Spec.Request = append(obj.Spec.Request, bytes.Repeat([]byte("\n"), csr.MaxRequestBytes-len(obj.Spec.Request))...)
	req, err := csr.Parse(obj)
	if err != nil || req.Duration != 10*time.Minute {
		t.Errorf("%d bytes for %d seconds: got %s, %v", len(obj.Spec.Request), *obj.Spec.ExpirationSeconds, req.Duration, err)
	}
}

// TestHugeRequestCostsNothing asserts that the length is looked at before anything is decoded or copied.
func TestHugeRequestCostsNothing(t *testing.T) {
	obj := object(bytes.Repeat([]byte("-----BEGIN CERTIFICATE REQUEST-----\n"), 1<<20/36))
	var before, after runtime.MemStats
	const rounds = 100
	runtime.ReadMemStats(&before)
	for range rounds {
		if _, err := csr.Parse(obj); err == nil {
			t.Fatal("a request of 1 MiB was accepted")
		}
	}
	runtime.ReadMemStats(&after)
	if perRound := (after.TotalAlloc - before.TotalAlloc) / rounds; perRound > 4<<10 {
		t.Errorf("refusing a request of 1 MiB allocates %d bytes, want at most 4 KiB", perRound)
	}
}

func TestParseKeepsEmptySubjectValues(t *testing.T) {
	for arc, want := range map[int]pkix.Name{
		6: {Country: []string{""}}, 7: {Locality: []string{""}}, 8: {Province: []string{""}}, 9: {StreetAddress: []string{""}},
		10: {Organization: []string{""}}, 11: {OrganizationalUnit: []string{""}}, 17: {PostalCode: []string{""}},
	} {
		req, err := csr.Parse(object(withSubject(attribute(oid(2, 5, 4, arc), tagPrintable, ""))))
		if err != nil || !reflect.DeepEqual(req.Subject, want) {
			t.Errorf("2.5.4.%d: got %+v, %v", arc, req.Subject, err)
		}
	}
	same := attribute(oidO, tagUTF8, "a")
	req, err := csr.Parse(object(withSubject(join(same, same))))
	if want := (pkix.Name{Organization: []string{"a", "a"}}); err != nil || !reflect.DeepEqual(req.Subject, want) {
		t.Errorf("the same value twice: got %+v, %v", req.Subject, err)
	}
}

const alphanumeric = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

// TestEveryByte holds each parser of text against the list of the bytes that may be in it.
func TestEveryByte(t *testing.T) {
	lower := strings.ToLower(alphanumeric)
	for name, c := range map[string]struct {
		allowed string
		check   func(text string) error
	}{
		"PrintableString": {alphanumeric + " '()+,-./:=?", func(text string) error {
			_, err := csr.Parse(object(withSubject(attribute(oidCN, tagPrintable, "a"+text))))
			return err
		}},
		"DNS name":     {lower + "-.", func(text string) error { return csr.CheckDNSName("a" + text + "b.example.com") }},
		"email":        {alphanumeric + "!#$%&'*+-/=?^_`{|}~.", func(text string) error { return csr.CheckEmailAddress("a" + text + "b@example.com") }},
		"email domain": {lower + "-.", func(text string) error { return csr.CheckEmailAddress("a@a" + text + "b.example.com") }},
		"URI path": {alphanumeric + "-._~!$&'()*+,;=:@/?", func(text string) error {
			_, err := csr.ParseURI("https://example.com/a" + text + "b")
			return err
		}},
		"URI query": {alphanumeric + "-._~!$&'()*+,;=:@/?", func(text string) error {
			_, err := csr.ParseURI("https://example.com/?a" + text + "b")
			return err
		}},
		"URI host": {lower + "-./?", func(text string) error {
			_, err := csr.ParseURI("https://a" + text + "b.example.com")
			return err
		}},
		"SPIFFE trust domain": {lower + "-._/", func(text string) error {
			_, err := csr.ParseURI("spiffe://a" + text + "b")
			return err
		}},
		"SPIFFE path": {alphanumeric + "-._/", func(text string) error {
			_, err := csr.ParseURI("spiffe://example.com/a" + text + "b")
			return err
		}},
	} {
		for b := range 256 {
			text := string([]byte{byte(b)})
			if err := c.check(text); (err == nil) != strings.Contains(c.allowed, text) {
				t.Errorf("%s with %q: got %v", name, text, err)
			}
		}
	}
}

// TestRefusalsSayWhy asserts the words of refusals that share a reason with others.
func TestRefusalsSayWhy(t *testing.T) {
	if err := csr.CheckDNSName("a b"); err == nil || !strings.HasPrefix(err.Error(), `DNS name "a b" has a character`) {
		t.Errorf("without a field: got %v", err)
	}
	parse := func(request []byte) error {
		_, err := csr.Parse(object(request))
		return err
	}
	uri := func(text string) error {
		_, err := csr.ParseURI(text)
		return err
	}
	kind := func(tag byte) error { return parse(withSAN(tlv(tag))) }
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"field":                      {parse(dnsSAN("a b")), `spec.request.subjectAltName[0]: DNS name "a b" has a character`},
		"as much as is quoted":       {csr.CheckDNSName(strings.Repeat("A", 64)), fmt.Sprintf("DNS name %q has a label", strings.Repeat("A", 64))},
		"more than is quoted":        {csr.CheckDNSName(strings.Repeat("A", 65)), fmt.Sprintf("DNS name %q... has a label", strings.Repeat("A", 64))},
		"first kind of name":         {kind(0xa0), "of the kind otherName;"},
		"last kind of name":          {kind(0x88), "of the kind registeredID;"},
		"tag behind the last kind":   {kind(0x89), "of the kind of the ASN.1 tag 0x89;"},
		"tag of another class":       {kind(0x62), "of the kind of the ASN.1 tag 0x62;"},
		"tag of no class":            {kind(tagIA5), "of the kind of the ASN.1 tag 0x16;"},
		"no @":                       {csr.CheckEmailAddress("ops"), `"ops" is no email address`},
		"no mailbox":                 {csr.CheckEmailAddress("@example.com"), `"@example.com" is no email address`},
		"control character in a URI": {uri("https://example.com/\x7f"), "has a character that URIs do not have"},
		"SPIFFE ID in upper case":    {uri("SPIFFE://example.com"), "does not begin with spiffe:// in lower case"},
		"no version":                 {parse(raw{version: []byte{}}.pem()), "has no version;"},
		"subject that is a set":      {parse(raw{subject: tlv(tagSet)}.pem()), "lacks its subject,"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, c.err, c.want)
		}
	}
}
