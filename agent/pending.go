// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// requestNamePattern is what randomName makes.
var requestNamePattern = regexp.MustCompile(`^certwright-[a-z2-7]{26}$`)

// ticket is a request that was made, or is about to be: what is needed to go on
// with it after a restart. It is written before the request is, so that no
// request can be open of which a restarted agent does not know.
type ticket struct {
	Name string `json:"name"`
	// UID is empty until the API server has confirmed the request.
	UID string `json:"uid,omitempty"`
	// Fingerprint is that of the Config which the request answers.
	Fingerprint string `json:"fingerprint"`
	// Renew is what the RenewFile said when the request was made.
	Renew time.Time `json:"renew,omitzero"`
	// Request is the PKCS#10 request in PEM, Key its private key in PKCS#8.
	Request []byte `json:"request"`
	Key     []byte `json:"key"`

	key crypto.Signer
}

// journal keeps one ticket over a restart.
type journal interface {
	SetPending(data []byte) error
	Pending() ([]byte, error)
}

// newTicket makes a key and a request.
func (r *requester) newTicket(renew time.Time) (*ticket, error) {
	key, err := generateKey(r.config.KeyAlgorithm)
	if err != nil {
		return nil, err
	}
	request, err := requestPEM(key, r.names)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding private key: %w", err)
	}
	return &ticket{
		Name: randomName(), Fingerprint: r.config.fingerprint(r.names), Renew: renew,
		Request: request, Key: der, key: key,
	}, nil
}

// keep writes the ticket down.
func (r *requester) keep(t *ticket) error {
	data, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("encoding the pending request: %w", err)
	}
	return r.journal.SetPending(data)
}

// forget removes the ticket: its request got a verdict, is gone, or its pair is on disk.
func (r *requester) forget() {
	if err := r.journal.SetPending(nil); err != nil {
		r.log.Warn("the next start will look at a request that is done: " + err.Error())
	}
}

// restore returns the ticket that an earlier run left, or nil when there is none
// that answers the Config.
func (r *requester) restore() (*ticket, error) {
	data, err := r.journal.Pending()
	if err != nil || data == nil {
		return nil, err
	}
	t := new(ticket)
	if err := json.Unmarshal(data, t); err != nil {
		return nil, errors.New("the pending request on disk is not one that an agent wrote") // the cause may quote the key
	}
	if t.Fingerprint != r.config.fingerprint(r.names) {
		return nil, errors.New("the pending request on disk answers another configuration")
	}
	return t, r.verify(t)
}

// verify checks that the ticket is one that this agent could have written.
func (r *requester) verify(t *ticket) error {
	if !requestNamePattern.MatchString(t.Name) || len(t.UID) > 128 {
		return errors.New("the pending request on disk has no name of ours")
	}
	key, err := x509.ParsePKCS8PrivateKey(t.Key)
	if err != nil {
		return errors.New("the pending request on disk has no private key")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return errors.New("the pending request on disk has a key that cannot sign")
	}
	block, rest := pem.Decode(t.Request)
	if block == nil || len(rest) > 0 {
		return errors.New("the pending request on disk holds no PKCS#10 request")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return fmt.Errorf("the pending request on disk: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil || !bytes.Equal(public, csr.RawSubjectPublicKeyInfo) {
		return errors.New("the pending request on disk is for another key")
	}
	asked := &x509.Certificate{DNSNames: csr.DNSNames, URIs: csr.URIs, IPAddresses: csr.IPAddresses}
	if n := len(csr.DNSNames) + len(csr.URIs) + len(csr.IPAddresses); n != len(r.names.strings()) || len(r.names.missingFrom(asked)) > 0 {
		return errors.New("the pending request on disk asks for other names")
	}
	t.key = signer
	return nil
}

// request is what is sent to the API server.
func (r *requester) request(t *ticket) *Request {
	return &Request{
		APIVersion: "certificates.k8s.io/v1",
		Kind:       requestKind,
		Metadata:   RequestMetadata{Name: t.Name, UID: t.UID},
		Spec: RequestSpec{
			Request:           t.Request,
			SignerName:        r.config.SignerName,
			ExpirationSeconds: int32(time.Duration(r.config.Duration) / time.Second),
			Usages:            r.config.Usages,
		},
	}
}
