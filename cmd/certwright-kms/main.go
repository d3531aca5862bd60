// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command certwright-kms is certwright with what it takes to sign by keys that are kept outside Kubernetes: in tokens of PKCS #11,
// and in the key management services of Amazon, Google and Microsoft. It needs cgo and a C library, and so an image of its own.
package main

import (
	"context"
	"crypto"

	"github.com/spf13/pflag"

	"github.com/certwright/certwright/cmd/certwright-kms/cloud"
	"github.com/certwright/certwright/cmd/certwright-kms/hsm"
	"github.com/certwright/certwright/cmd/internal/component"
	"github.com/certwright/certwright/signer/ca/keyuri"
)

func main() {
	var modules hsm.Modules
	flags := pflag.NewFlagSet("certwright-kms", pflag.ContinueOnError)
	flags.StringArrayVar(&modules.Named, "pkcs11-module", nil, "absolute path of a PKCS #11 module that keys may be opened with, besides those in the usual folders; may be repeated")
	component.Main(opener(&modules), flags)
}

// opener returns the function that opens keys of all kinds.
func opener(modules *hsm.Modules) func(context.Context, keyuri.URI, string, crypto.PublicKey) (crypto.Signer, error) {
	return func(ctx context.Context, uri keyuri.URI, pin string, public crypto.PublicKey) (crypto.Signer, error) {
		if token, ok := uri.(*keyuri.PKCS11); ok {
			return modules.Open(token, pin, public)
		}
		return cloud.Open(ctx, uri)
	}
}
