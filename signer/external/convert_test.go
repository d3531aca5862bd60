// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package external

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"net/url"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/external/signerv1"
	"github.com/certwright/certwright/signer/signertest"
)

func TestRequestHoldsAllThatWasGranted(t *testing.T) {
	key := signertest.Key(t, "ECDSA-P256")
	name := pkix.Name{
		Country: []string{"NO"}, Organization: []string{"a", "b"}, OrganizationalUnit: []string{"c"}, Locality: []string{"Moss"}, Province: []string{"Viken"},
		StreetAddress: []string{"Kai 1"}, PostalCode: []string{"1530"}, SerialNumber: "42", CommonName: "web",
	}
	req := signertest.Request(t, key, &x509.CertificateRequest{
		Subject: name, DNSNames: []string{"web.example.com"}, EmailAddresses: []string{"ops@example.com"},
		IPAddresses: []net.IP{net.IPv4(198, 18, 0, 7), net.ParseIP("2001:db8::7")}, URIs: []*url.URL{{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/shop/sa/web"}},
	}, nil, 90*time.Minute)
	req.Requester = csr.Requester{
		Username: "system:serviceaccount:shop:web", UID: "u1", Groups: []string{"system:serviceaccounts"},
		Extra: map[string]certificatesv1.ExtraValue{
			"authentication.kubernetes.io/pod-name": {"web-0"}, "authentication.kubernetes.io/pod-uid": {"p1"}, "authentication.kubernetes.io/node-name": {"worker-1"},
		},
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	got, err := request(req, map[string]string{"domain": "example.com"})
	if err != nil {
		t.Fatal(err)
	}
	want := &signerv1.SignRequest{
		Uid: string(req.UID), Name: req.Name, SignerName: "example.com/internal", PublicKey: public, Pkcs10: req.DER, Config: map[string]string{"domain": "example.com"},
		Requester: &signerv1.Requester{
			Username: "system:serviceaccount:shop:web", Uid: "u1", Groups: []string{"system:serviceaccounts"},
			ServiceAccount: &signerv1.ServiceAccount{Namespace: "shop", Name: "web"}, Pod: &signerv1.Pod{Name: "web-0", Uid: "p1", NodeName: "worker-1"},
		},
		Subject: &signerv1.Subject{
			Country: []string{"NO"}, Organization: []string{"a", "b"}, OrganizationalUnit: []string{"c"}, Locality: []string{"Moss"}, Province: []string{"Viken"},
			StreetAddress: []string{"Kai 1"}, PostalCode: []string{"1530"}, SerialNumber: "42", CommonName: "web",
		},
		DnsNames: []string{"web.example.com"}, IpAddresses: []string{"198.18.0.7", "2001:db8::7"}, Uris: []string{"spiffe://cluster.local/ns/shop/sa/web"},
		EmailAddresses: []string{"ops@example.com"}, Usages: []string{"digital signature", "server auth", "client auth"},
		Duration: durationpb.New(90 * time.Minute),
	}
	if !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// A field that csr.Request gains must be thought about here: whoever signs must see all that was granted. ForPod is in no message, as what
// kubelets ask is never sent to an external signer.
func TestNoFieldOfARequestIsForgotten(t *testing.T) {
	const known = 16
	if n := reflect.TypeFor[csr.Request]().NumField(); n != known {
		t.Errorf("csr.Request has %d fields and had %d when the contract was written: does certwright.signer.v1 need one more?", n, known)
	}
}

// Whatever a program sends, the outcome is one of four, bounded, and no panic.
func FuzzResult(f *testing.F) {
	key := signertest.Key(f, "ECDSA-P256")
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{}, &x509.Certificate{}, key.Public(), key)
	if err != nil {
		f.Fatal(err)
	}
	for _, r := range []*signerv1.SignResponse{
		{},
		{Result: &signerv1.SignResponse_Issued{Issued: &signerv1.Issued{Certificates: [][]byte{der}}}},
		{Result: &signerv1.SignResponse_Issued{}},
		{Result: &signerv1.SignResponse_Pending{Pending: &signerv1.Pending{RetryAfter: durationpb.New(-time.Hour), Reason: "\n"}}},
		{Result: &signerv1.SignResponse_Refused{Refused: &signerv1.Refused{Reason: "dnsNames: no"}}},
	} {
		encoded, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var response signerv1.SignResponse
		if proto.Unmarshal(data, &response) != nil {
			return
		}
		chain, renewAt, err := result(&response)
		if err == nil {
			if len(chain) == 0 || len(chain) > maxChain || response.GetIssued() == nil {
				t.Fatalf("%d certificates from %v", len(chain), &response)
			}
			return
		}
		if len(chain) > 0 || !renewAt.IsZero() || !utf8.ValidString(err.Error()) || len(err.Error()) > 4096 {
			t.Fatalf("%d certificates, advice %s and error %q", len(chain), renewAt, err)
		}
		var permanent *signer.PermanentError
		if errors.As(err, &permanent) && response.GetRefused() == nil {
			t.Fatalf("a verdict out of %v", &response)
		}
		var pending *signer.PendingError
		if errors.As(err, &pending) && (pending.After <= 0 || pending.Reason == "" || response.GetPending() == nil) {
			t.Fatalf("%v out of %v", pending, &response)
		}
	})
}
