// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/certwright/certwright/signer/external/signerv1"
)

// remember is how long an answer is given again to the very same request.
const remember = time.Minute

// authority serves certwright.signer.v1 with a CA that it makes when it starts.
type authority struct {
	signerv1.UnimplementedSignerServer
	certificate *x509.Certificate
	key         crypto.Signer

	mu     sync.Mutex
	issued map[[sha256.Size]byte][]byte // by the request, so that it gets one certificate however often it is sent
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "Sample signer " + rand.Text()[:8]},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &authority{certificate: certificate, key: key, issued: map[[sha256.Size]byte][]byte{}}, err
}

// Sign issues a certificate, or refuses what this CA will never sign. With the config entry "domain" in the Signer, that is any
// DNS name outside that domain.
func (a *authority) Sign(_ context.Context, request *signerv1.SignRequest) (*signerv1.SignResponse, error) {
	template, err := leaf(request)
	if err != nil {
		return refused(err.Error()), nil
	}
	if domain := request.GetConfig()["domain"]; domain != "" {
		for _, name := range request.GetDnsNames() {
			if !strings.HasSuffix(name, "."+domain) {
				return refused(fmt.Sprintf("dnsNames %q: only names in the domain %s are allowed", name, domain)), nil
			}
		}
	}
	der, err := a.issue(request, template)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "signing: %v", err) // trouble: Certwright asks again
	}
	return &signerv1.SignResponse{Result: &signerv1.SignResponse_Issued{Issued: &signerv1.Issued{Certificates: [][]byte{der}}}}, nil
}

// Check answers, as a CA in memory can always sign.
func (a *authority) Check(context.Context, *signerv1.CheckRequest) (*signerv1.CheckResponse, error) {
	return &signerv1.CheckResponse{}, nil
}

// TrustAnchors returns the CA's own certificate.
func (a *authority) TrustAnchors(context.Context, *signerv1.TrustAnchorsRequest) (*signerv1.TrustAnchorsResponse, error) {
	return &signerv1.TrustAnchorsResponse{Certificates: [][]byte{a.certificate.Raw}}, nil
}

// issue signs the template, or returns what it signed for the same request a moment ago.
func (a *authority) issue(request *signerv1.SignRequest, template *x509.Certificate) ([]byte, error) {
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(request)
	if err != nil {
		return nil, err
	}
	key := sha256.Sum256(encoded)
	a.mu.Lock()
	defer a.mu.Unlock()
	if der, again := a.issued[key]; again {
		return der, nil
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, template.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	a.issued[key] = der
	time.AfterFunc(remember, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.issued, key)
	})
	return der, nil
}

func refused(reason string) *signerv1.SignResponse {
	return &signerv1.SignResponse{Result: &signerv1.SignResponse_Refused{Refused: &signerv1.Refused{Reason: reason}}}
}
