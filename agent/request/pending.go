// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package request

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/base32"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/certwright/certwright/agent/apiserver"
	"github.com/certwright/certwright/agent/credential"
)

// requestNamePattern is what randomName makes.
var requestNamePattern = regexp.MustCompile(`^certwright-[a-z2-7]{26}$`)

// Ticket is a request that was made, or is about to be: what is needed to go on
// with it after a restart. It is written before the request is, so that no
// request can be open of which a restarted agent does not know.
type Ticket struct {
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

// Journal keeps one ticket over a restart.
type Journal interface {
	SetPending(data []byte) error
	Pending() ([]byte, error)
}

// Signer is the private key.
func (t *Ticket) Signer() crypto.Signer { return t.key }

// newTicket makes a key and a request.
func (r *Requester) newTicket(renew time.Time) (*Ticket, error) {
	key, err := credential.GenerateKey(r.KeyAlgorithm)
	if err != nil {
		return nil, err
	}
	request, err := credential.RequestPEM(key, r.Names)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding private key: %w", err)
	}
	return &Ticket{
		Name: randomName(), Fingerprint: r.Fingerprint, Renew: renew,
		Request: request, Key: der, key: key,
	}, nil
}

// keep writes the ticket down.
func (r *Requester) keep(t *Ticket) error {
	data, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("encoding the pending request: %w", err)
	}
	return r.Journal.SetPending(data)
}

// Forget removes the ticket: its request got a verdict, is gone, or its pair is on disk.
func (r *Requester) Forget() {
	if err := r.Journal.SetPending(nil); err != nil {
		r.Log.Warn("the next start will look at a request that is done: " + err.Error())
	}
}

// Restore returns the ticket that an earlier run left, or nil when there is none
// that answers the Config.
func (r *Requester) Restore() (*Ticket, error) {
	data, err := r.Journal.Pending()
	if err != nil || data == nil {
		return nil, err
	}
	t := new(Ticket)
	if err := json.Unmarshal(data, t); err != nil {
		return nil, errors.New("the pending request on disk is not one that an agent wrote") // the cause may quote the key
	}
	if !requestNamePattern.MatchString(t.Name) {
		return nil, errors.New("the pending request on disk has no name of ours")
	}
	if t.Fingerprint != r.Fingerprint {
		return nil, fmt.Errorf("request %s of an earlier run answers another configuration; nobody waits for it any more, and Kubernetes deletes it", t.Name)
	}
	return t, r.verify(t)
}

// verify checks that the ticket is one that this agent could have written.
func (r *Requester) verify(t *Ticket) error {
	if len(t.UID) > 128 {
		return errors.New("the pending request on disk has a UID that no API server makes")
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
	if n := len(csr.DNSNames) + len(csr.URIs) + len(csr.IPAddresses); n != len(r.Names.Strings()) || len(r.Names.MissingFrom(asked)) > 0 {
		return errors.New("the pending request on disk asks for other names")
	}
	t.key = signer
	return nil
}

// request is what is sent to the API server.
func (r *Requester) request(t *Ticket) *apiserver.Request {
	return &apiserver.Request{
		APIVersion: "certificates.k8s.io/v1",
		Kind:       apiserver.RequestKind,
		Metadata:   apiserver.RequestMetadata{Name: t.Name, UID: t.UID},
		Spec: apiserver.RequestSpec{
			Request:           t.Request,
			SignerName:        r.SignerName,
			ExpirationSeconds: int32(r.Duration / time.Second),
			Usages:            r.Usages,
		},
	}
}

// randomName returns a name for a CertificateSigningRequest. Everyone who may
// create requests could plant one under a name that can be guessed, so it carries
// 130 random bits: the five characters that generateName adds are too few.
func randomName() string {
	random := make([]byte, 17)
	rand.Read(random) // never fails since Go 1.24
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(random)
	return "certwright-" + strings.ToLower(text[:26])
}
