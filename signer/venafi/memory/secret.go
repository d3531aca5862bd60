// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package memory is what a Venafi backend must not forget: a Secret of its own, and in it the orders that wait.
package memory

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/signer"
)

// ReasonSecretNotWritable is that of a *signer.CheckError.
const ReasonSecretNotWritable = "SecretNotWritable"

// Secret is one that the backend writes. Nobody else may.
type Secret struct {
	Client client.Client
	// Reader reads past the cache.
	Reader client.Reader
	Key    client.ObjectKey
}

// Read returns what the Secret holds now; nothing if there is none.
func (s *Secret) Read(ctx context.Context) (map[string][]byte, error) {
	var secret corev1.Secret
	err := s.Reader.Get(ctx, s.Key, &secret)
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("reading Secret %s: %w", s.Key, err)
	}
	return secret.Data, nil
}

// Change has f change what the Secret holds, and makes it if there is none. f may be called again if somebody else changed it
// meanwhile. The error is a *signer.CheckError.
func (s *Secret) Change(ctx context.Context, f func(data map[string][]byte) error) error {
	err := retry.OnError(retry.DefaultRetry, raced, func() error {
		secret := corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.Key.Namespace, Name: s.Key.Name}}
		err := s.Reader.Get(ctx, s.Key, &secret)
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		if secret.Data == nil {
			secret.Data = map[string][]byte{}
		}
		if err := f(secret.Data); err != nil {
			return err
		}
		if apierrors.IsNotFound(err) {
			return s.Client.Create(ctx, &secret)
		}
		return s.Client.Update(ctx, &secret)
	})
	if err != nil {
		return &signer.CheckError{Reason: ReasonSecretNotWritable, Err: fmt.Errorf("writing Secret %s: %w", s.Key, err)}
	}
	return nil
}

func raced(err error) bool { return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) }
