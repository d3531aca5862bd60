// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package csr_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"testing"

	"github.com/certwright/certwright/csr"
)

// rsaSPKI returns an RSA key of the given modulus, which nobody needs to be able to sign with: it is refused before.
func rsaSPKI(modulus *big.Int, exponent int) []byte {
	number := func(n *big.Int) []byte {
		der, err := asn1.Marshal(n)
		if err != nil {
			panic(err)
		}
		return der
	}
	key := sequence(number(modulus), number(big.NewInt(int64(exponent))))
	return sequence(sequence(oid(1, 2, 840, 113549, 1, 1, 1), derNull), tlv(tagBitString, []byte{0}, key))
}

func modulus(bits uint) *big.Int {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return n.SetBit(n, 0, 1)
}

func hostileKeys(t *testing.T) []hostile {
	withKey := func(spki []byte) []byte { return raw{publicKey: spki}.pem() }
	ec := func(curve []byte, point []byte) []byte {
		return sequence(sequence(oid(1, 2, 840, 10045, 2, 1), curve), tlv(tagBitString, []byte{0}, point))
	}
	p256 := oid(1, 2, 840, 10045, 3, 1, 7)
	params := elliptic.P256().Params()
	compressed := append([]byte{2 + byte(params.Gy.Bit(0))}, params.Gx.FillBytes(make([]byte, 32))...)
	offCurve := append([]byte{4}, bytes.Repeat([]byte{1}, 64)...)
	rsaWith := func(algorithm ...[]byte) []byte {
		return raw{publicKey: rsaSPKI(modulus(2048), 65537), algorithm: sequence(algorithm...)}.pem()
	}
	sha256RSA := oid(1, 2, 840, 113549, 1, 1, 11)
	ed := oid(1, 3, 101, 112)
	return []hostile{
		{"DSA", fixture(t, "dsa.pem"), csr.ReasonKeyAlgorithm},
		{"X25519", withKey(sequence(sequence(oid(1, 3, 101, 110)), tlv(tagBitString, make([]byte, 33)))), csr.ReasonKeyAlgorithm},
		{"Ed448", withKey(sequence(sequence(oid(1, 3, 101, 113)), tlv(tagBitString, make([]byte, 58)))), csr.ReasonKeyAlgorithm},
		{"P-224", fixture(t, "p224.pem"), csr.ReasonKeyCurve},
		{"secp256k1", withKey(ec(oid(1, 3, 132, 0, 10), offCurve)), csr.ReasonKeyCurve},
		{"curve by parameters", withKey(ec(sequence(), offCurve)), csr.ReasonKeyCurve},
		{"RSA 1024", fixture(t, "rsa-1024.pem"), csr.ReasonKeySize},
		{"RSA 2047", withKey(rsaSPKI(modulus(2047), 65537)), csr.ReasonKeySize},
		{"RSA 8193", withKey(rsaSPKI(modulus(8193), 65537)), csr.ReasonKeySize},
		{"RSA 16384", withKey(rsaSPKI(modulus(16384), 65537)), csr.ReasonKeySize},
		{"RSA 80000", withKey(rsaSPKI(modulus(80000), 65537)), csr.ReasonKeySize},
		{"RSA with exponent 3", fixture(t, "rsa-exponent-3.pem"), csr.ReasonKeyExponent},
		{"RSA with an even exponent", withKey(rsaSPKI(modulus(2048), 65538)), csr.ReasonKeyExponent},
		{"RSA with a huge exponent", withKey(rsaSPKI(modulus(2048), 1<<31+1)), csr.ReasonKeyExponent},
		{"RSA with the largest exponent", withKey(rsaSPKI(modulus(2048), 1<<31-1)), csr.ReasonSignatureAlgorithm},
		{"RSA with an even modulus", withKey(rsaSPKI(new(big.Int).Lsh(big.NewInt(1), 2047), 65537)), csr.ReasonKeyMalformed},
		{"RSA with a negative modulus", withKey(rsaSPKI(new(big.Int).Neg(modulus(2048)), 65537)), csr.ReasonKeyMalformed},
		{"point off the curve", withKey(ec(p256, offCurve)), csr.ReasonKeyMalformed},
		{"compressed point", withKey(ec(p256, compressed)), csr.ReasonKeyMalformed},
		{"bytes inside the key's algorithm", withKey(sequence(sequence(ed, derNull), tlv(tagBitString, make([]byte, 33)))), csr.ReasonKeyMalformed},
		{"element after the key", withKey(sequence(sequence(ed), tlv(tagBitString, make([]byte, 33)), derNull)), csr.ReasonKeyMalformed},
		{"key that is no sequence", withKey(sequence()), csr.ReasonDERMalformed},

		{"ECDSA with SHA-1", fixture(t, "sha1.pem"), csr.ReasonWeakSignature},
		{"RSA with MD5", fixture(t, "md5.pem"), csr.ReasonWeakSignature},
		{"RSA with SHA-1", rsaWith(oid(1, 2, 840, 113549, 1, 1, 5), derNull), csr.ReasonWeakSignature},
		{"RSA with MD2", rsaWith(oid(1, 2, 840, 113549, 1, 1, 2), derNull), csr.ReasonWeakSignature},
		{"RSA with SHA-1 under the identifier of ISO", rsaWith(oid(1, 3, 14, 3, 2, 29), derNull), csr.ReasonWeakSignature},
		{"RSA-PSS with a longer salt", fixture(t, "rsa-pss-long-salt.pem"), csr.ReasonSignatureAlgorithm},
		{"RSA-PSS without parameters, which means SHA-1", rsaWith(oid(1, 2, 840, 113549, 1, 1, 10), sequence()), csr.ReasonSignatureAlgorithm},
		{"unknown signature algorithm", raw{algorithm: sequence(oid(1, 2, 3))}.pem(), csr.ReasonSignatureAlgorithm},
		{"signature of another kind of key", raw{algorithm: sequence(sha256RSA, derNull)}.pem(), csr.ReasonSignatureAlgorithm},
		{"RSA without NULL parameters", rsaWith(sha256RSA), csr.ReasonDERMalformed},
		{"RSA with two parameters", rsaWith(sha256RSA, derNull, derNull), csr.ReasonDERMalformed},
		{"Ed25519 with parameters", raw{algorithm: sequence(ed, derNull)}.pem(), csr.ReasonDERMalformed},
		{"signature algorithm without identifier", raw{algorithm: sequence()}.pem(), csr.ReasonDERMalformed},
		{"signature of zeros", raw{signature: tlv(tagBitString, make([]byte, 65))}.pem(), csr.ReasonSignatureDoesNotVerify},
		{"empty signature", raw{signature: tlv(tagBitString, []byte{0})}.pem(), csr.ReasonSignatureDoesNotVerify},
		{"key of somebody else", withKey(sequence(sequence(ed), tlv(tagBitString, []byte{0}, bytes.Repeat([]byte{9}, 32)))), csr.ReasonSignatureDoesNotVerify},
	}
}

// TestParsePSSWithoutHashParameters reads the other form of RFC 4055, which leaves the NULL of a hash out.
func TestParsePSSWithoutHashParameters(t *testing.T) {
	key := mustKey[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	sha256 := oid(2, 16, 840, 1, 101, 3, 4, 2, 1)
	parts := func(parts ...[]byte) []byte {
		return sequence(oid(1, 2, 840, 113549, 1, 1, 10), sequence(parts...))
	}
	mgf1, mask := oid(1, 2, 840, 113549, 1, 1, 8), func(parts ...[]byte) []byte { return tlv(0xa1, sequence(parts...)) }
	hash, salt := tlv(0xa0, sequence(sha256)), tlv(0xa2, []byte{tagInteger, 1, 32})
	pss := func(hash, maskHash []byte, salt byte, more ...byte) []byte {
		return parts(tlv(0xa0, hash), mask(mgf1, maskHash), tlv(0xa2, []byte{tagInteger, 1, salt}), more)
	}
	sign := func(algorithm []byte) []byte {
		info := sequence([]byte{tagInteger, 1, 0}, sequence(), spki, attributes())
		digest := crypto.SHA256.New()
		digest.Write(info)
		signature, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest.Sum(nil), &rsa.PSSOptions{SaltLength: 32})
		if err != nil {
			t.Fatal(err)
		}
		return toPEM(sequence(info, algorithm, tlv(tagBitString, []byte{0}, signature)))
	}
	if _, err := csr.Parse(object(sign(pss(sequence(sha256), sequence(sha256), 32)))); err != nil {
		t.Error(err)
	}
	for name, algorithm := range map[string][]byte{
		"other mask hash":      pss(sequence(sha256), sequence(oid(2, 16, 840, 1, 101, 3, 4, 2, 2)), 32),
		"other salt":           pss(sequence(sha256), sequence(sha256), 20),
		"something behind":     pss(sequence(sha256), sequence(sha256), 32, derNull...),
		"something in a hash":  pss(sequence(sha256, derNull, derNull), sequence(sha256), 32),
		"something not a hash": pss(sequence(sha256, derTrue), sequence(sha256), 32),
		"unknown hashes":       pss(sequence(oid(1, 2, 3)), sequence(oid(1, 2, 3)), 32),
		"other mask function":  parts(hash, mask(oid(1, 2, 840, 113549, 1, 1, 9), sequence(sha256)), salt),
		"behind the mask":      parts(hash, mask(mgf1, sequence(sha256), derNull), salt),
		"behind the function":  parts(hash, tlv(0xa1, sequence(mgf1, sequence(sha256)), derNull), salt),
		"behind the salt":      parts(hash, mask(mgf1, sequence(sha256)), tlv(0xa2, []byte{tagInteger, 1, 32}, derNull)),
	} {
		_, err := csr.Parse(object(sign(algorithm)))
		if refusal := checkRefusal(t, err); refusal.Reason != csr.ReasonSignatureAlgorithm {
			t.Errorf("%s: got %v, want %s", name, err, csr.ReasonSignatureAlgorithm)
		}
	}
}
