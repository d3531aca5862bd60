// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package spiffe

import (
	"slices"
	"testing"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	envoysecret "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/certwright/certwright/agent/agenttest"
)

// deltaConversation is a stream as Envoy leads it with api_type DELTA_GRPC.
type deltaConversation struct {
	t      testing.TB
	stream envoysecret.SecretDiscoveryService_DeltaSecretsClient
}

func converseDelta(t testing.TB, r *running) *deltaConversation {
	return &deltaConversation{t, agenttest.Must(secretClient(t, r).DeltaSecrets(patient(t)))(t)}
}

func (c *deltaConversation) send(request *discovery.DeltaDiscoveryRequest) {
	c.t.Helper()
	request.TypeUrl = secretType
	if err := c.stream.Send(request); err != nil {
		c.t.Fatal(err)
	}
}

// receive returns the next response, its secrets by name, and acknowledges it.
func (c *deltaConversation) receive() (*discovery.DeltaDiscoveryResponse, map[string]*tlsv3.Secret) {
	c.t.Helper()
	response := agenttest.Must(c.stream.Recv())(c.t)
	if response.GetTypeUrl() != secretType || response.GetNonce() == "" {
		c.t.Errorf("type %q, nonce %q", response.GetTypeUrl(), response.GetNonce())
	}
	secrets := make(map[string]*tlsv3.Secret)
	for _, resource := range response.GetResources() {
		secret := unpack(c.t, resource.GetResource())
		if secret.GetName() != resource.GetName() || resource.GetVersion() == "" {
			c.t.Errorf("resource %q, version %q, holds secret %q", resource.GetName(), resource.GetVersion(), secret.GetName())
		}
		secrets[resource.GetName()] = secret
	}
	c.send(&discovery.DeltaDiscoveryRequest{ResponseNonce: response.GetNonce()})
	return response, secrets
}

func TestDeltaSendsWhatChanged(t *testing.T) {
	r, ca := start(t), newAuthority(t)
	c := converseDelta(t, r)
	c.send(&discovery.DeltaDiscoveryRequest{Node: node(), ResourceNamesSubscribe: []string{"default", "ROOTCA"}})
	certificate, _ := ca.issue(t, r.Server, leaf(cartID))
	_, secrets := c.receive()
	if len(secrets) != 2 {
		t.Fatalf("got %d secrets", len(secrets))
	}
	checkPair(t, secrets["default"], certificate)
	checkAnchors(t, secrets["ROOTCA"], certificate, ca.Intermediate)

	renewed, _ := ca.issue(t, r.Server, leaf(cartID))
	_, secrets = c.receive()
	if len(secrets) != 1 {
		t.Errorf("after a renewal: %d secrets", len(secrets))
	}
	checkPair(t, secrets["default"], renewed)

	// What is asked for again is sent again; what is given up is not.
	c.send(&discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"ROOTCA"}, ResourceNamesUnsubscribe: []string{"default"}})
	if _, secrets = c.receive(); len(secrets) != 1 || secrets["ROOTCA"] == nil {
		t.Errorf("asked again for ROOTCA: %v", secrets)
	}
	ca.issue(t, r.Server, leaf(cartID))
	c.send(&discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"spiffe://cluster.local"}})
	if _, secrets = c.receive(); len(secrets) != 1 || secrets["spiffe://cluster.local"] == nil {
		t.Errorf("after giving up default: %v", secrets)
	}
}

func TestDeltaAfterAnotherStream(t *testing.T) {
	r, ca := start(t), newAuthority(t)
	ca.issue(t, r.Server, leaf(cartID))
	c := converseDelta(t, r)
	c.send(&discovery.DeltaDiscoveryRequest{}) // names none, wants all
	response, secrets := c.receive()
	if len(secrets) != 2 {
		t.Fatalf("got %d secrets", len(secrets))
	}
	versions := make(map[string]string)
	for _, resource := range response.GetResources() {
		versions[resource.GetName()] = resource.GetVersion()
	}
	renewed, _ := ca.issue(t, r.Server, leaf(cartID))
	c = converseDelta(t, r)
	c.send(&discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"default", "ROOTCA"}, InitialResourceVersions: versions})
	_, secrets = c.receive()
	if len(secrets) != 1 {
		t.Errorf("got %d secrets, want the one that changed", len(secrets))
	}
	checkPair(t, secrets["default"], renewed)
}

func TestDeltaNamesThatAreNotThere(t *testing.T) {
	r, ca := start(t), newAuthority(t)
	ca.issue(t, r.Server, leaf())
	seen := make(chan struct{})
	r.log.when("does not exist", seen)
	c := converseDelta(t, r)
	c.send(&discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"default", cartID}})
	response, secrets := c.receive()
	if len(secrets) != 1 || !slices.Equal(response.GetRemovedResources(), []string{cartID}) {
		t.Errorf("%d secrets, removed %q", len(secrets), response.GetRemovedResources())
	}
	<-seen
	// It exists as soon as the certificate has that name.
	certificate, _ := ca.issue(t, r.Server, leaf(cartID))
	_, secrets = c.receive()
	checkPair(t, secrets[cartID], certificate)
}

func TestDeltaRejection(t *testing.T) {
	r, ca := start(t), newAuthority(t)
	ca.issue(t, r.Server, leaf(cartID))
	c := converseDelta(t, r)
	c.send(&discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"default"}})
	response := agenttest.Must(c.stream.Recv())(t)
	seen := make(chan struct{})
	r.log.when("no such curve", seen)
	c.send(&discovery.DeltaDiscoveryRequest{ResponseNonce: response.GetNonce(), ErrorDetail: &status.Status{Code: 3, Message: "no such curve"}})
	<-seen
	renewed, _ := ca.issue(t, r.Server, leaf(cartID))
	_, secrets := c.receive()
	checkPair(t, secrets["default"], renewed)
}

func TestDeltaRefusals(t *testing.T) {
	r, ca := start(t), newAuthority(t)
	ca.issue(t, r.Server, leaf(cartID))
	stream := agenttest.Must(secretClient(t, r).DeltaSecrets(patient(t)))(t)
	for i := range maxNames + 1 { // one by one, since they add up
		_ = stream.Send(&discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{string(rune('A' + i))}})
	}
	for {
		_, err := stream.Recv()
		if err == nil {
			continue
		}
		if grpcstatus.Code(err) != codes.InvalidArgument {
			t.Errorf("many names: %v", err)
		}
		break
	}
	stream = agenttest.Must(secretClient(t, r).DeltaSecrets(patient(t)))(t)
	_ = stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: "type.googleapis.com/envoy.config.cluster.v3.Cluster"})
	if _, err := stream.Recv(); grpcstatus.Code(err) != codes.InvalidArgument {
		t.Errorf("another type: %v", err)
	}
}
