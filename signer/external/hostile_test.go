// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package external_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/certwright/certwright/hack/servers"
	"github.com/certwright/certwright/signer/external/signerv1"
)

// hostileAddress is the environment variable that makes the test binary a server on that address.
const hostileAddress = "CERTWRIGHT_TEST_HOSTILE_ADDRESS"

// startHostile starts a server that does wrong, without TLS, as the config entry "do" says.
func startHostile(t *testing.T, address string) *servers.Process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return servers.Start(t, servers.Spec{Path: self, Env: []string{hostileAddress + "=" + address}, ReadyLine: isServing})
}

func serveHostile(address string) error {
	network := "tcp"
	if filepath.IsAbs(address) {
		network = "unix"
		_ = os.Remove(address)
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), network, address)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	signerv1.RegisterSignerServer(server, &hostile{root: newAuthority("root")})
	fmt.Fprintln(os.Stdout, "serving on", address)
	return server.Serve(listener)
}

type hostile struct {
	signerv1.UnimplementedSignerServer
	root authority
}

func (h *hostile) Check(ctx context.Context, _ *signerv1.CheckRequest) (*signerv1.CheckResponse, error) {
	return nil, status.Error(codes.FailedPrecondition, "the HSM is asleep\n"+strings.Repeat("z", 4000))
}

func (h *hostile) TrustAnchors(_ context.Context, request *signerv1.TrustAnchorsRequest) (*signerv1.TrustAnchorsResponse, error) {
	switch request.GetConfig()["do"] {
	case "no anchors":
		return &signerv1.TrustAnchorsResponse{}, nil
	case "garbage":
		return &signerv1.TrustAnchorsResponse{Certificates: [][]byte{[]byte("garbage")}}, nil
	case "anchor that is no CA":
		return &signerv1.TrustAnchorsResponse{Certificates: [][]byte{h.root.create(&x509.Certificate{NotAfter: time.Now().Add(time.Hour)}, newKey().Public()).Raw}}, nil
	case "too many":
		return &signerv1.TrustAnchorsResponse{Certificates: slicesOf(h.root.cert.Raw, 101)}, nil
	case "too large":
		large := h.root.create(&x509.Certificate{
			NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, DNSNames: slicesOf(strings.Repeat("n", 60)+".example.com", 1000),
		}, newKey().Public())
		return &signerv1.TrustAnchorsResponse{Certificates: [][]byte{large.Raw}}, nil
	case "not after":
		return &signerv1.TrustAnchorsResponse{Certificates: [][]byte{h.root.cert.Raw}, NotAfter: timestamppb.New(time.Unix(2e9, 0))}, nil
	}
	return &signerv1.TrustAnchorsResponse{Certificates: [][]byte{h.root.cert.Raw}}, nil
}

func (h *hostile) Sign(ctx context.Context, request *signerv1.SignRequest) (*signerv1.SignResponse, error) {
	do := request.GetConfig()["do"]
	if code, ok := strings.CutPrefix(do, "code "); ok {
		n, err := strconv.ParseUint(code, 10, 32)
		if err != nil {
			panic(err)
		}
		return nil, status.Error(codes.Code(n), "no")
	}
	switch do {
	case "silent":
		<-ctx.Done()
		return nil, ctx.Err()
	case "nothing":
		return &signerv1.SignResponse{}, nil
	case "pending":
		return &signerv1.SignResponse{Result: &signerv1.SignResponse_Pending{Pending: &signerv1.Pending{RetryAfter: durationpb.New(7 * time.Second), Reason: "waiting\nfor a person"}}}, nil
	case "pending, no more":
		return &signerv1.SignResponse{Result: &signerv1.SignResponse_Pending{Pending: &signerv1.Pending{}}}, nil
	case "refused":
		return &signerv1.SignResponse{Result: &signerv1.SignResponse_Refused{Refused: &signerv1.Refused{Reason: "dnsNames: never " + strings.Repeat("never ", 1000)}}}, nil
	case "refused, no more":
		return &signerv1.SignResponse{Result: &signerv1.SignResponse_Refused{Refused: &signerv1.Refused{}}}, nil
	case "renew at":
		response := issued(h.leaf(request, nil))
		response.GetIssued().RenewAt = timestamppb.New(time.Unix(2e9, 0))
		return response, nil
	}
	return issued(h.chain(request, do)...), nil
}

// chain returns a chain that is not what was asked for, or none at all.
func (h *hostile) chain(request *signerv1.SignRequest, do string) [][]byte {
	switch do {
	case "no certificates":
		return nil
	case "garbage":
		return [][]byte{[]byte("garbage")}
	case "trailing garbage":
		return [][]byte{append(h.leaf(request, nil), 0)}
	case "too many":
		return slicesOf(h.leaf(request, nil), 11)
	case "too large":
		return [][]byte{h.leaf(request, func(c *x509.Certificate) { c.DNSNames = slicesOf(strings.Repeat("n", 60)+".example.com", 1000) })}
	case "huge":
		return [][]byte{make([]byte, 2<<20)}
	}
	return [][]byte{h.leaf(request, nil)}
}

func (h *hostile) leaf(request *signerv1.SignRequest, change func(*x509.Certificate)) []byte {
	return h.root.sign(request, change)
}

func issued(chain ...[]byte) *signerv1.SignResponse {
	return &signerv1.SignResponse{Result: &signerv1.SignResponse_Issued{Issued: &signerv1.Issued{Certificates: chain}}}
}

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newAuthority makes a root. Its panics end the server.
func newAuthority(name string) authority {
	a := authority{key: newKey()}
	a.cert = &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert = a.create(a.cert, a.key.Public())
	return a
}

func (a authority) sign(request *signerv1.SignRequest, change func(*x509.Certificate)) []byte {
	key, err := x509.ParsePKIXPublicKey(request.GetPublicKey())
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		NotBefore: time.Now(), NotAfter: time.Now().Add(request.GetDuration().AsDuration()), DNSNames: request.GetDnsNames(), BasicConstraintsValid: true,
		PublicKey: key, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	return a.create(template, template.PublicKey).Raw
}

func (a authority) create(template *x509.Certificate, key any) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key, a.key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return cert
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func slicesOf[T any](value T, n int) (out []T) {
	for range n {
		out = append(out, value)
	}
	return out
}
