// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/certwright/certwright/signer/external/signerv1"
)

// Kubernetes has two names for some usages.
var keyUsages = map[string]x509.KeyUsage{
	"digital signature":  x509.KeyUsageDigitalSignature,
	"signing":            x509.KeyUsageDigitalSignature,
	"content commitment": x509.KeyUsageContentCommitment,
	"key encipherment":   x509.KeyUsageKeyEncipherment,
	"key agreement":      x509.KeyUsageKeyAgreement,
	"data encipherment":  x509.KeyUsageDataEncipherment,
}

var extendedKeyUsages = map[string]x509.ExtKeyUsage{
	"server auth":      x509.ExtKeyUsageServerAuth,
	"client auth":      x509.ExtKeyUsageClientAuth,
	"code signing":     x509.ExtKeyUsageCodeSigning,
	"email protection": x509.ExtKeyUsageEmailProtection,
	"s/mime":           x509.ExtKeyUsageEmailProtection,
}

// leaf turns the granted fields of a request into the template of a certificate. An error is about what this program will never
// sign.
func leaf(request *signerv1.SignRequest) (*x509.Certificate, error) {
	if request.GetIsCa() {
		return nil, errors.New("isCA is true: this program signs no CA certificates")
	}
	key, err := x509.ParsePKIXPublicKey(request.GetPublicKey())
	if err != nil {
		return nil, fmt.Errorf("publicKey: %w", err)
	}
	id := sha256.Sum256(request.GetPublicKey())
	now, life := time.Now(), request.GetDuration().AsDuration()
	s := request.GetSubject()
	template := &x509.Certificate{
		Subject: pkix.Name{
			Country: s.GetCountry(), Organization: s.GetOrganization(), OrganizationalUnit: s.GetOrganizationalUnit(), Locality: s.GetLocality(),
			Province: s.GetProvince(), StreetAddress: s.GetStreetAddress(), PostalCode: s.GetPostalCode(), SerialNumber: s.GetSerialNumber(),
			CommonName: s.GetCommonName(),
		},
		PublicKey: key, SubjectKeyId: id[:20], BasicConstraintsValid: true,
		// A life that begins a moment ago is for verifiers whose clocks are slow.
		NotBefore: now.Add(-min(life/10, 5*time.Minute)), NotAfter: now.Add(life),
		DNSNames: request.GetDnsNames(), EmailAddresses: request.GetEmailAddresses(),
	}
	for _, text := range request.GetIpAddresses() {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(text))
	}
	for _, text := range request.GetUris() {
		u, err := url.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("uris: %w", err)
		}
		template.URIs = append(template.URIs, u)
	}
	for _, name := range request.GetUsages() {
		if usage, ok := keyUsages[name]; ok {
			template.KeyUsage |= usage
		} else if usage, ok := extendedKeyUsages[name]; ok {
			template.ExtKeyUsage = append(template.ExtKeyUsage, usage)
		} else {
			return nil, fmt.Errorf("usages %q: this program does not know it", name)
		}
	}
	return template, nil
}
