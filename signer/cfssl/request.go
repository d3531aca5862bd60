// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cfssl

import (
	"net/mail"
	"slices"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer/remote"
)

// signRequest is what the server signs (cfssl's signer.SignRequest, whose package brings along a linter and a database). Names
// are told beside the PKCS #10 request, as a profile with a csr_whitelist takes none from there. NotAfter is understood by multirootca
// only.
type signRequest struct {
	Hosts    []string   `json:"hosts"`
	Request  string     `json:"certificate_request"`
	Subject  *subject   `json:"subject,omitempty"`
	Profile  string     `json:"profile"`
	Label    string     `json:"label"`
	NotAfter *time.Time `json:"NotAfter,omitempty"`
}

// subject is cfssl's signer.Subject.
type subject struct {
	CN           string
	Names        []name `json:"names"`
	SerialNumber string
}

// name holds one value of each attribute, cfssl's csr.Name.
type name struct {
	C  string `json:",omitempty"`
	ST string `json:",omitempty"`
	L  string `json:",omitempty"`
	O  string `json:",omitempty"`
	OU string `json:",omitempty"`
}

func newSignRequest(config v1alpha1.CFSSL, req csr.Request, notAfter time.Time) signRequest {
	notAfter = notAfter.UTC().Truncate(time.Second)
	r := signRequest{
		Hosts:    slices.Concat(req.DNSNames, req.EmailAddresses),
		Request:  remote.Request(req),
		Subject:  newSubject(req),
		Profile:  config.Profile,
		Label:    config.Label,
		NotAfter: &notAfter,
	}
	for _, a := range req.IPAddresses {
		r.Hosts = append(r.Hosts, a.String())
	}
	for _, u := range req.URIs {
		r.Hosts = append(r.Hosts, u.String())
	}
	return r
}

// newSubject returns nil if cfssl has no words for the subject: then it takes it from the PKCS #10 request, which says the
// same.
func newSubject(req csr.Request) *subject {
	s := req.Subject
	values := slices.Concat(s.Country, s.Province, s.Locality, s.Organization, s.OrganizationalUnit)
	if len(s.StreetAddress)+len(s.PostalCode) > 0 || slices.Contains(values, "") || len(values) == 0 && s.CommonName == "" && s.SerialNumber == "" {
		return nil
	}
	made := &subject{CN: s.CommonName, SerialNumber: s.SerialNumber}
	add := func(values []string, make func(string) name) {
		for _, v := range values {
			made.Names = append(made.Names, make(v))
		}
	}
	add(s.Country, func(v string) name { return name{C: v} })
	add(s.Province, func(v string) name { return name{ST: v} })
	add(s.Locality, func(v string) name { return name{L: v} })
	add(s.Organization, func(v string) name { return name{O: v} })
	add(s.OrganizationalUnit, func(v string) name { return name{OU: v} })
	return made
}

// refuse says what no cfssl server can sign as it was asked for.
func refuse(req csr.Request) error {
	if req.IsCA {
		return permanent("isCA is true: a cfssl server signs no CA certificates for this backend")
	}
	for _, u := range req.URIs {
		// A host is an email address to cfssl if Go's net/mail can read it as one, as with "x://a@b;".
		if _, err := mail.ParseAddress(u.String()); err == nil {
			return permanent("uris: a cfssl server would take %q for an email address", u)
		}
	}
	return nil
}
