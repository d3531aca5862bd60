// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package component

import (
	"errors"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca"
	"github.com/certwright/certwright/signer/cfssl"
	"github.com/certwright/certwright/signer/external"
	"github.com/certwright/certwright/signer/remote"
)

// backends is what the backends of all kinds are made with.
type backends struct {
	// client reads Secrets of the namespace from a cache and writes them, reader reads past the cache.
	client    client.Client
	reader    client.Reader
	namespace string
	openKey   ca.OpenKey
}

// make is the one place that knows all kinds of backends. It is a signer.NewBackend.
func (m backends) make(config signer.BackendConfig) (signer.Backend, error) {
	switch b := config.Backend; {
	case b.CA != nil:
		return ca.New(ca.Options{
			Client: m.client, Reader: m.reader, Namespace: m.namespace, OpenKey: m.openKey,
			Signer: config.Signer, SignerName: config.SignerName, Backend: b.Name, CA: *b.CA, IsCA: config.IsCA,
		})
	case b.CFSSL != nil:
		return cfssl.New(cfssl.Options{Reader: m.client, Namespace: m.namespace, CFSSL: *b.CFSSL})
	case b.External != nil:
		return external.New(external.Options{
			Secrets: remote.Secrets{Reader: m.client, Namespace: m.namespace}, SignerName: config.SignerName, Backend: b.Name, External: *b.External,
		})
	default:
		return nil, errors.New("no kind of backend is set that this program knows: ca, cfssl, external")
	}
}
