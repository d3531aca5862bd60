// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

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

const (
	labelManagedBy       = "app.kubernetes.io/managed-by"
	annotationSignerName = "certwright.dev/signer-name"
)

// store is a Secret that this package writes. It is used by one at a time.
type store struct {
	client     client.Client
	reader     client.Reader
	key        client.ObjectKey
	signerName string

	// written is the Secret as it was written here last, replaced are the versions that were written over since the cache was seen to
	// know that. A version never comes back, so a cache that shows one of them lags behind.
	written  *corev1.Secret
	replaced map[string]bool
}

func version(s *corev1.Secret) string { return string(s.UID) + "/" + s.ResourceVersion }

// get returns the Secret. It belongs to the cache: do not modify it.
func (s *store) get(ctx context.Context) (*corev1.Secret, error) {
	secret, err := s.read(ctx, s.client)
	switch {
	case apierrors.IsNotFound(err):
		return s.read(ctx, s.reader) // what was created a moment ago the cache may not know yet
	case err != nil:
		return nil, err
	case s.replaced[version(secret)]:
		return s.written, nil
	}
	s.replaced, s.written = nil, nil
	return secret, nil
}

func (s *store) read(ctx context.Context, r client.Reader) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	if err := r.Get(ctx, s.key, secret); err != nil {
		return nil, fmt.Errorf("reading Secret %s: %w", s.key, err)
	}
	return secret, nil
}

// create creates the Secret, unless there is one: then it returns that.
func (s *store) create(ctx context.Context, data entry.Data) (*corev1.Secret, error) {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.key.Namespace, Name: s.key.Name,
			Labels:      map[string]string{labelManagedBy: "certwright"},
			Annotations: map[string]string{annotationSignerName: s.signerName},
		},
		Type: corev1.SecretTypeOpaque,
		Data: data,
	}
	err := s.client.Create(ctx, secret)
	if apierrors.IsAlreadyExists(err) {
		return s.read(ctx, s.reader)
	}
	if err != nil {
		return nil, fmt.Errorf("creating Secret %s: %w", s.key, err)
	}
	return secret, nil
}

// update puts the entries into the Secret in place of what it had, unless somebody else changed it: then it returns what that is.
func (s *store) update(ctx context.Context, old *corev1.Secret, data entry.Data) (secret *corev1.Secret, mine bool, err error) {
	secret = old.DeepCopy()
	secret.Data = data
	metav1.SetMetaDataAnnotation(&secret.ObjectMeta, annotationSignerName, s.signerName)
	err = s.client.Update(ctx, secret)
	if apierrors.IsConflict(err) {
		secret, err = s.read(ctx, s.reader)
		return secret, false, err
	}
	if err != nil {
		return nil, false, fmt.Errorf("writing Secret %s: %w", s.key, err)
	}
	if s.replaced == nil {
		s.replaced = map[string]bool{}
	}
	s.replaced[version(old)], s.written = true, secret
	return secret, true, nil
}

// own returns an error if a Secret belongs to another signerName.
func (s *store) own(secret *corev1.Secret) error {
	if of, ok := secret.Annotations[annotationSignerName]; ok && of != s.signerName {
		return authority.Unusable(reasonSecretOfAnother, "annotation %s says that it belongs to the signerName %q, not to %q", annotationSignerName, of, s.signerName)
	}
	return nil
}
