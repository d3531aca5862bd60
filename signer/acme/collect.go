// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acme

import (
	"bytes"
	"context"
	"crypto/x509"

	"github.com/certwright/certwright/signer/acme/server"
)

// collect downloads the certificate of an order that is done.
func (w *work) collect(ctx context.Context, current server.Order) ([]*x509.Certificate, error) {
	chains, err := w.server.Chains(ctx, w.account, current.Certificate)
	if err != nil {
		return nil, w.heed(ctx, err)
	}
	w.queue.answered()
	chain := withoutRoot(preferred(chains, w.options.ACME.PreferredChain))
	w.tidy(ctx)
	err = w.given.judge(w.req, chain[0], !w.order.Judged)
	w.order.Judged = true
	if err != nil {
		if w.given.refuse(w.req) != nil {
			return nil, w.refuse(ctx, err.Error())
		}
		return nil, own("the certificate that was bought cannot be used: %w", err)
	}
	w.former.set(whose(w.req, w.ids), server.CertificateID(chain[0]))
	return chain, nil
}

// preferred returns the chain whose topmost issuer has that common name, or the first.
func preferred(chains [][]*x509.Certificate, commonName string) []*x509.Certificate {
	for _, chain := range chains {
		if commonName != "" && chain[len(chain)-1].Issuer.CommonName == commonName {
			return chain
		}
	}
	return chains[0]
}

// withoutRoot leaves out a root at the end of a chain: those who verify have it, or must not take it from here.
func withoutRoot(chain []*x509.Certificate) []*x509.Certificate {
	if last := chain[len(chain)-1]; len(chain) > 1 && bytes.Equal(last.RawSubject, last.RawIssuer) {
		return chain[:len(chain)-1]
	}
	return chain
}
