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

	"github.com/certwright/certwright/signer"
)

// renewalPause is the time between two attempts to renew an intermediate, so that an API server in trouble is not asked at
// every signature.
const renewalPause = time.Minute

// load returns the CA to sign with, as one consistent set, and what a person should know about it although it serves. It
// parses each version of a Secret once. The error is a *signer.CheckError where the Secret is at fault, and plain where
// reading or writing it is.
//
// The lock is held while the Secret is read, which is from memory but for the moments in which a managed CA is made.
func (b *Backend) load(ctx context.Context) (a *authority, warning, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	secret, err := b.read(ctx)
	if err != nil {
		return nil, nil, err
	}
	b.parse(secret)
	now := b.options.Clock.Now()
	switch {
	case b.latest == nil || !b.latest.renewalDue(now):
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
func (b *Backend) choose(now time.Time) (a *authority, warning, err error) {
	problem := b.broken
	if b.latest != nil {
		problem = b.latest.check(now)
	}
	switch {
	case problem == nil:
		b.good = b.latest
		if b.renewErr != nil {
			warning = checkError(reasonIntermediateNotRenewing, "%w; the CA certificate %s signs until %s", b.renewErr, b.latest.cert.Subject, rfc3339(b.latest.notAfter))
		}
		return b.latest, warning, nil
	case b.good != nil && b.good.check(now) == nil:
		return b.good, checkError(reasonServingLastGoodCA, "%w; until that is right, the CA certificate %s that was there before signs, at most until %s",
			problem, b.good.cert.Subject, rfc3339(b.good.notAfter)), nil
	case b.latest != nil:
		return b.latest, nil, nil
	}
	return nil, nil, problem
}

// read gets the Secret from the cache. If it holds no managed CA yet, that is made.
func (b *Backend) read(ctx context.Context) (*corev1.Secret, error) {
	secret, err := b.get(ctx, b.options.Client)
	if !apierrors.IsNotFound(err) {
		return secret, err
	}
	b.version, b.latest, b.broken, b.good, b.renewErr = "", nil, nil, nil, nil
	if b.options.CA.SecretRef != nil {
		return nil, checkError(reasonSecretNotFound, "Secret %s/%s does not exist: create it with type kubernetes.io/tls, the CA certificate and its chain in tls.crt and the key in tls.key",
			b.options.Namespace, b.secret)
	}
	// The cache may lag behind what this or another process created a moment ago.
	if secret, err = b.get(ctx, b.options.Reader); !apierrors.IsNotFound(err) {
		return secret, err
	}
	if secret, err = b.newManaged(b.options.Clock.Now()); err != nil {
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

// renew replaces the intermediate in the Secret, unless somebody else changed the Secret: then it returns what that is.
func (b *Backend) renew(ctx context.Context, old *corev1.Secret, now time.Time) (*corev1.Secret, error) {
	secret := old.DeepCopy()
	if err := b.newIntermediate(secret, b.latest.anchors[0], b.latest.rootKey, now); err != nil {
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
		advice = "; restore the Secret from a backup, or delete it to get a new root, which everyone who verifies must then learn to trust"
	}
	a, err := parse(secret)
	var check *signer.CheckError
	if errors.As(err, &check) {
		err = checkError(check.Reason, "Secret %s/%s: %w%s", b.options.Namespace, b.secret, err, advice)
	}
	if a != nil {
		a.remedy = remedy
	}
	b.version, b.latest, b.broken = version, a, err
}

// parseImported reads a CA that an administrator brought.
func parseImported(secret *corev1.Secret) (*authority, error) {
	chain, err := certificates(secret, corev1.TLSCertKey)
	if err != nil {
		return nil, err
	}
	key, err := privateKey(secret, corev1.TLSPrivateKeyKey)
	if err != nil {
		return nil, err
	}
	if len(secret.Data[keyAnchors]) == 0 {
		return newAuthority(chain, nil, key)
	}
	anchors, err := certificates(secret, keyAnchors)
	if err != nil {
		return nil, err
	}
	return newAuthority(chain, anchors, key)
}

func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }
