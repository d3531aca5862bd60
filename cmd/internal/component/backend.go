// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package component

import (
	"errors"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/acme"
	"github.com/certwright/certwright/signer/acme/order"
	"github.com/certwright/certwright/signer/ca"
	"github.com/certwright/certwright/signer/cfssl"
	"github.com/certwright/certwright/signer/external"
	"github.com/certwright/certwright/signer/remote"
	"github.com/certwright/certwright/signer/vault"
	"github.com/certwright/certwright/signer/venafi"
)

// tokenDir is where the signer's Deployment has its service account's projected tokens, in a file for each audience.
const tokenDir = "/var/run/secrets/certwright.dev/tokens" //nolint:gosec // no token

// backends is what the backends of all kinds are made with.
type backends struct {
	// client reads Secrets of the namespace from a cache and writes them, reader reads past the cache.
	client    client.Client
	reader    client.Reader
	namespace string
	openKey   ca.OpenKey
	// orders keeps the orders of all ACME backends.
	orders *order.Book
}

func newBackends(c client.Client, reader client.Reader, namespace string, openKey ca.OpenKey) backends {
	return backends{client: c, reader: reader, namespace: namespace, openKey: openKey, orders: order.NewBook(c, reader, namespace, clock.RealClock{})}
}

// make is the one place that knows all kinds of backends. It is a signer.NewBackend.
func (m backends) make(config signer.BackendConfig) (signer.Backend, error) {
	switch b := config.Backend; {
	case b.CA != nil:
		return ca.New(ca.Options{
			Client: m.client, Reader: m.reader, Namespace: m.namespace, OpenKey: m.openKey,
			Signer: config.Signer, SignerName: config.SignerName, Backend: b.Name, CA: *b.CA, IsCA: config.IsCA,
		})
	case b.ACME != nil:
		return acme.New(acme.Options{
			Client: m.client, Reader: m.reader, Namespace: m.namespace, Orders: m.orders, NewSolver: m.newSolver,
			Signer: config.Signer, Backend: b.Name, ACME: *b.ACME,
		})
	case b.CFSSL != nil:
		return cfssl.New(cfssl.Options{Reader: m.client, Namespace: m.namespace, CFSSL: *b.CFSSL})
	case b.External != nil:
		return external.New(external.Options{
			Secrets: remote.Secrets{Reader: m.client, Namespace: m.namespace}, SignerName: config.SignerName, Backend: b.Name, External: *b.External,
		})
	case b.Vault != nil:
		return vault.New(vault.Options{Client: m.client, Namespace: m.namespace, TokenDir: tokenDir, Vault: *b.Vault})
	case b.Venafi != nil:
		return venafi.New(venafi.Options{
			Client: m.client, Reader: m.reader, Namespace: m.namespace, Signer: config.Signer, Backend: b.Name, Venafi: *b.Venafi,
		})
	default:
		return nil, errors.New("no kind of backend is set that this program knows: ca, vault, acme, cfssl, venafi, external")
	}
}
