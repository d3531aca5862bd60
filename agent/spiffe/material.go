// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package spiffe

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/protobuf/encoding/protowire"
)

// material is what is served at one time, encoded once for all clients. The
// numbers are those of the fields in workload.proto and in Envoy's secret.proto.
type material struct {
	replaced chan struct{} // is closed when there is newer material

	id      spiffeid.ID // zero when the certificate is no X509-SVID
	noSVID  error       // says why
	svids   []byte      // X509SVIDResponse
	bundles []byte      // X509BundlesResponse

	certificate, anchors secret
}

// secret is one of Envoy's, without its name.
type secret struct {
	version string // changes with the contents
	body    []byte
}

func newMaterial(chain []*x509.Certificate, key crypto.Signer, bundle []*x509.Certificate) (*material, error) {
	if len(chain) == 0 || len(bundle) == 0 {
		return nil, errEmpty
	}
	if public, ok := chain[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(key.Public()) {
		return nil, errors.New("the key is not that of the certificate")
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding private key: %w", err)
	}
	m := &material{replaced: make(chan struct{})}
	certificates, anchors := concatenate(chain), concatenate(bundle)

	var pair, validation []byte
	pair = appendBytes(pair, 1, inline(encode("CERTIFICATE", chain)))
	pair = appendBytes(pair, 2, inline(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
	validation = appendBytes(validation, 1, inline(encode("CERTIFICATE", bundle)))
	m.certificate = secret{version(certificates), appendBytes(nil, 2, pair)}
	m.anchors = secret{version(anchors), appendBytes(nil, 4, validation)}

	if m.id, m.noSVID = identity(chain[0]); m.id.IsZero() {
		return m, nil
	}
	var svid []byte
	svid = appendBytes(svid, 1, m.id.String())
	svid = appendBytes(svid, 2, certificates)
	svid = appendBytes(svid, 3, pkcs8)
	svid = appendBytes(svid, 4, anchors)
	m.svids = appendBytes(nil, 1, svid)
	entry := appendBytes(nil, 1, m.id.TrustDomain().IDString())
	m.bundles = appendBytes(nil, 2, appendBytes(entry, 2, anchors))
	return m, nil
}

// identity returns the SPIFFE ID of a leaf that is an X509-SVID by the standard
// (https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md, 2 to 4).
func identity(leaf *x509.Certificate) (spiffeid.ID, error) {
	if len(leaf.URIs) != 1 {
		return spiffeid.ID{}, fmt.Errorf("it has %d URIs, an X509-SVID has exactly one, its SPIFFE ID", len(leaf.URIs))
	}
	id, err := spiffeid.FromURI(leaf.URIs[0])
	both := slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	switch {
	case err != nil:
		return spiffeid.ID{}, fmt.Errorf("its URI %q is no SPIFFE ID: %w", leaf.URIs[0], err)
	case id.Path() == "":
		return spiffeid.ID{}, fmt.Errorf("its SPIFFE ID %q has no path, which is for CAs", id)
	case leaf.IsCA || leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return spiffeid.ID{}, errors.New("it is that of a CA")
	case leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return spiffeid.ID{}, errors.New(`it lacks the usage "digital signature"`)
	case len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0 && !both:
		return spiffeid.ID{}, errors.New(`it has not both of the usages "server auth" and "client auth"`)
	}
	return id, nil
}

// complete is false until the first Update.
func (m *material) complete() bool { return m.certificate.body != nil }

func (m *material) same(other *material) bool {
	return bytes.Equal(m.certificate.body, other.certificate.body) && bytes.Equal(m.anchors.body, other.anchors.body)
}

// concatenate returns certificates as SPIFFE wants several of them in one field.
func concatenate(certificates []*x509.Certificate) []byte {
	var all []byte
	for _, certificate := range certificates {
		all = append(all, certificate.Raw...)
	}
	return all
}

func encode(kind string, certificates []*x509.Certificate) []byte {
	var all []byte
	for _, certificate := range certificates {
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: certificate.Raw})...)
	}
	return all
}

// version is made of certificates only: a key leaves no trace in it.
func version(certificates []byte) string {
	sum := sha256.Sum256(certificates)
	return hex.EncodeToString(sum[:8])
}

// inline is Envoy's DataSource with its field inline_bytes.
func inline(data []byte) []byte { return appendBytes(nil, 2, data) }

// appendBytes appends a field that is a text, bytes or a message.
func appendBytes[T string | []byte](to []byte, number protowire.Number, value T) []byte {
	to = protowire.AppendVarint(protowire.AppendTag(to, number, protowire.BytesType), uint64(len(value)))
	return append(to, value...)
}
