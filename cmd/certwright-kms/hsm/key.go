// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package hsm signs with private keys in PKCS #11 tokens, named by URIs of RFC 7512.
//
// It is built on the binding of PKCS #11 itself: crypto11, which others use on top of it, knows no Ed25519, tries a refused PIN as
// often as it is asked to, and cannot tell a session that ended from a request that is wrong.
package hsm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/certwright/certwright/signer/ca/keyuri"
)

// PKCS #11 3.0, which the binding does not know yet (sections 2.3.3 and 2.3.12).
const (
	ckkECEdwards = 0x40
	ckmEDDSA     = 0x1057
)

// maxSessions is how many sessions without work are kept.
const maxSessions = 16

// Key is a private key in a token. It is a crypto.Signer and an io.Closer, safe for concurrent use.
type Key struct {
	modules *Modules
	module  *module
	slot    uint
	// first is the session that is logged in, which keeps the login and the handle of the key alive.
	first  pkcs11.SessionHandle
	object pkcs11.ObjectHandle
	public crypto.PublicKey
	// idle are sessions without work.
	idle chan pkcs11.SessionHandle
}

var _ io.Closer = (*Key)(nil)

// Open opens the private key of a public key. Whether it is really that one shows when it signs.
func (m *Modules) Open(u *keyuri.PKCS11, pin string, public crypto.PublicKey) (*Key, error) {
	path, err := m.find(u)
	if err != nil {
		return nil, err
	}
	used, err := m.use(path)
	if err != nil {
		return nil, err
	}
	k := &Key{modules: m, module: used, public: public, idle: make(chan pkcs11.SessionHandle, maxSessions)}
	if err := k.open(u, pin); err != nil {
		_ = used.leave() // err is what matters
		return nil, err
	}
	return k, nil
}

func (k *Key) open(u *keyuri.PKCS11, pin string) error {
	slot, token, err := k.module.slot(u)
	if err != nil {
		return err
	}
	k.slot = slot
	if k.first, err = k.session(); err != nil {
		return err
	}
	if err = k.modules.login(k.module, k.first, token, pin); err == nil {
		k.object, err = k.find(u)
	}
	if err != nil {
		_ = k.module.CloseSession(k.first) // err is what matters
		return err
	}
	return nil
}

// session begins a session, which is logged in if another one of the process is.
func (k *Key) session() (pkcs11.SessionHandle, error) {
	session, err := k.module.OpenSession(k.slot, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return 0, fmt.Errorf("beginning a session with the token: %w", err)
	}
	return session, nil
}

// find returns the handle of the private key, which must be the only one that is as the URI says.
func (k *Key) find(u *keyuri.PKCS11) (pkcs11.ObjectHandle, error) {
	kind, err := keyType(k.public)
	if err != nil {
		return 0, err
	}
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, kind)}
	if u.Object != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_LABEL, u.Object))
	}
	if len(u.ID) > 0 {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, u.ID))
	}
	if err := k.module.FindObjectsInit(k.first, template); err != nil {
		return 0, fmt.Errorf("looking for the key in the token: %w", err)
	}
	found, _, err := k.module.FindObjects(k.first, 2)
	if err = errors.Join(err, k.module.FindObjectsFinal(k.first)); err != nil {
		return 0, fmt.Errorf("looking for the key in the token: %w", err)
	}
	switch len(found) {
	case 0:
		return 0, errors.New("the token has no private key of the CA certificate's kind that is as object and id of the URI say")
	case 1:
		return found[0], nil
	}
	return 0, errors.New("the token has several private keys that are as object and id of the URI say: give both")
}

// Public implements crypto.Signer.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Sign implements crypto.Signer. The token has its own randomness.
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	mechanism, input, err := prepare(k.public, digest, opts)
	if err != nil {
		return nil, err
	}
	signature, err := k.withSession(func(session pkcs11.SessionHandle) ([]byte, error) {
		if err := k.module.SignInit(session, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, k.object); err != nil {
			return nil, fmt.Errorf("beginning a signature in the token: %w", err)
		}
		signature, err := k.module.Sign(session, input)
		if err != nil {
			return nil, fmt.Errorf("signing in the token: %w", err)
		}
		return signature, nil
	})
	if _, ec := k.public.(*ecdsa.PublicKey); ec && err == nil {
		return joined(signature)
	}
	return signature, err
}

// withSession lends a session that nobody else uses. One in which something went wrong is not used again.
func (k *Key) withSession(use func(pkcs11.SessionHandle) ([]byte, error)) ([]byte, error) {
	var session pkcs11.SessionHandle
	select {
	case session = <-k.idle:
	default:
		var err error
		if session, err = k.session(); err != nil {
			return nil, err
		}
	}
	result, err := use(session)
	if err != nil {
		_ = k.module.CloseSession(session) // err is what matters
		return nil, err
	}
	select {
	case k.idle <- session:
		return result, nil
	default:
		return result, k.module.CloseSession(session)
	}
}

// Close ends all sessions of the key, and the module if no other key of it is open. Nobody may be signing any more.
func (k *Key) Close() error {
	close(k.idle)
	var errs []error
	for session := range k.idle {
		errs = append(errs, k.module.CloseSession(session))
	}
	errs = append(errs, k.module.CloseSession(k.first), k.module.leave())
	return errors.Join(errs...)
}

func keyType(public crypto.PublicKey) (uint, error) {
	switch public.(type) {
	case *rsa.PublicKey:
		return pkcs11.CKK_RSA, nil
	case *ecdsa.PublicKey:
		return pkcs11.CKK_EC, nil
	case ed25519.PublicKey:
		return ckkECEdwards, nil
	}
	return 0, fmt.Errorf("a %T cannot be used by PKCS #11: the CA key must be RSA, ECDSA or Ed25519", public)
}

// digestInfos are what PKCS #1 puts in front of a digest (RFC 8017, section 9.2, note 1).
var digestInfos = map[crypto.Hash][]byte{
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	crypto.SHA512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

// prepare returns the mechanism for a key, and what it is to be given.
func prepare(public crypto.PublicKey, digest []byte, opts crypto.SignerOpts) (mechanism uint, input []byte, err error) {
	hash := opts.HashFunc()
	if hash != 0 && len(digest) != hash.Size() {
		return 0, nil, fmt.Errorf("the digest has %d bytes, and %s has %d", len(digest), hash, hash.Size())
	}
	switch public.(type) {
	case *rsa.PublicKey:
		info, known := digestInfos[hash]
		if _, pss := opts.(*rsa.PSSOptions); pss || !known {
			return 0, nil, errors.New("RSA keys in tokens sign by PKCS #1 v1.5, with SHA-256, SHA-384 or SHA-512")
		}
		return pkcs11.CKM_RSA_PKCS, slices.Concat(info, digest), nil
	case *ecdsa.PublicKey:
		return pkcs11.CKM_ECDSA, digest, nil
	}
	if hash != 0 {
		return 0, nil, errors.New("Ed25519 keys sign the message itself")
	}
	return ckmEDDSA, digest, nil
}

// joined makes an ECDSA signature of X.509 (RFC 3279, section 2.2.3) from one of PKCS #11, which is both numbers in a row.
func joined(signature []byte) ([]byte, error) {
	half := len(signature) / 2
	if half == 0 || len(signature)%2 != 0 {
		return nil, fmt.Errorf("the token gave an ECDSA signature of %d bytes", len(signature))
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:])})
}
