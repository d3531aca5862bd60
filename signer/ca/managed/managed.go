// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package managed

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca/authority"
	"github.com/certwright/certwright/signer/ca/entry"
	"github.com/certwright/certwright/signer/ca/rotation"
)

// The entries of the Secret, beside tls.crt and tls.key of the intermediate.
const (
	entryRoot    = "root.crt"
	entryRootKey = "root.key"
	// The root that is published and does not sign yet.
	entryNext    = "next-root.crt"
	entryNextKey = "next-root.key"
	// The root that was replaced. Its key is gone.
	entryOld = "old-root.crt"
	// The newer of two roots, signed by the older.
	entryCross = "cross.crt"
	entryState = "rotation.json"
)

// CA is a CA that Certwright made. It does not change once it is in use. The zero value is one of which nothing is there yet.
type CA struct {
	// Authority signs. Its first anchor is Root.
	Authority *authority.Authority
	// Root is above what signs. Next is the root that will take its place, Old the one whose place it took; each may be nil.
	Root, Next, Old *x509.Certificate
	// State says how far the replacement of the root is.
	State rotation.State

	cross            *x509.Certificate
	issuer           *x509.Certificate
	rootKey, nextKey crypto.Signer
	key              crypto.Signer
}

// Take takes a step, after which the state is as given, and returns the entries that hold all that is there then. The CA itself stays as
// it is.
func (a *CA) Take(c Config, step rotation.Step, state rotation.State, now time.Time) (entry.Data, error) {
	next := *a
	next.State = state
	var err error
	switch step {
	case rotation.Begin:
		if next.Next, next.nextKey, err = c.newRoot(now); err == nil {
			next.cross, err = c.newCross(now, next.Next, next.Root, next.rootKey)
		}
	case rotation.Switch:
		next.Old, next.Root, next.rootKey = next.Root, next.Next, next.nextKey
		next.Next, next.nextKey = nil, nil
		err = next.renew(c, now)
	case rotation.Finish:
		next.Old, next.cross = nil, nil
	case rotation.Replace:
		next = CA{State: state}
		if next.Root, next.rootKey, err = c.newRoot(now); err == nil {
			err = next.renew(c, now)
		}
	case rotation.Renew:
		err = next.renew(c, now)
	case rotation.Raise, rotation.Seen, rotation.None:
	}
	if err != nil {
		return nil, err
	}
	return next.encode()
}

func (a *CA) renew(c Config, now time.Time) (err error) {
	a.issuer, a.key, err = c.newIntermediate(now, a.Root, a.rootKey)
	return err
}

func (a *CA) encode() (data entry.Data, err error) {
	data = entry.Data{}
	for name, cert := range map[string]*x509.Certificate{
		entryRoot: a.Root, entryNext: a.Next, entryOld: a.Old, entryCross: a.cross, corev1.TLSCertKey: a.issuer,
	} {
		if cert != nil {
			data[name] = signer.EncodePEM(cert)
		}
	}
	for name, key := range map[string]crypto.Signer{entryRootKey: a.rootKey, entryNextKey: a.nextKey, corev1.TLSPrivateKeyKey: a.key} {
		if key == nil {
			continue
		}
		if data[name], err = entry.EncodeKey(key); err != nil {
			return nil, err
		}
	}
	data[entryState], err = a.State.Encode()
	return data, err
}

// Parse reads a CA. Every error is a *signer.CheckError.
func Parse(data entry.Data) (a *CA, err error) {
	a = &CA{}
	if a.State, err = rotation.Decode(data[entryState]); err != nil {
		return nil, authority.Unusable(entry.ReasonSecretIncomplete, "key %s: %w", entryState, err)
	}
	if err := a.checkEntries(data); err != nil {
		return nil, err
	}
	if a.Root, a.rootKey, err = parseRoot(data, entryRoot, entryRootKey); err != nil {
		return nil, err
	}
	older, newer := a.Root, a.Root
	switch a.State.Phase {
	case v1alpha1.RotationPublishing:
		if a.Next, a.nextKey, err = parseRoot(data, entryNext, entryNextKey); err != nil {
			return nil, err
		}
		newer = a.Next
	case v1alpha1.RotationSigning:
		if a.Old, _, err = parseRoot(data, entryOld, ""); err != nil {
			return nil, err
		}
		older = a.Old
	}
	if newer != older && hasRoom(older, newer) {
		if a.cross, err = parseCross(data, newer, older); err != nil {
			return nil, err
		}
	}
	if err := a.parseIssuer(data); err != nil {
		return nil, err
	}
	return a, nil
}

// checkEntries refuses roots that the phase knows nothing of: they may be trusted, or the phase may be lost.
func (a *CA) checkEntries(data entry.Data) error {
	allowed := map[v1alpha1.RotationPhase]map[string]bool{
		v1alpha1.RotationPublishing: {entryNext: true, entryNextKey: true, entryCross: true},
		v1alpha1.RotationSigning:    {entryOld: true, entryCross: true},
	}[a.State.Phase]
	for _, name := range []string{entryNext, entryNextKey, entryOld, entryCross} {
		if entry.Has(data, name) && !allowed[name] {
			return authority.Unusable(entry.ReasonSecretIncomplete, "key %s does not belong to the phase %q that %s says", name, a.State.Phase, entryState)
		}
	}
	return nil
}

// parseRoot reads a root, with its key unless that is gone.
func parseRoot(data entry.Data, name, keyName string) (*x509.Certificate, crypto.Signer, error) {
	cert, err := entry.Certificate(data, name)
	if err != nil {
		return nil, nil, err
	}
	var key crypto.Signer
	if keyName != "" {
		if key, err = entry.PrivateKey(data, keyName); err != nil {
			return nil, nil, err
		}
	}
	if _, err := authority.New([]*x509.Certificate{cert}, nil, key); err != nil {
		return nil, nil, fmt.Errorf("key %s: %w", name, err)
	}
	return cert, key, nil
}

// parseCross reads the certificate of the newer root by the older one.
func parseCross(data entry.Data, newer, older *x509.Certificate) (*x509.Certificate, error) {
	cross, err := entry.Certificate(data, entryCross)
	if err != nil {
		return nil, err
	}
	_, err = authority.New([]*x509.Certificate{cross, older}, nil, nil)
	if err == nil && (string(cross.RawSubject) != string(newer.RawSubject) || string(cross.RawSubjectPublicKeyInfo) != string(newer.RawSubjectPublicKeyInfo)) {
		err = authority.Unusable(authority.ReasonKeyMismatch, "the certificate is not one of the root %s", newer.Subject)
	}
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", entryCross, err)
	}
	return cross, nil
}

// parseIssuer reads the intermediate, and makes of all that was read what signs.
func (a *CA) parseIssuer(data entry.Data) (err error) {
	if a.issuer, err = entry.Certificate(data, corev1.TLSCertKey); err != nil {
		return err
	}
	if a.key, err = entry.PrivateKey(data, corev1.TLSPrivateKeyKey); err != nil {
		return err
	}
	// Below the current root alone, whatever else is trusted.
	if _, err := authority.New([]*x509.Certificate{a.issuer}, []*x509.Certificate{a.Root}, a.key); err != nil {
		return err
	}
	chain, anchors := []*x509.Certificate{a.issuer}, []*x509.Certificate{a.Root}
	switch {
	case a.Next != nil:
		anchors = append(anchors, a.Next)
	case a.Old != nil:
		anchors = append(anchors, a.Old)
		if a.cross != nil {
			chain = append(chain, a.cross)
		}
	}
	a.Authority, err = authority.New(chain, anchors, a.key)
	return err
}

// RenewalDue reports whether two thirds of the life of the intermediate have passed and its root can give it more.
func (a *CA) RenewalDue(now time.Time) bool {
	due := a.issuer.NotBefore.Add(a.issuer.NotAfter.Sub(a.issuer.NotBefore) * 2 / 3)
	return !now.Before(due) && a.Root.NotAfter.After(a.issuer.NotAfter) && a.Root.NotAfter.Sub(now) > authority.ExpiryMargin
}
