// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package store is a Secret that Certwright writes itself, as seen by the one process that writes it.
//
// It promises that a cache that lags behind never takes back what this process wrote, and that nobody else's write is written over.
package store

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/signer/ca/authority"
	"github.com/certwright/certwright/signer/ca/entry"
)

// reasonSecretOfAnother is the reason of the *signer.CheckError of a Secret that belongs to another Signer.
const reasonSecretOfAnother = "SecretOfAnotherSigner"

const (
	labelManagedBy       = "app.kubernetes.io/managed-by"
	annotationSignerName = "certwright.dev/signer-name"
)

// Store is one Secret. It is used by one at a time.
type Store struct {
	client client.Client
	reader client.Reader
	// Key says where the Secret is.
	Key        client.ObjectKey
	signerName string
	// Owner, if it is known, is the Signer that the Secret goes with, and without which it means nothing.
	Owner *metav1.OwnerReference

	// written is the Secret as it was written here last, replaced are the versions that were written over since the cache was seen to
	// know that. A version never comes back, so a cache that shows one of them lags behind.
	written  *corev1.Secret
	replaced map[string]bool
}

// New returns the Secret of a signerName. It is read from the cache of a client, and past that with a reader where the cache may not
// know yet.
func New(c client.Client, r client.Reader, key client.ObjectKey, signerName string) *Store {
	return &Store{client: c, reader: r, Key: key, signerName: signerName}
}

// Version tells the versions of all Secrets of a name apart.
func Version(s *corev1.Secret) string { return string(s.UID) + "/" + s.ResourceVersion }

// Get returns the Secret. It belongs to the cache: do not modify it.
func (s *Store) Get(ctx context.Context) (*corev1.Secret, error) {
	secret, err := s.read(ctx, s.client)
	switch {
	case apierrors.IsNotFound(err):
		return s.read(ctx, s.reader) // what was created a moment ago the cache may not know yet
	case err != nil:
		return nil, err
	case s.replaced[Version(secret)]:
		return s.written, nil
	}
	s.replaced, s.written = nil, nil
	return secret, nil
}

func (s *Store) read(ctx context.Context, r client.Reader) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	if err := r.Get(ctx, s.Key, secret); err != nil {
		return nil, fmt.Errorf("reading Secret %s: %w", s.Key, err)
	}
	return secret, nil
}

// Create creates the Secret, unless there is one: then it returns that.
func (s *Store) Create(ctx context.Context, data entry.Data) (*corev1.Secret, error) {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Key.Namespace, Name: s.Key.Name,
			Labels:      map[string]string{labelManagedBy: "certwright"},
			Annotations: map[string]string{annotationSignerName: s.signerName},
		},
		Type: corev1.SecretTypeOpaque,
		Data: data,
	}
	s.own(secret)
	err := s.client.Create(ctx, secret)
	if apierrors.IsAlreadyExists(err) {
		return s.read(ctx, s.reader)
	}
	if err != nil {
		return nil, fmt.Errorf("creating Secret %s: %w", s.Key, err)
	}
	return secret, nil
}

// Update puts the entries into the Secret in place of what it had, unless somebody else changed it: then it returns what that is.
func (s *Store) Update(ctx context.Context, old *corev1.Secret, data entry.Data) (*corev1.Secret, error) {
	secret := old.DeepCopy()
	secret.Data = data
	s.own(secret)
	err := s.client.Update(ctx, secret)
	if apierrors.IsConflict(err) {
		return s.read(ctx, s.reader)
	}
	if err != nil {
		return nil, fmt.Errorf("writing Secret %s: %w", s.Key, err)
	}
	if s.replaced == nil {
		s.replaced = map[string]bool{}
	}
	s.replaced[Version(old)], s.written = true, secret
	return secret, nil
}

// own says whose the Secret is.
func (s *Store) own(secret *corev1.Secret) {
	metav1.SetMetaDataAnnotation(&secret.ObjectMeta, annotationSignerName, s.signerName)
	if s.Owner != nil {
		secret.OwnerReferences = []metav1.OwnerReference{*s.Owner}
	}
}

// CheckOwner returns a *signer.CheckError if a Secret belongs to another signerName, or to a Signer that is gone.
func (s *Store) CheckOwner(secret *corev1.Secret) error {
	if of, ok := secret.Annotations[annotationSignerName]; ok && of != s.signerName {
		return authority.Unusable(reasonSecretOfAnother, "annotation %s says that it belongs to the signerName %q, not to %q", annotationSignerName, of, s.signerName)
	}
	for _, owner := range secret.OwnerReferences {
		if s.Owner != nil && owner.Kind == s.Owner.Kind && owner.UID != s.Owner.UID {
			return authority.Unusable(reasonSecretOfAnother, "its owner is the Signer of UID %s, not that of %s", owner.UID, s.Owner.UID)
		}
	}
	return nil
}
