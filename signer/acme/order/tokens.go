// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package order

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/signer/acme/challenge"
	"github.com/certwright/certwright/signer/secretname"
)

// indexToken is the index of Secrets by the tokens of HTTP-01 challenges that they hold the answers to.
const indexToken = "acme-http01-token"

// ErrUnknownToken says that no order has a challenge of that token for that host.
var ErrUnknownToken = errors.New("no such challenge")

// Index adds to a cache the index that Tokens needs.
func Index(ctx context.Context, indexer client.FieldIndexer) error {
	return indexer.IndexField(ctx, &corev1.Secret{}, indexToken, func(object client.Object) []string {
		secret, ok := object.(*corev1.Secret)
		if !ok || !isOrder(secret) {
			return nil
		}
		record, err := parse(secret)
		if err != nil {
			return nil // what cannot be read answers nothing
		}
		var tokens []string
		for _, a := range record.Answers {
			if a.Type == challenge.HTTP01 {
				tokens = append(tokens, a.Token)
			}
		}
		return tokens
	})
}

func isOrder(secret *corev1.Secret) bool {
	return secret.Labels[Label] != "" && strings.HasPrefix(secret.Name, secretname.ACMEOrder)
}

// Tokens finds the answers to HTTP-01 challenges, in every replica.
type Tokens struct {
	// Reader reads Secrets of Namespace from a cache that was given to Index.
	Reader    client.Reader
	Namespace string
}

// KeyAuthorization returns the answer to the HTTP-01 challenge of that token at that host, in lower case and without a port.
// The error is ErrUnknownToken if there is none.
func (t Tokens) KeyAuthorization(ctx context.Context, host, token string) (string, error) {
	var list corev1.SecretList
	if err := t.Reader.List(ctx, &list, client.InNamespace(t.Namespace), client.MatchingFields{indexToken: token}); err != nil {
		return "", fmt.Errorf("looking up a challenge: %w", err)
	}
	for i := range list.Items {
		record, err := parse(&list.Items[i])
		if err != nil {
			continue
		}
		for _, a := range record.Answers {
			if a.Type == challenge.HTTP01 && a.Token == token && a.Domain == host {
				return a.KeyAuthorization, nil
			}
		}
	}
	return "", ErrUnknownToken
}
