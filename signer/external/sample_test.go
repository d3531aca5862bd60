// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package external_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"

	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/external/signerv1"
	"github.com/certwright/certwright/signer/signertest"
	"github.com/certwright/certwright/signer/signertest/faultproxy"
)

func TestConformanceOverSocket(t *testing.T) {
	signertest.Run(t, func(t *testing.T) signertest.Subject {
		b, socket := overSocket(t, nil)
		startSample(t, "--listen", "unix://"+socket)
		return signertest.Subject{Backend: b, Clock: clock.RealClock{}}
	})
}

func TestConformanceOverTLS(t *testing.T) {
	signertest.Run(t, func(t *testing.T) signertest.Subject {
		c := newCA(t)
		b, _, _, _ := overTLS(t, c, c.secret())
		return signertest.Subject{Backend: b, Clock: clock.RealClock{}}
	})
}

// Faults of all kinds on the way to the sample.
func TestFaults(t *testing.T) {
	signertest.Faults(t, func(t *testing.T) signertest.Front {
		c := newCA(t)
		secret := c.secret()
		_, cluster, address, _ := overTLS(t, c, secret)
		pair, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(c.cert)
		proxy := faultproxy.Start(t, "https://"+address, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}})
		refused := &signerv1.SignResponse{Result: &signerv1.SignResponse_Refused{Refused: &signerv1.Refused{Reason: "dnsNames: never"}}}
		return signertest.Front{
			Subject: signertest.Subject{
				Backend: onAddress(t, cluster, strings.TrimPrefix(proxy.URL, "https://"), proxy.CA, ""), Clock: clock.RealClock{},
			},
			Proxy: proxy,
			Signs: func(r *http.Request) bool { return r.URL.Path == signerv1.Signer_Sign_FullMethodName },
			Answer: func(_ []byte, chain []*x509.Certificate) []byte {
				var der [][]byte
				for _, c := range chain {
					der = append(der, c.Raw)
				}
				return framed(issued(der...))
			},
			Refusals: map[string]signertest.Refusal{"a name": {
				Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/grpc"}, http.TrailerPrefix + "Grpc-Status": {"0"}},
				Body: string(framed(refused)), Words: "dnsNames: never",
			}},
		}
	})
}

// framed is a message as gRPC sends it over HTTP/2.
func framed(m proto.Message) []byte {
	encoded, err := proto.Marshal(m)
	if err != nil {
		panic(err) // of a message made here
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(encoded))), encoded...)
}

func TestSampleRefusesOutsideItsDomain(t *testing.T) {
	b, socket := overSocket(t, map[string]string{"domain": "example.com"})
	startSample(t, "--listen", "unix://"+socket)
	_, err := b.Sign(t.Context(), request(t))
	var permanent *signer.PermanentError
	if !errors.As(err, &permanent) || !strings.Contains(err.Error(), `dnsNames "web.shop.svc": only names in the domain example.com are allowed`) {
		t.Errorf("Sign returned %v", err)
	}
}

func TestSampleGivesOneCertificateForOneRequest(t *testing.T) {
	b, socket := overSocket(t, nil)
	startSample(t, "--listen", "unix://"+socket)
	req := request(t)
	first, err := b.Sign(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.Sign(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if !first[0].Equal(again[0]) {
		t.Error("the same request got two certificates")
	}
}
