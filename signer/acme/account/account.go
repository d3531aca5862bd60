// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package account keeps the account of an ACME backend (RFC 8555, section 7.3): its key in a Secret, its URL at the server, where
// it is registered when it is needed first.
package account

import (
	"context"
	"crypto"
	"crypto/sha256"
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

// Reasons of the *signer.CheckError that a Keeper returns, beside those of package remote.
const (
	ReasonTermsNotAccepted        = "TermsNotAccepted"        // the server has terms, and nobody accepted them
	ReasonExternalAccountRequired = "ExternalAccountRequired" // the server wants an external account binding
	ReasonAccountDeactivated      = "AccountDeactivated"      // the account was deactivated or revoked
	ReasonAccountRefused          = "AccountRefused"          // the server refuses to register the account
	ReasonAccountKeyInvalid       = "AccountKeyInvalid"       // what should be the account's key is none
)

// Entries of the account's Secret.
const (
	entryKey       = "account.key"
	entryURL       = "account.url"
	entryDirectory = "directory.url"
)

// statusValid is that of an account that can order (RFC 8555, section 7.1.6).
const statusValid = "valid"

// Options are what New needs.
type Options struct {
	// Client reads Secrets of Namespace from a cache, and creates and updates that of the account. Reader reads past the cache.
	Client client.Client
	Reader client.Reader
	// Namespace that the Secrets are in: Certwright's own.
	Namespace string
	// Secret is the name of the one that holds the account's key if Certwright makes it.
	Secret string
	// Config is the backend's configuration.
	Config v1alpha1.ACME
	// Server is where the account is.
	Server *server.Server
}

// Keeper keeps the account of a backend. It is safe for concurrent use.
type Keeper struct {
	options     Options
	secrets     remote.Secrets
	registering chan struct{}

	mu      sync.Mutex
	current server.Account
	keySum  [sha256.Size]byte // of the key that current is for
}

// New returns a keeper. It does no I/O; the error is about the configuration and names the field.
func New(o Options) (*Keeper, error) {
	if err := check(o.Config); err != nil {
		return nil, err
	}
	return &Keeper{options: o, secrets: remote.Secrets{Reader: o.Client, Namespace: o.Namespace}, registering: make(chan struct{}, 1)}, nil
}

// check checks what the configuration says of the account.
func check(c v1alpha1.ACME) error {
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

// Get returns the account, which it registers if need be.
func (k *Keeper) Get(ctx context.Context) (server.Account, error) {
	key, sum, err := k.Key(ctx)
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

func (k *Keeper) known(sum [sha256.Size]byte) (server.Account, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.current, k.current.Location != "" && k.keySum == sum
}

// Forget has the account looked up again before it is used next.
func (k *Keeper) Forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.current = server.Account{}
}

// Verify asks the server about the account.
func (k *Keeper) Verify(ctx context.Context) error {
	k.Forget()
	_, err := k.Get(ctx)
	return err
}

// find returns the account that the key has at the server, a new one if it has none.
func (k *Keeper) find(ctx context.Context, key crypto.Signer) (server.Account, error) {
	account, err := k.options.Server.FindAccount(ctx, server.Account{PrivateKey: key})
	if e := (*server.Error)(nil); errors.As(err, &e) && e.Problem == server.ProblemNoAccount {
		if account, err = k.register(ctx, key); errors.As(err, &e) && e.Problem == server.ProblemUnauthorized {
			return server.Account{}, &signer.CheckError{Reason: ReasonAccountRefused, Err: err}
		}
	} else if err == nil && !slices.Equal(account.Contact, k.contacts()) && len(k.contacts()) > 0 {
		err = k.options.Server.SetContacts(ctx, account, k.contacts())
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
func (k *Keeper) register(ctx context.Context, key crypto.Signer) (server.Account, error) {
	directory, err := k.options.Server.Directory(ctx)
	if err != nil {
		return server.Account{}, err
	}
	config := k.options.Config
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
	return k.options.Server.Register(ctx, server.Account{PrivateKey: key, Contact: k.contacts(), TermsOfServiceAgreed: config.AcceptTerms}, eab)
}

func (k *Keeper) contacts() []string {
	var all []string
	for _, email := range k.options.Config.Emails {
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
	case e.Problem == server.ProblemUnauthorized:
		return &signer.CheckError{Reason: ReasonAccountDeactivated, Err: fmt.Errorf("%w; if it was deactivated, delete the Secret with its key, or set acme.accountKeyRef to another one", err)}
	case e.Problem == server.ProblemTerms:
		return &signer.CheckError{Reason: ReasonTermsNotAccepted, Err: err}
	case e.Problem == server.ProblemEAB:
		return &signer.CheckError{Reason: ReasonExternalAccountRequired, Err: err}
	case e.Fault == server.FaultServer, e.Fault == server.FaultBroken, e.Fault == server.FaultLimit:
		return err
	}
	return &signer.CheckError{Reason: ReasonAccountRefused, Err: err}
}

// Key returns the account's key: the imported one, or the one of our own Secret, which it makes if there is none.
func (k *Keeper) Key(ctx context.Context) (crypto.Signer, [sha256.Size]byte, error) {
	ref := k.options.Config.AccountKeyRef
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

func (k *Keeper) parse(text []byte, secret, entry string) (crypto.Signer, [sha256.Size]byte, error) {
	key, err := parseKey(text)
	if err != nil {
		return nil, [sha256.Size]byte{}, &signer.CheckError{Reason: ReasonAccountKeyInvalid, Err: fmt.Errorf(
			"the entry %s of Secret %s/%s %w: it must be an RSA key of %d bits or more, or an ECDSA key, in PEM", entry, k.options.Namespace, secret, err, minRSA)}
	}
	return key, sha256.Sum256(text), nil
}

// own returns the Secret of the account that Certwright makes.
func (k *Keeper) own(ctx context.Context) (*corev1.Secret, error) {
	name := client.ObjectKey{Namespace: k.options.Namespace, Name: k.options.Secret}
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
func (k *Keeper) remember(ctx context.Context, url string) error {
	if k.options.Config.AccountKeyRef != nil {
		return nil
	}
	secret, err := k.own(ctx)
	if err != nil {
		return err
	}
	if string(secret.Data[entryURL]) == url && string(secret.Data[entryDirectory]) == k.options.Server.URL() {
		return nil
	}
	secret = secret.DeepCopy()
	secret.Data[entryURL], secret.Data[entryDirectory] = []byte(url), []byte(k.options.Server.URL())
	if err := k.options.Client.Update(ctx, secret); err != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("writing the account's URL into Secret %s/%s: %w", secret.Namespace, secret.Name, err)
	}
	return nil
}
