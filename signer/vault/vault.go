// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package vault is the backend that has a role of the PKI secrets engine of HashiCorp Vault or OpenBao sign.
//
// It promises that a login is made once for all requests, renewed before it ends and made anew when Vault refuses it, that
// what Vault lacks for the moment or for want of configuration is trouble and never a verdict about a request, and that no
// token, secret ID or JWT gets into an error. Nothing of Vault's environment variables is read.
//
// What Vault signed and nobody received, because the answer was lost, stays in Vault until it expires.
package vault

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/remote"
	"github.com/certwright/certwright/signer/vault/session"
)

// Options are what New needs. Only TokenDir and Clock may be left out.
type Options struct {
	// Client reads Secrets of Namespace from a cache.
	Client client.Reader
	// Namespace that the Secrets are in: Certwright's own.
	Namespace string
	// TokenDir is the folder with the service account's projected tokens, each in a file that has its audience as its name.
	// Without it, auth.kubernetes is refused.
	TokenDir string
	// Vault is the backend's configuration.
	Vault v1alpha1.Vault
	// Clock tells the time. Default: the real one.
	Clock clock.PassiveClock
}

// Backend signs with one role of one PKI secrets engine. It is safe for concurrent use.
type Backend struct {
	mount, role string
	clock       clock.PassiveClock
	vault       *session.Session
	issuer      *issuer
}

var (
	_ signer.Backend       = (*Backend)(nil)
	_ signer.Checker       = (*Backend)(nil)
	_ signer.TrustAnchorer = (*Backend)(nil)
	_ signer.Expirer       = (*Backend)(nil)
)

// New returns a backend for one entry of a Signer's backends. It does no I/O; the error is about the configuration and names
// the field.
func New(o Options) (*Backend, error) {
	if o.Client == nil || o.Namespace == "" {
		return nil, errors.New("building a Vault backend: a client and a namespace are needed")
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	config, err := withDefaults(o.Vault)
	if err != nil {
		return nil, err
	}
	made, err := session.New(session.Options{Client: o.Client, Namespace: o.Namespace, TokenDir: o.TokenDir, Vault: config, Clock: o.Clock})
	if err != nil {
		return nil, err
	}
	b := &Backend{mount: config.Path, role: config.Role, clock: o.Clock, vault: made}
	b.issuer = newIssuer(b)
	return b, nil
}

// Close implements io.Closer.
func (b *Backend) Close() error {
	b.vault.Close()
	return nil
}

// signRequest is the body of sign/ROLE. The names are those of the PKCS #10 request, for a role that takes them from here and
// not from there (use_csr_common_name, use_csr_sans).
type signRequest struct {
	CSR               string   `json:"csr"`
	CommonName        string   `json:"common_name,omitempty"`
	AltNames          string   `json:"alt_names,omitempty"` // DNS names and email addresses
	IPSANs            []string `json:"ip_sans,omitempty"`
	URISANs           []string `json:"uri_sans,omitempty"`
	SerialNumber      string   `json:"serial_number,omitempty"`
	TTL               string   `json:"ttl"`
	Format            string   `json:"format"`
	ExcludeCNFromSANs bool     `json:"exclude_cn_from_sans"`
}

// signAnswer is what sign/ROLE answers, in PEM.
type signAnswer struct {
	Certificate string   `json:"certificate"`
	IssuingCA   string   `json:"issuing_ca"`
	CAChain     []string `json:"ca_chain"`
}

// Sign implements signer.Backend. The chain holds the leaf and the CA certificates above it, without the root.
func (b *Backend) Sign(ctx context.Context, req csr.Request) ([]*x509.Certificate, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if req.IsCA {
		return nil, permanent("isCA: true is requested, and a role of Vault's PKI secrets engine signs no CA certificates")
	}
	if err := b.foresee(ctx, req); err != nil {
		return nil, err
	}
	ttl, err := b.ttl(req.Duration)
	if err != nil {
		return nil, err
	}
	var answer signAnswer
	if err := b.vault.Call(ctx, http.MethodPost, b.path("sign"), newSignRequest(req, ttl), &answer); err != nil {
		return nil, b.refused(err)
	}
	chain, err := answer.chain()
	if err != nil {
		return nil, session.Trouble(session.ReasonUnavailable, "reading what Vault answered at %s: %w", b.path("sign"), err)
	}
	if !b.issuer.signed(chain[0]) {
		b.issuer.doubt()
	} else if err := b.fitLeaf(chain[0], req); err != nil {
		return nil, err
	}
	return chain, nil
}

// ttl is the granted lifetime, or what is left of the issuing CA's: Vault refuses to go beyond that.
func (b *Backend) ttl(granted time.Duration) (time.Duration, error) {
	end := b.issuer.notAfter()
	if end.IsZero() {
		return granted, nil
	}
	left := end.Sub(b.clock.Now())
	if left < time.Second {
		return 0, expired(end)
	}
	return min(granted, left), nil
}

// path is that of the role below one of the PKI secrets engine's folders, such as pki/sign/ROLE.
func (b *Backend) path(folder string) string { return b.mount + "/" + folder + "/" + b.role }

func permanent(format string, args ...any) error {
	return &signer.PermanentError{Err: fmt.Errorf(format, args...)}
}

// chain returns the leaf and the CA certificates above it, as far as Vault sent them, without the root.
func (a signAnswer) chain() ([]*x509.Certificate, error) {
	leaf, err := remote.Chain([]byte(a.Certificate))
	if err != nil {
		return nil, err
	}
	above, err := parseAll(append(a.CAChain, a.IssuingCA))
	if err != nil {
		return nil, err
	}
	chain, _ := climb(leaf[0], above) // whether it leads anywhere is for verify.Chain to find
	return chain, nil
}
