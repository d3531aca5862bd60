// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package source is where a CA is that is kept in Secrets, and what becomes of it: one that Certwright makes and renews, or one that an
// administrator brings.
//
// It promises that what it gives to sign with is one consistent set, and that a Secret which breaks does not take a good CA out of
// service: the last good one signs while it is valid. The same holds for the Secret of a managed CA that is deleted, which is not made anew
// unless a person says so. Deleting a Secret that an administrator brought does take its CA out of service. Nothing is made or renewed but
// by Rotate.
package source

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca/authority"
)

// The reasons of the *signer.CheckErrors of this package, beside those of authority, entry and store.
const (
	// ReasonCANotMade is that of a managed CA that there is not yet.
	ReasonCANotMade = "CANotMade"

	reasonSecretNotFound          = "SecretNotFound"
	reasonCASecretLost            = "CASecretLost"
	reasonServingLastGoodCA       = "ServingLastGoodCA"
	reasonIntermediateNotRenewing = "IntermediateNotRenewing"
	reasonRootNotPropagated       = "RootNotPropagated"
	reasonCompromisedRootInUse    = "CompromisedRootInUse"
)

// Source is where a CA comes from.
type Source interface {
	// Load returns the CA to sign with now, as one consistent set, and what a person should know about it although it serves. The error
	// is a *signer.CheckError where the CA is at fault, and plain where reading or writing it is.
	//
	// If a lifetime is given, a certificate may be signed then that lives as long as what is returned: as was asked for, or shorter.
	Load(ctx context.Context, lifetime time.Duration) (CA, error)
	signer.Rotator
}

// CA is a CA to sign with.
type CA struct {
	Authority *authority.Authority
	// Anchors are what verifiers should trust: those of the authority, and others while roots are being replaced.
	Anchors []*x509.Certificate
	// Lifetime is how long a certificate may live that is signed now.
	Lifetime time.Duration
	// Warn is what a person should know although it signs, Hold why it does not sign yet.
	Warn, Hold error
}

// Options are what a Source needs.
type Options struct {
	// Client reads Secrets of Namespace from a cache, and creates and updates Certwright's own.
	Client client.Client
	// Reader reads the same Secrets, and Signers, past the cache.
	Reader client.Reader
	// Namespace that the Secrets are in.
	Namespace string
	// Signer is the name of the Signer, SignerName its spec.signerName, Backend the name of the backend in it.
	Signer, SignerName, Backend string
	// Config is the backend's configuration, with TrustPropagation set.
	Config v1alpha1.CA
	// IsCA is true if the CA signs CA certificates.
	IsCA bool
	// Clock tells the time.
	Clock clock.PassiveClock
	// Rand is where serial numbers come from.
	Rand io.Reader
}

// ReasonOf returns the reason of a *signer.CheckError; empty for any other.
func ReasonOf(err error) string {
	if check := (*signer.CheckError)(nil); errors.As(err, &check) {
		return check.Reason
	}
	return ""
}

func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// warning is an error of Check with which Sign works.
func warning(reason, format string, args ...any) error {
	return &signer.CheckError{Reason: reason, Signs: true, Err: fmt.Errorf(format, args...)}
}
