// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca/authority"
)

// renewalPause is the time between two attempts to renew an intermediate, so that an API server in trouble is not asked at
// every signature.
const renewalPause = time.Minute

// load returns the CA to sign with, as one consistent set, and what a person should know about it although it serves. It
// parses each version of a Secret once; a CA whose key is outside has none. The error is a *signer.CheckError where the Secret is at fault, and plain where
// reading or writing it is.
//
// The lock is held while the Secret is read, which is from memory but for the moments in which a managed CA is made.
func (b *Backend) load(ctx context.Context) (a *authority.Authority, warn, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if b.fixed != nil {
		return b.fixed, nil, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.options.Clock.Now()
	secret, err := b.read(ctx, now)
	if gone := (*signer.CheckError)(nil); errors.As(err, &gone) {
		b.version, b.latest, b.broken, b.renewErr = "", nil, err, nil
		return b.choose(now)
	} else if err != nil {
		return nil, nil, err
	}
	b.parse(secret)
	switch {
	case b.latest == nil || !renewalDue(b.latest, now):
		b.renewErr = nil
	case b.renewErr == nil || !now.Before(b.renewAfter):
		if secret, b.renewErr = b.renew(ctx, secret, now); b.renewErr != nil {
			b.renewAfter = now.Add(renewalPause)
		} else {
			b.parse(secret)
		}
	}
	return b.choose(now)
}

// choose prefers what the Secret holds now, then what it held when it was last fit, as long as that is valid.
func (b *Backend) choose(now time.Time) (a *authority.Authority, warn, err error) {
	problem := b.broken
	if b.latest != nil {
		problem = b.latest.Check(now)
	}
	switch {
	case problem == nil:
		b.good = b.latest
		if b.renewErr != nil {
			warn = warning(reasonIntermediateNotRenewing, "%w; the CA certificate %s signs until %s", b.renewErr, b.latest.Cert.Subject, rfc3339(b.latest.NotAfter))
		}
		return b.latest, warn, nil
	case b.good != nil && b.good.Check(now) == nil:
		return b.good, warning(reasonServingLastGoodCA, "%w; until that is right, the CA certificate %s that was there before signs, at most until %s",
			problem, b.good.Cert.Subject, rfc3339(b.good.NotAfter)), nil
	case b.latest != nil:
		return b.latest, nil, nil
	}
	return nil, nil, problem
}

// read gets the Secret from the cache. If it holds no managed CA yet, that is made. A *signer.CheckError says that there is
// no Secret, and why none is made.
func (b *Backend) read(ctx context.Context, now time.Time) (*corev1.Secret, error) {
	secret, err := b.get(ctx, b.options.Client)
	if !apierrors.IsNotFound(err) {
		return secret, err
	}
	if b.options.CA.SecretRef != nil {
		b.good = nil // whoever brought it has taken it away
		return nil, authority.Unusable(reasonSecretNotFound, "Secret %s/%s does not exist: create it with type kubernetes.io/tls, the CA certificate and its chain in tls.crt and the key in tls.key",
			b.options.Namespace, b.secret)
	}
	// The cache may lag behind what this or another process created a moment ago.
	if secret, err = b.get(ctx, b.options.Reader); !apierrors.IsNotFound(err) {
		return secret, err
	}
	if err := b.mayBegin(ctx, now); err != nil {
		return nil, err
	}
	if secret, err = b.newManaged(now); err != nil {
		return nil, fmt.Errorf("making the CA for Secret %s/%s: %w", b.options.Namespace, b.secret, err)
	}
	err = b.options.Client.Create(ctx, secret)
	if apierrors.IsAlreadyExists(err) {
		return b.get(ctx, b.options.Reader)
	}
	if err != nil {
		return nil, fmt.Errorf("creating Secret %s/%s: %w", b.options.Namespace, b.secret, err)
	}
	return secret, nil
}

// mayBegin returns nil if a managed CA may be made: there was none, or its time is over, or a person wants another one. A new
// root takes the place of the old one in the trust bundle, which breaks everybody who has certificates of the old one, so the
// loss of a Secret alone is not enough. That word is spoken about one CA by its fingerprint, and means nothing to the next.
func (b *Backend) mayBegin(ctx context.Context, now time.Time) error {
	var object v1alpha1.Signer
	if err := b.options.Reader.Get(ctx, client.ObjectKey{Name: b.options.Signer}, &object); err != nil {
		return fmt.Errorf("reading Signer %s, to see whether there was a CA: %w", b.options.Signer, err)
	}
	for _, known := range object.Status.Backends {
		if known.Name != b.options.Backend || known.CANotAfter == nil || !known.CANotAfter.After(now) || object.Annotations[annotationNewCA] == known.Root {
			continue
		}
		return authority.Unusable(reasonCASecretLost, "Secret %s/%s does not exist, but the CA that this backend had is in use until %s: restore the Secret from a backup or, "+
			"to start over with a new root, which everyone who verifies must then learn to trust, run kubectl annotate --overwrite signers.certwright.dev %s %s=%s",
			b.options.Namespace, b.secret, rfc3339(known.CANotAfter.Time), b.options.Signer, annotationNewCA, known.Root)
	}
	return nil
}

// renew replaces the intermediate in the Secret, unless somebody else changed the Secret: then it returns what that is.
func (b *Backend) renew(ctx context.Context, old *corev1.Secret, now time.Time) (*corev1.Secret, error) {
	secret := old.DeepCopy()
	if err := b.newIntermediate(secret, b.latest.Anchors[0], b.latest.RootKey, now); err != nil {
		return nil, fmt.Errorf("making a new intermediate: %w", err)
	}
	err := b.options.Client.Update(ctx, secret)
	if apierrors.IsConflict(err) {
		return b.get(ctx, b.options.Reader)
	}
	if err != nil {
		return nil, fmt.Errorf("writing a new intermediate to Secret %s/%s: %w", b.options.Namespace, b.secret, err)
	}
	return secret, nil
}

func (b *Backend) get(ctx context.Context, r client.Reader) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	if err := r.Get(ctx, client.ObjectKey{Namespace: b.options.Namespace, Name: b.secret}, secret); err != nil {
		return nil, fmt.Errorf("reading Secret %s/%s: %w", b.options.Namespace, b.secret, err)
	}
	return secret, nil
}

// parse takes in a version of the Secret, unless it is the one that was taken in last.
func (b *Backend) parse(secret *corev1.Secret) {
	version := string(secret.UID) + "/" + secret.ResourceVersion
	if version == b.version {
		return
	}
	parse, advice := parseImported, ""
	remedy := fmt.Sprintf("put a new CA into Secret %s/%s", b.options.Namespace, b.secret)
	if b.options.CA.Managed != nil {
		parse = b.parseManaged
		remedy = fmt.Sprintf("delete Secret %s/%s to get a new root, which everyone who verifies must then learn to trust", b.options.Namespace, b.secret)
		advice = "; restore the Secret from a backup, or delete it, and this condition will say how to start over with a new root"
	}
	a, err := parse(secret)
	var check *signer.CheckError
	if errors.As(err, &check) {
		err = authority.Unusable(check.Reason, "Secret %s/%s: %w%s", b.options.Namespace, b.secret, err, advice)
	}
	if a != nil {
		a.Remedy = remedy
	}
	b.version, b.latest, b.broken = version, a, err
}

// parseImported reads a CA that an administrator brought.
func parseImported(secret *corev1.Secret) (*authority.Authority, error) {
	chain, err := certificates(secret, corev1.TLSCertKey)
	if err != nil {
		return nil, err
	}
	key, err := privateKey(secret, corev1.TLSPrivateKeyKey)
	if err != nil {
		return nil, err
	}
	if len(secret.Data[keyAnchors]) == 0 {
		return authority.New(chain, nil, key)
	}
	anchors, err := certificates(secret, keyAnchors)
	if err != nil {
		return nil, err
	}
	return authority.New(chain, anchors, key)
}

func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// warning is an error of Check with which Sign works.
func warning(reason, format string, args ...any) error {
	return &signer.CheckError{Reason: reason, Signs: true, Err: fmt.Errorf(format, args...)}
}
