// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package spiffe

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	envoysecret "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/certwright/certwright/agent/agenttest"
	"github.com/certwright/certwright/agent/spiffe/rpc"
)

func secretClient(t testing.TB, r *running) envoysecret.SecretDiscoveryServiceClient {
	return envoysecret.NewSecretDiscoveryServiceClient(r.dial(t))
}

// unpack reads a resource as Envoy does.
func unpack(t testing.TB, resource *anypb.Any) *tlsv3.Secret {
	t.Helper()
	secret := new(tlsv3.Secret)
	if err := resource.UnmarshalTo(secret); err != nil {
		t.Fatal(err)
	}
	if err := secret.ValidateAll(); err != nil {
		t.Fatal(err)
	}
	return secret
}

// checkPair holds a secret against the leaf that it must have.
func checkPair(t testing.TB, secret *tlsv3.Secret, want *x509.Certificate) {
	t.Helper()
	pair, err := tls.X509KeyPair(secret.GetTlsCertificate().GetCertificateChain().GetInlineBytes(), secret.GetTlsCertificate().GetPrivateKey().GetInlineBytes())
	if err != nil {
		t.Fatal(err)
	}
	if !pair.Leaf.Equal(want) || len(pair.Certificate) != 2 {
		t.Errorf("secret %q has another certificate, in a chain of %d", secret.GetName(), len(pair.Certificate))
	}
}

// checkAnchors holds a secret against the leaf that it must verify.
func checkAnchors(t testing.TB, secret *tlsv3.Secret, leaf, issuer *x509.Certificate) {
	t.Helper()
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	intermediates.AddCert(issuer)
	if !roots.AppendCertsFromPEM(secret.GetValidationContext().GetTrustedCa().GetInlineBytes()) {
		t.Fatalf("secret %q has no anchors", secret.GetName())
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Error(err)
	}
}

// conversation is a stream as Envoy leads it.
type conversation struct {
	t      testing.TB
	stream envoysecret.SecretDiscoveryService_StreamSecretsClient
}

func converse(t testing.TB, r *running) *conversation {
	return &conversation{t, agenttest.Must(secretClient(t, r).StreamSecrets(patient(t)))(t)}
}

func (c *conversation) send(request *discovery.DiscoveryRequest) {
	c.t.Helper()
	if request.GetTypeUrl() == "" {
		request.TypeUrl = secretType
	}
	if err := c.stream.Send(request); err != nil {
		c.t.Fatal(err)
	}
}

// receive returns the next response, its secrets by name.
func (c *conversation) receive() (*discovery.DiscoveryResponse, map[string]*tlsv3.Secret) {
	c.t.Helper()
	response := agenttest.Must(c.stream.Recv())(c.t)
	if response.GetTypeUrl() != secretType || response.GetNonce() == "" || response.GetVersionInfo() == "" {
		c.t.Errorf("type %q, nonce %q, version %q", response.GetTypeUrl(), response.GetNonce(), response.GetVersionInfo())
	}
	secrets := make(map[string]*tlsv3.Secret)
	for _, resource := range response.GetResources() {
		secret := unpack(c.t, resource)
		secrets[secret.GetName()] = secret
	}
	return response, secrets
}

func (c *conversation) acknowledge(response *discovery.DiscoveryResponse, names ...string) {
	c.t.Helper()
	c.send(&discovery.DiscoveryRequest{VersionInfo: response.GetVersionInfo(), ResponseNonce: response.GetNonce(), ResourceNames: names})
}

// node is as large as that of a real Envoy, which lists what it is built with.
func node() *core.Node {
	n := &core.Node{Id: "cart-5d9c7b6d4-x2v8p", Cluster: "cart"}
	for i := range 700 {
		n.Extensions = append(n.Extensions, &core.Extension{
			Name: fmt.Sprintf("envoy.filters.http.extension_%d", i), Category: "envoy.filters.http",
			TypeUrls: []string{fmt.Sprintf("type.googleapis.com/envoy.extensions.filters.http.extension_%d.v3.Extension", i)},
		})
	}
	return n
}

func TestSecretsByEveryName(t *testing.T) {
	r, ca := start(t), newAuthority(t)
	names := []string{"default", cartID, "ROOTCA", "spiffe://cluster.local"}
	c := converse(t, r)
	c.send(&discovery.DiscoveryRequest{Node: node(), ResourceNames: names}) // before there is anything
	certificate, _ := ca.issue(t, r.Server, leaf(cartID))
	_, secrets := c.receive()
	if len(secrets) != len(names) {
		t.Fatalf("got %d secrets, want %d", len(secrets), len(names))
	}
	for _, name := range names[:2] {
		checkPair(t, secrets[name], certificate)
	}
	for _, name := range names[2:] {
		checkAnchors(t, secrets[name], certificate, ca.Intermediate)
	}
}

func TestAcknowledgeRejectAndRenew(t *testing.T) {
	r, ca := start(t), newAuthority(t)
	ca.issue(t, r.Server, leaf(cartID))
	c := converse(t, r)
	c.send(&discovery.DiscoveryRequest{Node: node(), ResourceNames: []string{"default"}})
	first, _ := c.receive()
	c.acknowledge(first, "default")
	// An answer to an acknowledgement would come before that to the renewal.
	second, _ := ca.issue(t, r.Server, leaf(cartID))
	response, secrets := c.receive()
	checkPair(t, secrets["default"], second)
	if response.GetVersionInfo() == first.GetVersionInfo() || response.GetNonce() == first.GetNonce() {
		t.Errorf("version and nonce stay %q and %q", response.GetVersionInfo(), response.GetNonce())
	}

	seen := make(chan struct{})
	r.log.when("a client rejects", seen)
	c.send(&discovery.DiscoveryRequest{
		VersionInfo: first.GetVersionInfo(), ResponseNonce: response.GetNonce(), ResourceNames: []string{"default"},
		ErrorDetail: &status.Status{Code: 3, Message: "no such curve\nlevel=INFO msg=forged " + strings.Repeat("x", 1000)},
	})
	<-seen
	if log := r.log.String(); strings.Contains(log, "\nlevel=INFO msg=forged") || strings.Contains(log, strings.Repeat("x", 300)) {
		t.Errorf("the words of a client are in the log as they came: %s", log)
	}
	third, _ := ca.issue(t, r.Server, leaf(cartID))
	_, secrets = c.receive()
	checkPair(t, secrets["default"], third) // not the second once more
}

func TestOnlyWhoAsksForIt(t *testing.T) {
	r, ca := start(t), newAuthority(t)
	ca.issue(t, r.Server, leaf(cartID))
	c := converse(t, r)
	c.send(&discovery.DiscoveryRequest{ResourceNames: []string{"ROOTCA"}})
	first, _ := c.receive()
	c.acknowledge(first, "ROOTCA")
	ca.issue(t, r.Server, leaf(cartID)) // the bundle stays
	other := newAuthority(t)
	certificate, _ := other.issue(t, r.Server, leaf(cartID))
	second, secrets := c.receive()
	if len(secrets) != 1 {
		t.Errorf("got %d secrets", len(secrets))
	}
	checkAnchors(t, secrets["ROOTCA"], certificate, other.Intermediate)

	// What answers an older response does not count; then the names change.
	c.send(&discovery.DiscoveryRequest{ResponseNonce: first.GetNonce(), ResourceNames: []string{"stale"}})
	c.acknowledge(second, "default", "ROOTCA")
	if _, secrets = c.receive(); len(secrets) != 2 {
		t.Errorf("got %d secrets", len(secrets))
	}
}

func TestSubscriptionThatIsGivenUp(t *testing.T) {
	ca := newAuthority(t)
	s := New("unused", slog.New(slog.DiscardHandler))
	ca.issue(t, s, leaf(cartID))
	wants := func(names ...string) []rpc.Field {
		var fields []rpc.Field
		for _, name := range names {
			fields = append(fields, rpc.Field{Number: requestNames, Bytes: []byte(name)})
		}
		return fields
	}
	var subscription subscription
	for _, step := range []struct {
		names []string
		sent  bool
	}{{[]string{"default"}, true}, {[]string{"default"}, false}, {nil, false}, {[]string{cartID}, true}, {[]string{"*"}, true}} {
		if err := subscription.take(wants(step.names...)); err != nil {
			t.Fatal(err)
		}
		message, err := subscription.next(s.material())
		if err != nil || (message != nil) != step.sent {
			t.Errorf("%q: sent %d bytes, %v", step.names, len(message), err)
		}
	}
}

func TestNamesThatAreNotThere(t *testing.T) {
	r, ca := start(t), newAuthority(t)
	ca.issue(t, r.Server, leaf(cartID))
	for _, name := range []string{"defaults", "", "spiffe://cluster.local/ns/shop/sa/other", "spiffe://other", strings.Repeat("x", 2000), "per%cent é"} {
		c := converse(t, r)
		c.send(&discovery.DiscoveryRequest{ResourceNames: []string{"default", name}})
		_, err := c.stream.Recv()
		if grpcstatus.Code(err) != codes.NotFound || !strings.Contains(err.Error(), cartID) || len(err.Error()) > 500 {
			t.Errorf("%q: %v", name, err)
		}
		if name == "per%cent é" && !strings.Contains(err.Error(), `"per%cent é"`) {
			t.Errorf("the name is lost in %v", err)
		}
	}
}

func TestSecretsOfACertificateThatIsNoSVID(t *testing.T) {
	r, ca := start(t), newAuthority(t)
	certificate, _ := ca.issue(t, r.Server, leaf())
	c := converse(t, r)
	c.send(&discovery.DiscoveryRequest{}) // names none, wants all
	response, secrets := c.receive()
	if len(secrets) != 2 {
		t.Errorf("got %d secrets", len(secrets))
	}
	checkPair(t, secrets["default"], certificate)
	checkAnchors(t, secrets["ROOTCA"], certificate, ca.Intermediate)
	c.acknowledge(response)
	second, _ := ca.issue(t, r.Server, leaf())
	_, secrets = c.receive()
	checkPair(t, secrets["default"], second)

	c = converse(t, r)
	c.send(&discovery.DiscoveryRequest{ResourceNames: []string{"spiffe://"}})
	if _, err := c.stream.Recv(); grpcstatus.Code(err) != codes.NotFound {
		t.Errorf("an empty SPIFFE ID: %v", err)
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	r, ca := start(t), newAuthority(t)
	ca.issue(t, r.Server, leaf(cartID))
	var many []string
	for i := range maxNames + 1 {
		many = append(many, fmt.Sprint(i))
	}
	for name, test := range map[string]struct {
		request *discovery.DiscoveryRequest
		want    codes.Code
	}{
		"another type": {&discovery.DiscoveryRequest{TypeUrl: "type.googleapis.com/envoy.config.cluster.v3.Cluster"}, codes.InvalidArgument},
		"many names":   {&discovery.DiscoveryRequest{ResourceNames: many}, codes.InvalidArgument},
		"long names":   {&discovery.DiscoveryRequest{ResourceNames: slices.Repeat([]string{strings.Repeat("x", 30<<10)}, 2)}, codes.ResourceExhausted},
	} {
		t.Run(name, func(t *testing.T) {
			c := converse(t, r)
			c.send(test.request)
			if _, err := c.stream.Recv(); grpcstatus.Code(err) != test.want {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if _, err := secretClient(t, r).FetchSecrets(patient(t), test.request); grpcstatus.Code(err) != test.want {
				t.Errorf("fetching: %v, want %v", err, test.want)
			}
		})
	}
}

func TestFetchSecrets(t *testing.T) {
	r, ca := start(t), newAuthority(t)
	type fetched struct {
		response *discovery.DiscoveryResponse
		err      error
	}
	results := make(chan fetched, 1)
	client := secretClient(t, r)
	go func() {
		response, err := client.FetchSecrets(patient(t), &discovery.DiscoveryRequest{TypeUrl: secretType, ResourceNames: []string{"default"}})
		results <- fetched{response, err}
	}()
	certificate, _ := ca.issue(t, r.Server, leaf(cartID))
	result := <-results
	if result.err != nil || len(result.response.GetResources()) != 1 {
		t.Fatalf("got %v, %v", result.response, result.err)
	}
	checkPair(t, unpack(t, result.response.GetResources()[0]), certificate)
}

func TestClientThatHasEnough(t *testing.T) {
	r, ca := start(t), newAuthority(t)
	ca.issue(t, r.Server, leaf(cartID))
	c := converse(t, r)
	c.send(&discovery.DiscoveryRequest{ResourceNames: []string{"default"}})
	c.receive()
	if err := c.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.stream.Recv(); err == nil || err.Error() != "EOF" {
		t.Errorf("the stream ended with %v", err)
	}
}
