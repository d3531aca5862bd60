// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acme

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/acme/server"
	"github.com/certwright/certwright/signer/remote"
)

// Entries of the account's Secret.
const (
	entryKey       = "account.key"
	entryURL       = "account.url"
	entryDirectory = "directory.url"
)

// Status of an account and types of problems that say more than that a call came to nothing (RFC 8555, sections 7.1.6 and 6.7).
const (
	statusValid         = "valid"
	problemNoAccount    = "accountDoesNotExist"
	problemUnauthorized = "unauthorized"
	problemTerms        = "userActionRequired"
	problemEAB          = "externalAccountRequired"
)

// minRSA is the size of the smallest RSA key that is fit for an account.
const minRSA = 2048

// checkAccount checks what the configuration says of the account.
func checkAccount(c v1alpha1.ACME) error {
	for i, email := range c.Emails {
		if address, err := mail.ParseAddress(email); err != nil || address.Address != email {
			return fmt.Errorf("acme.emails[%d]: %q: must be a plain address such as ops@example.com", i, email)
		}
	}
	if ref := c.AccountKeyRef; ref != nil {
		if err := remote.CheckRef(*ref, "acme.accountKeyRef"); err != nil {
			return err
		}
	}
	if eab := c.ExternalAccountBinding; eab != nil {
		if eab.KeyID == "" {
			return errors.New("acme.externalAccountBinding.keyID: is empty: it must be what the server's operator handed out")
		}
		return remote.CheckRef(eab.KeyRef, "acme.externalAccountBinding.keyRef")
	}
	return nil
}

// keeper keeps the account of a backend: its key in a Secret, its URL at the server.
type keeper struct {
	*Backend
	registering chan struct{}

	mu      sync.Mutex
	current server.Account
	keySum  [sha256.Size]byte // of the key that current is for
}

func newKeeper(b *Backend) *keeper { return &keeper{Backend: b, registering: make(chan struct{}, 1)} }

// get returns the account, which it registers if need be.
func (k *keeper) get(ctx context.Context) (server.Account, error) {
	key, sum, err := k.key(ctx)
	if err != nil {
		return server.Account{}, err
	}
	if account, ok := k.known(sum); ok {
		return account, nil
	}
	select {
	case k.registering <- struct{}{}:
		defer func() { <-k.registering }()
	case <-ctx.Done():
		return server.Account{}, ctx.Err()
	}
	if account, ok := k.known(sum); ok {
		return account, nil
	}
	account, err := k.find(ctx, key)
	if err != nil {
		return server.Account{}, err
	}
	k.mu.Lock()
	k.current, k.keySum = account, sum
	k.mu.Unlock()
	return account, k.remember(ctx, account.Location)
}

func (k *keeper) known(sum [sha256.Size]byte) (server.Account, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.current, k.current.Location != "" && k.keySum == sum
}

// forget has the account looked up again before it is used next.
func (k *keeper) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.current = server.Account{}
}

// verify asks the server about the account.
func (k *keeper) verify(ctx context.Context) error {
	k.forget()
	_, err := k.get(ctx)
	return err
}

// find returns the account that the key has at the server, a new one if it has none.
func (k *keeper) find(ctx context.Context, key crypto.Signer) (server.Account, error) {
	account, err := k.server.FindAccount(ctx, server.Account{PrivateKey: key})
	if e := (*server.Error)(nil); errors.As(err, &e) && e.Problem == problemNoAccount {
		if account, err = k.register(ctx, key); errors.As(err, &e) && e.Problem == problemUnauthorized {
			return server.Account{}, &signer.CheckError{Reason: ReasonAccountRefused, Err: err}
		}
	} else if err == nil && !slices.Equal(account.Contact, k.contacts()) && len(k.contacts()) > 0 {
		err = k.server.SetContacts(ctx, account, k.contacts())
	}
	if err != nil {
		return server.Account{}, accountTrouble(err)
	}
	if account.Status != "" && account.Status != statusValid {
		return server.Account{}, &signer.CheckError{Reason: ReasonAccountDeactivated, Err: fmt.Errorf(
			"the account %s is %s at the server: delete the Secret with its key, or set acme.accountKeyRef to another one", remote.Bound(account.Location), remote.Bound(account.Status))}
	}
	return account, nil
}

// register makes an account.
func (k *keeper) register(ctx context.Context, key crypto.Signer) (server.Account, error) {
	directory, err := k.server.Directory(ctx)
	if err != nil {
		return server.Account{}, err
	}
	config := k.options.ACME
	if meta := directory.Meta; meta != nil && meta.TermsOfService != "" && !config.AcceptTerms {
		return server.Account{}, &signer.CheckError{Reason: ReasonTermsNotAccepted, Err: fmt.Errorf(
			"acme.acceptTerms: is false: read the server's terms of service at %s and, if you agree, set it to true", remote.Bound(meta.TermsOfService))}
	} else if meta != nil && meta.ExternalAccountRequired && config.ExternalAccountBinding == nil {
		return server.Account{}, &signer.CheckError{Reason: ReasonExternalAccountRequired, Err: errors.New(
			"acme.externalAccountBinding: is not set, and the server wants one: set it to the key ID and MAC key that its operator hands out")}
	}
	var eab *server.EAB
	if binding := config.ExternalAccountBinding; binding != nil {
		mac, err := k.secrets.Entry(ctx, binding.KeyRef)
		if err != nil {
			return server.Account{}, err
		}
		eab = &server.EAB{KeyID: binding.KeyID, MACKey: strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(string(mac)), "=")}
	}
	return k.server.Register(ctx, server.Account{PrivateKey: key, Contact: k.contacts(), TermsOfServiceAgreed: config.AcceptTerms}, eab)
}

func (k *keeper) contacts() []string {
	var all []string
	for _, email := range k.options.ACME.Emails {
		all = append(all, "mailto:"+email)
	}
	return all
}

// accountTrouble names what a person must do, where that is known.
func accountTrouble(err error) error {
	var e *server.Error
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case e.Problem == problemUnauthorized:
		return &signer.CheckError{Reason: ReasonAccountDeactivated, Err: fmt.Errorf("%w; if it was deactivated, delete the Secret with its key, or set acme.accountKeyRef to another one", err)}
	case e.Problem == problemTerms:
		return &signer.CheckError{Reason: ReasonTermsNotAccepted, Err: err}
	case e.Problem == problemEAB:
		return &signer.CheckError{Reason: ReasonExternalAccountRequired, Err: err}
	case e.Fault == server.FaultServer, e.Fault == server.FaultLimit:
		return err
	}
	return &signer.CheckError{Reason: ReasonAccountRefused, Err: err}
}

// key returns the account's key: the imported one, or the one of our own Secret, which it makes if there is none.
func (k *keeper) key(ctx context.Context) (crypto.Signer, [sha256.Size]byte, error) {
	ref := k.options.ACME.AccountKeyRef
	if ref == nil {
		secret, err := k.own(ctx)
		if err != nil {
			return nil, [sha256.Size]byte{}, err
		}
		return k.parse(secret.Data[entryKey], secret.Name, entryKey)
	}
	text, err := k.secrets.Entry(ctx, *ref)
	if err != nil {
		return nil, [sha256.Size]byte{}, err
	}
	return k.parse(text, ref.Name, ref.Key)
}

func (k *keeper) parse(text []byte, secret, entry string) (crypto.Signer, [sha256.Size]byte, error) {
	key, err := parseKey(text)
	if err != nil {
		return nil, [sha256.Size]byte{}, &signer.CheckError{Reason: ReasonAccountKeyInvalid, Err: fmt.Errorf(
			"Secret %s/%s: %s: %w: it must be an RSA key of %d bits or more, or an ECDSA key, in PEM", k.options.Namespace, secret, entry, err, minRSA)}
	}
	return key, sha256.Sum256(text), nil
}

// own returns the Secret of the account that Certwright makes.
func (k *keeper) own(ctx context.Context) (*corev1.Secret, error) {
	name := client.ObjectKey{Namespace: k.options.Namespace, Name: AccountSecret(k.options.Signer, k.options.Backend)}
	var secret corev1.Secret
	err := k.options.Client.Get(ctx, name, &secret)
	if apierrors.IsNotFound(err) { // the cache may be behind what this process did a moment ago
		err = k.options.Reader.Get(ctx, name, &secret)
	}
	if err == nil {
		return &secret, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("reading Secret %s: %w", name, err)
	}
	key, err := makeKey()
	if err != nil {
		return nil, err
	}
	made := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name, Labels: map[string]string{"app.kubernetes.io/managed-by": "certwright"}},
		Type:       corev1.SecretTypeOpaque,
		Data:       map[string][]byte{entryKey: key},
	}
	if err := k.options.Client.Create(ctx, made); err != nil {
		return nil, fmt.Errorf("writing Secret %s with a new account key: %w", name, err)
	}
	return made, nil
}

// remember stores the account's URL with the key, for people who look there. An imported key's Secret is not ours to change.
func (k *keeper) remember(ctx context.Context, url string) error {
	if k.options.ACME.AccountKeyRef != nil {
		return nil
	}
	secret, err := k.own(ctx)
	if err != nil {
		return err
	}
	if string(secret.Data[entryURL]) == url && string(secret.Data[entryDirectory]) == k.server.URL() {
		return nil
	}
	secret = secret.DeepCopy()
	secret.Data[entryURL], secret.Data[entryDirectory] = []byte(url), []byte(k.server.URL())
	if err := k.options.Client.Update(ctx, secret); err != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("writing the account's URL into Secret %s/%s: %w", secret.Namespace, secret.Name, err)
	}
	return nil
}

func makeKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making an account key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding an account key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// parseKey reads a private key in PEM: PKCS #8, PKCS #1 or SEC 1. Its errors hold nothing of it.
func parseKey(text []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(text)
	if block == nil || strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("is not one block of PEM")
	}
	pkcs8, err8 := x509.ParsePKCS8PrivateKey(block.Bytes)
	pkcs1, err1 := x509.ParsePKCS1PrivateKey(block.Bytes)
	sec1, err := x509.ParseECPrivateKey(block.Bytes)
	var key any = pkcs8
	switch {
	case err8 == nil:
	case err1 == nil:
		key = pkcs1
	case err == nil:
		key = sec1
	}
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		if slices.Contains([]elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}, key.Curve) {
			return key, nil
		}
		return nil, fmt.Errorf("is an ECDSA key of the curve %s, which ACME does not know", key.Curve.Params().Name)
	case *rsa.PrivateKey:
		if bits := key.N.BitLen(); bits < minRSA {
			return nil, fmt.Errorf("is an RSA key of %d bits", bits)
		}
		return key, nil
	}
	return nil, errors.New("is " + cmp.Or(strings.ToLower(remote.Bound(block.Type)), "something") + " that is no RSA or ECDSA private key")
}
