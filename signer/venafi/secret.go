// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package venafi

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ownSecret is the Secret that the backend writes.
type ownSecret struct {
	client client.Client
	reader client.Reader
	key    client.ObjectKey
}

// read returns what the Secret holds now; nothing if there is none.
func (s *ownSecret) read(ctx context.Context) (map[string][]byte, error) {
	var secret corev1.Secret
	err := s.reader.Get(ctx, s.key, &secret)
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("reading Secret %s: %w", s.key, err)
	}
	return secret.Data, nil
}

// change has f change what the Secret holds, and makes it if there is none. f may be called again if somebody else changed it
// meanwhile.
func (s *ownSecret) change(ctx context.Context, f func(data map[string][]byte) error) error {
	err := retry.OnError(retry.DefaultRetry, raced, func() error {
		secret := corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.key.Namespace, Name: s.key.Name}}
		err := s.reader.Get(ctx, s.key, &secret)
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
			return s.client.Create(ctx, &secret)
		}
		return s.client.Update(ctx, &secret)
	})
	if err != nil {
		return checkError(reasonSecretNotWritable, "writing Secret %s: %w", s.key, err)
	}
	return nil
}

func raced(err error) bool { return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) }
