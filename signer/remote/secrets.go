// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/secretname"
)

// Reasons of the *signer.CheckError that Secrets returns.
const (
	ReasonSecretNotFound   = "SecretNotFound"   // the Secret does not exist
	ReasonSecretIncomplete = "SecretIncomplete" // it lacks the entry, or the entry is empty
	ReasonSecretInvalid    = "SecretInvalid"    // the entry is not what it should be
)

// Secrets reads credentials from Secrets of one namespace. Nothing is kept: what is read is what the reader has now, so a
// Secret that changes is used at once.
type Secrets struct {
	// Reader reads Secrets from a cache.
	Reader client.Reader
	// Namespace that the Secrets are in: Certwright's own.
	Namespace string
}

// Entry returns one entry of a Secret, without white space around it, as editors and echo add a line's end. The error is a
// *signer.CheckError if the Secret is at fault; it says what to do, and never holds what an entry does.
func (s Secrets) Entry(ctx context.Context, ref v1alpha1.SecretKeyRef) ([]byte, error) {
	secret, err := s.Secret(ctx, v1alpha1.SecretRef{Name: ref.Name})
	if err != nil {
		return nil, err
	}
	value := bytes.TrimSpace(secret.Data[ref.Key])
	if len(value) == 0 {
		return nil, s.fault(ReasonSecretIncomplete, ref.Name, "has no key %q, or it is empty: set it", ref.Key)
	}
	return value, nil
}

// Certificate returns the certificate with its chain and private key of a Secret of type kubernetes.io/tls. The error is as
// that of Entry.
func (s Secrets) Certificate(ctx context.Context, ref v1alpha1.SecretRef) (*tls.Certificate, error) {
	secret, err := s.Secret(ctx, ref)
	if err != nil {
		return nil, err
	}
	for _, key := range []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey} {
		if len(bytes.TrimSpace(secret.Data[key])) == 0 {
			return nil, s.fault(ReasonSecretIncomplete, ref.Name, "has no key %q, or it is empty: the Secret must be of type kubernetes.io/tls", key)
		}
	}
	certificate, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, s.fault(ReasonSecretInvalid, ref.Name, "holds no usable certificate and key in tls.crt and tls.key: %w", err)
	}
	return &certificate, nil
}

// Secret returns a Secret, which is the cache's own: do not change it. The error is as that of Entry.
func (s Secrets) Secret(ctx context.Context, ref v1alpha1.SecretRef) (*corev1.Secret, error) {
	var secret corev1.Secret
	err := s.Reader.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: ref.Name}, &secret)
	if apierrors.IsNotFound(err) {
		return nil, s.fault(ReasonSecretNotFound, ref.Name, "does not exist: create it")
	}
	if err != nil {
		return nil, fmt.Errorf("reading Secret %s/%s: %w", s.Namespace, ref.Name, err)
	}
	return &secret, nil
}

func (s Secrets) fault(reason, name, format string, args ...any) error {
	return &signer.CheckError{Reason: reason, Err: fmt.Errorf("Secret %s/%s "+format, append([]any{s.Namespace, name}, args...)...)}
}

// CheckSecret checks a reference to a Secret whose entries are shown to a server, which may be anybody's: it cannot be one of
// Certwright's own. The error names the field.
func CheckSecret(ref v1alpha1.SecretRef, field string) error {
	if ref.Name == "" {
		return errors.New(field + ".name: is empty: it must name a Secret in Certwright's namespace")
	}
	if begin := secretname.Own(ref.Name); begin != "" {
		return fmt.Errorf("%s.name: %q: Secrets whose names begin with %s are kept by Certwright for itself: put what is meant for the server into another one", field, ref.Name, begin)
	}
	return nil
}

// CheckRef is CheckSecret for a reference to one entry.
func CheckRef(ref v1alpha1.SecretKeyRef, field string) error {
	if err := CheckSecret(v1alpha1.SecretRef{Name: ref.Name}, field); err != nil {
		return err
	}
	if ref.Key == "" {
		return errors.New(field + ".key: is empty: it must name an entry of the Secret")
	}
	return nil
}
