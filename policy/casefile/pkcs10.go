// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package casefile

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certwright/certwright/api/v1alpha1"
)

var (
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
)

// encode returns the PEM of a PKCS #10 request (RFC 2986) for all that r asks for. Names go in as they stand; crypto/x509
// would refuse or rewrite some of them.
func (r Request) encode() ([]byte, error) {
	key, err := r.Key.private()
	if err != nil {
		return nil, err
	}
	s := r.Subject
	template := &x509.CertificateRequest{Subject: pkix.Name{
		CommonName:   r.CommonName,
		Organization: s.Organizations, OrganizationalUnit: s.OrganizationalUnits,
		Country: s.Countries, Province: s.Provinces, Locality: s.Localities,
		StreetAddress: s.StreetAddresses, PostalCode: s.PostalCodes,
	}}
	switch len(s.SerialNumbers) {
	case 0:
	case 1:
		template.Subject.SerialNumber = s.SerialNumbers[0]
	default:
		return nil, fmt.Errorf("subject.serialNumbers: a subject has one at the most")
	}
	if err := r.addExtensions(template); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("making a PKCS #10 request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

func (r Request) addExtensions(template *x509.CertificateRequest) error {
	names, err := r.altNames()
	if err != nil {
		return err
	}
	if names != nil {
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: oidSubjectAltName, Value: names})
	}
	if r.IsCA {
		constraints, err := asn1.Marshal(struct{ IsCA bool }{true})
		if err != nil {
			return err
		}
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: oidBasicConstraints, Critical: true, Value: constraints})
	}
	return nil
}

// altNames encodes the names as GeneralNames (RFC 5280, section 4.2.1.6); nil if there are none.
func (r Request) altNames() ([]byte, error) {
	const email, dns, uri, ip = 1, 2, 6, 7
	var b cryptobyte.Builder
	empty := true
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		add := func(tag uint8, value []byte) {
			empty = false
			b.AddASN1(cbasn1.Tag(tag).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(value) })
		}
		for _, name := range r.DNSNames {
			add(dns, []byte(name))
		}
		for _, name := range r.EmailAddresses {
			add(email, []byte(name))
		}
		for i, text := range r.IPAddresses {
			addr, err := netip.ParseAddr(text)
			if err != nil || addr.Zone() != "" {
				b.SetError(fmt.Errorf("ipAddresses[%d] %q: must be an IP address", i, text))
				return
			}
			add(ip, addr.AsSlice())
		}
		for _, name := range r.URIs {
			add(uri, []byte(name))
		}
	})
	der, err := b.Bytes()
	if err != nil || empty {
		return nil, err
	}
	return der, nil
}

// keys holds one private key of each kind: requests in files ask, and nothing is ever encrypted or served with it, so one
// key is as good as many, and an RSA key takes a while to make.
var keys sync.Map

func (k Key) private() (crypto.Signer, error) {
	if k.Algorithm == "" {
		k.Algorithm = v1alpha1.ECDSA
	}
	curves := map[int]elliptic.Curve{0: elliptic.P256(), 256: elliptic.P256(), 384: elliptic.P384(), 521: elliptic.P521()}
	var generate func() (crypto.Signer, error)
	switch k.Algorithm {
	case v1alpha1.ECDSA:
		curve, ok := curves[k.Size]
		if !ok {
			return nil, fmt.Errorf("key.size %d: must be 256, 384 or 521 for ECDSA", k.Size)
		}
		generate = func() (crypto.Signer, error) { return ecdsa.GenerateKey(curve, rand.Reader) }
	case v1alpha1.Ed25519:
		if !slices.Contains([]int{0, 256}, k.Size) {
			return nil, fmt.Errorf("key.size %d: must be 256 or left out for Ed25519", k.Size)
		}
		generate = func() (crypto.Signer, error) {
			_, key, err := ed25519.GenerateKey(rand.Reader)
			return key, err
		}
	case v1alpha1.RSA:
		if k.Size == 0 {
			k.Size = 2048
		}
		if k.Size < 1024 || k.Size > 8192 || k.Size%8 != 0 {
			return nil, fmt.Errorf("key.size %d: must be a multiple of 8 from 1024 to 8192 for RSA", k.Size)
		}
		generate = func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, k.Size) }
	default:
		return nil, fmt.Errorf("key.algorithm %q: must be ECDSA, Ed25519 or RSA", k.Algorithm)
	}
	made, _ := keys.LoadOrStore(k, sync.OnceValues(generate))
	key, err := made.(func() (crypto.Signer, error))()
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return key, nil
}
