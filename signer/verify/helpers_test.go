// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer/internal/example"
)

type template = x509.Certificate

// now is when the chains are checked.
var now = example.Now

func addName(t *testing.T, tag int, value string) example.Backend {
	return example.LeafOf(func(c *template) {
		extension := altNameExtension(t, c, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(value)})
		c.ExtraExtensions = append(c.ExtraExtensions, extension)
	})
}

// altNameExtension has the leaf's names, which are all of its request's, and another one of any kind.
func altNameExtension(t *testing.T, template *template, another asn1.RawValue) pkix.Extension {
	t.Helper()
	all := []asn1.RawValue{another}
	add := func(tag int, value []byte) {
		all = append(all, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: value})
	}
	for _, n := range template.DNSNames {
		add(2, []byte(n))
	}
	for _, n := range template.EmailAddresses {
		add(1, []byte(n))
	}
	for _, n := range template.URIs {
		add(6, []byte(n.String()))
	}
	for _, n := range template.IPAddresses {
		add(7, n)
	}
	der, err := asn1.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: oidSubjectAltName, Value: der}
}

// rawSubject writes a subject with one attribute in each RDN, without regard to what pkix.Name can hold.
func rawSubject(t *testing.T, pairs ...string) []byte {
	t.Helper()
	oids := map[string]asn1.ObjectIdentifier{"CN": {2, 5, 4, 3}, "O": {2, 5, 4, 10}, "UID": {0, 9, 2342, 19200300, 100, 1, 1}}
	var rdns pkix.RDNSequence
	for i := 0; i < len(pairs); i += 2 {
		rdns = append(rdns, pkix.RelativeDistinguishedNameSET{{Type: oids[pairs[i]], Value: pairs[i+1]}})
	}
	der, err := asn1.Marshal(rdns)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// from has a backend sign the request of the tests, and checks what it returns.
func from(b example.Backend, req csr.Request, anchors ...*x509.Certificate) ([]*x509.Certificate, error) {
	returned, err := b(req)
	if err != nil {
		return nil, err
	}
	return Chain(returned, anchors, req, now)
}

// refused checks that what the backend returns is refused with its own error.
func refused(t *testing.T, b example.Backend, want string) {
	t.Helper()
	req := example.Request(t, nil, nil).WithDuration(24 * time.Hour)
	if _, err := from(b, req, example.Root.Certificate); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
}
