// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package provision makes tokens, keys in them and CA certificates for these keys, with which certwright-kms can be tried. A real
// HSM is set up by its own tools, in a ceremony.
package provision

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/certwright/certwright/cmd/certwright-kms/hsm"
	"github.com/certwright/certwright/signer/ca/keyuri"
)

// Options say what is made. What is there already stays as it is and is used.
type Options struct {
	// Module is the path of the PKCS #11 module.
	Module string
	// Token is the label of the token, PIN its user's PIN, and that of its security officer.
	Token, PIN string
	// Object is the label of the key, Algorithm one of Algorithms.
	Object, Algorithm string
	// CommonName and Lifetime are those of the CA certificate, which is self-signed.
	CommonName string
	Lifetime   time.Duration
}

// Algorithms are the kinds of keys that can be made.
var Algorithms = []string{"RSA-2048", "RSA-3072", "ECDSA-P256", "ECDSA-P384", "ECDSA-P521", "Ed25519"}

// Numbers of PKCS #11 3.0, which the binding does not know yet.
const (
	ckmECEdwardsKeyPairGen = 0x1055
	ckkECEdwards           = 0x40
)

// CA makes a token, a key in it, and a CA certificate for that key, which it returns in PEM. The key never leaves the token. No
// other user of the module may be in this process.
func CA(o Options) ([]byte, error) {
	public, err := key(o)
	if err != nil {
		return nil, err
	}
	modules := hsm.Modules{Named: []string{o.Module}}
	signer, err := modules.Open(&keyuri.PKCS11{ModulePath: o.Module, Token: o.Token, Object: o.Object}, o.PIN, public)
	if err != nil {
		return nil, fmt.Errorf("opening the key that was made: %w", err)
	}
	defer signer.Close()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 158))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: o.CommonName},
		NotBefore: now.Add(-5 * time.Minute), NotAfter: now.Add(o.Lifetime),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, &x509.Certificate{Subject: pkix.Name{CommonName: o.CommonName}}, public, signer)
	if err != nil {
		return nil, fmt.Errorf("signing the CA certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// key makes sure that there are a token and a key, and returns the public one.
func key(o Options) (crypto.PublicKey, error) {
	ctx := pkcs11.New(o.Module)
	if ctx == nil {
		return nil, fmt.Errorf("loading module %s", o.Module)
	}
	defer ctx.Destroy()
	if err := ctx.Initialize(); err != nil {
		return nil, fmt.Errorf("starting module %s: %w", o.Module, err)
	}
	defer func() { _ = ctx.Finalize() }()
	slot, err := token(ctx, o)
	if err != nil {
		return nil, err
	}
	session, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return nil, fmt.Errorf("beginning a session: %w", err)
	}
	if err := ctx.Login(session, pkcs11.CKU_USER, o.PIN); err != nil {
		return nil, fmt.Errorf("logging in: %w", err)
	}
	find := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), pkcs11.NewAttribute(pkcs11.CKA_LABEL, o.Object)}
	if err := ctx.FindObjectsInit(session, find); err != nil {
		return nil, err
	}
	found, _, err := ctx.FindObjects(session, 1)
	if err := errors.Join(err, ctx.FindObjectsFinal(session)); err != nil {
		return nil, fmt.Errorf("looking for the key: %w", err)
	}
	if len(found) == 0 {
		made, err := generate(ctx, session, o)
		if err != nil {
			return nil, fmt.Errorf("making the key: %w", err)
		}
		found = append(found, made)
	}
	return public(ctx, session, found[0])
}

// token returns the slot of the token with the label, which is made in an empty slot if it is not there.
func token(ctx *pkcs11.Ctx, o Options) (uint, error) {
	find := func(suits func(pkcs11.TokenInfo) bool) (uint, bool) {
		slots, _ := ctx.GetSlotList(true)
		for _, slot := range slots {
			if info, err := ctx.GetTokenInfo(slot); err == nil && suits(info) {
				return slot, true
			}
		}
		return 0, false
	}
	ours := func(i pkcs11.TokenInfo) bool { return strings.TrimRight(i.Label, " \x00") == o.Token }
	if slot, ok := find(ours); ok {
		return slot, nil
	}
	slot, ok := find(func(i pkcs11.TokenInfo) bool { return i.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 })
	if !ok {
		return 0, errors.New("there is no slot with an empty token")
	}
	if err := ctx.InitToken(slot, o.PIN, o.Token); err != nil {
		return 0, fmt.Errorf("making the token: %w", err)
	}
	if slot, ok = find(ours); !ok {
		return 0, errors.New("the token that was made is not there")
	}
	session, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err == nil {
		err = ctx.Login(session, pkcs11.CKU_SO, o.PIN)
	}
	if err == nil {
		err = errors.Join(ctx.InitPIN(session, o.PIN), ctx.Logout(session), ctx.CloseSession(session))
	}
	if err != nil {
		return 0, fmt.Errorf("setting the PIN of the token: %w", err)
	}
	return slot, nil
}

// generate makes a key pair in the token, which never hands out the private key.
func generate(ctx *pkcs11.Ctx, session pkcs11.SessionHandle, o Options) (pkcs11.ObjectHandle, error) {
	common := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, o.Object), pkcs11.NewAttribute(pkcs11.CKA_ID, ID(o.Object)),
	}
	mechanism, parameters, err := parameters(o.Algorithm)
	if err != nil {
		return 0, err
	}
	public := append(append(parameters, pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true)), common...)
	private := append([]*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
	}, common...)
	made, _, err := ctx.GenerateKeyPair(session, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, public, private)
	return made, err
}

// ID is the CKA_ID of a key that was made with a label.
func ID(object string) []byte {
	sum := sha256.Sum256([]byte(object))
	return sum[:8]
}

var curves = map[string]struct {
	id    asn1.ObjectIdentifier
	curve elliptic.Curve
}{
	"ECDSA-P256": {asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}, elliptic.P256()},
	"ECDSA-P384": {asn1.ObjectIdentifier{1, 3, 132, 0, 34}, elliptic.P384()},
	"ECDSA-P521": {asn1.ObjectIdentifier{1, 3, 132, 0, 35}, elliptic.P521()},
}

func parameters(algorithm string) (mechanism uint, attributes []*pkcs11.Attribute, err error) {
	var value any
	switch algorithm {
	case "RSA-2048", "RSA-3072":
		bits := map[string]int{"RSA-2048": 2048, "RSA-3072": 3072}[algorithm]
		return pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, bits), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}),
		}, nil
	case "Ed25519":
		mechanism, value = ckmECEdwardsKeyPairGen, asn1.RawValue{Tag: asn1.TagPrintableString, Bytes: []byte("edwards25519")}
	default:
		c, known := curves[algorithm]
		if !known {
			return 0, nil, fmt.Errorf("algorithm %q is not one of %s", algorithm, strings.Join(Algorithms, ", "))
		}
		mechanism, value = pkcs11.CKM_EC_KEY_PAIR_GEN, c.id
	}
	der, err := asn1.Marshal(value)
	return mechanism, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, der)}, err
}

// public reads a public key from the token.
func public(ctx *pkcs11.Ctx, session pkcs11.SessionHandle, object pkcs11.ObjectHandle) (crypto.PublicKey, error) {
	read := func(types ...uint) ([]*pkcs11.Attribute, error) {
		var template []*pkcs11.Attribute
		for _, t := range types {
			template = append(template, pkcs11.NewAttribute(t, nil))
		}
		return ctx.GetAttributeValue(session, object, template)
	}
	if values, err := read(pkcs11.CKA_MODULUS, pkcs11.CKA_PUBLIC_EXPONENT); err == nil {
		return &rsa.PublicKey{N: new(big.Int).SetBytes(values[0].Value), E: int(new(big.Int).SetBytes(values[1].Value).Int64())}, nil
	}
	values, err := read(pkcs11.CKA_EC_PARAMS, pkcs11.CKA_EC_POINT)
	if err != nil {
		return nil, fmt.Errorf("reading the public key: %w", err)
	}
	var point []byte
	if _, err := asn1.Unmarshal(values[1].Value, &point); err != nil {
		return nil, fmt.Errorf("decoding the public key: %w", err)
	}
	for _, c := range curves {
		if der, _ := asn1.Marshal(c.id); string(der) == string(values[0].Value) {
			return ecdsa.ParseUncompressedPublicKey(c.curve, point)
		}
	}
	if len(point) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("the public key has %d bytes and is of no known kind", len(point))
	}
	return ed25519.PublicKey(point), nil
}
