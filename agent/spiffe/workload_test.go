// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package spiffe

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/certwright/certwright/agent/agenttest"
)

// patience is how long the tests wait for what is to happen at once.
const patience = 20 * time.Second

func patient(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func source(t *testing.T, r *running) *workloadapi.X509Source {
	t.Helper()
	s := agenttest.Must(workloadapi.NewX509Source(patient(t), workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+r.socket))))(t)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestX509SourceFollowsUpdates(t *testing.T) {
	r, ca := start(t), newAuthority(t)
	first, _ := ca.issue(t, r.Server, leaf(cartID))
	s := source(t, r)
	svid := agenttest.Must(s.GetX509SVID())(t)
	if svid.ID.String() != cartID || !svid.Certificates[0].Equal(first) || !svid.Certificates[1].Equal(ca.Intermediate) {
		t.Errorf("got %v with %d certificates", svid.ID, len(svid.Certificates))
	}
	second, key := ca.issue(t, r.Server, leaf(cartID))
	select {
	case <-s.Updated():
	case <-patient(t).Done():
		t.Fatal("no update")
	}
	svid = agenttest.Must(s.GetX509SVID())(t)
	if !svid.Certificates[0].Equal(second) || !key.Public().(*ecdsa.PublicKey).Equal(svid.PrivateKey.Public()) {
		t.Error("the certificate or key is not the renewed one")
	}
}

func TestMutualTLSBetweenSources(t *testing.T) {
	ca := newAuthority(t)
	serving, asking := start(t), start(t)
	const askingID = "spiffe://cluster.local/ns/shop/sa/checkout"
	ca.issue(t, serving.Server, leaf(cartID))
	ca.issue(t, asking.Server, leaf(askingID))
	server, client := source(t, serving), source(t, asking)

	listener := agenttest.Must(net.Listen("tcp", "127.0.0.1:0"))(t)
	secure := agenttest.Must(spiffetls.NewListenerWithMode(t.Context(), listener, spiffetls.MTLSServerWithSource(
		tlsconfig.AuthorizeID(spiffeid.RequireFromString(askingID)), server)))(t)
	t.Cleanup(func() { _ = secure.Close() })
	go func() {
		for {
			connection, err := secure.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(connection, connection)
			_ = connection.Close()
		}
	}()
	echo := func() error {
		connection, err := spiffetls.DialWithMode(patient(t), "tcp", listener.Addr().String(), spiffetls.MTLSClientWithSource(
			tlsconfig.AuthorizeID(spiffeid.RequireFromString(cartID)), client))
		if err != nil {
			return err
		}
		defer connection.Close()
		_ = connection.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(connection, "hello"); err != nil {
			return err
		}
		_, err = io.ReadFull(connection, make([]byte, 5))
		return err
	}
	if err := echo(); err != nil {
		t.Fatal(err)
	}
	ca.issue(t, serving.Server, leaf(cartID))
	<-server.Updated()
	if err := echo(); err != nil {
		t.Errorf("after renewal: %v", err)
	}
	// A certificate of another authority is not trusted, whatever ID it bears.
	newAuthority(t).issue(t, serving.Server, leaf(cartID))
	<-server.Updated()
	if err := echo(); err == nil {
		t.Error("a certificate of an authority that is in no bundle was trusted")
	}
}

// contexts collects what a watcher is told.
type contexts struct {
	updates chan *workloadapi.X509Context
	errors  chan error
}

func (c contexts) OnX509ContextUpdate(update *workloadapi.X509Context) { c.updates <- update }

func (c contexts) OnX509ContextWatchError(err error) {
	select {
	case c.errors <- err:
	default:
	}
}

func TestWatcherStartsBeforeTheFirstCertificate(t *testing.T) {
	r, ca := start(t), newAuthority(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client := agenttest.Must(workloadapi.New(ctx, workloadapi.WithAddr("unix://"+r.socket)))(t)
	defer client.Close()
	watcher := contexts{make(chan *workloadapi.X509Context, 8), make(chan error, 8)}
	ended := make(chan error, 1)
	go func() { ended <- client.WatchX509Context(ctx, watcher) }()

	ca.issue(t, r.Server, leaf(cartID))
	<-watcher.updates
	ca.issue(t, r.Server, leaf()) // takes the SVID away
	if err := <-watcher.errors; status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "it has 0 URIs") {
		t.Errorf("without a SPIFFE ID: %v", err)
	}
	renewed, _ := ca.issue(t, r.Server, leaf(cartID))
	select {
	case update := <-watcher.updates:
		bundle := agenttest.Must(update.Bundles.GetX509BundleForTrustDomain(spiffeid.RequireTrustDomainFromString("cluster.local")))(t)
		if !update.DefaultSVID().Certificates[0].Equal(renewed) || !bundle.Equal(x509bundle.FromX509Authorities(bundle.TrustDomain(), []*x509.Certificate{ca.Root})) {
			t.Error("not what was served last")
		}
	case <-patient(t).Done():
		t.Fatal("the client did not come back")
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) && status.Code(err) != codes.Canceled {
		t.Errorf("the watch ended with %v", err)
	}
}

func TestBundlesAreSentWhenTheyChange(t *testing.T) {
	r, ca := start(t), newAuthority(t)
	ca.issue(t, r.Server, leaf(cartID))
	stream := agenttest.Must(workload.NewSpiffeWorkloadAPIClient(r.dial(t)).FetchX509Bundles(withHeader(patient(t)), &workload.X509BundlesRequest{}))(t)
	first := agenttest.Must(stream.Recv())(t)
	if got := first.GetBundles()["spiffe://cluster.local"]; string(got) != string(ca.Root.Raw) || len(first.GetBundles()) != 1 {
		t.Errorf("bundles: %v", first)
	}
	ca.issue(t, r.Server, leaf(cartID)) // another certificate, the same bundle
	other := newAuthority(t)
	other.issue(t, r.Server, leaf(cartID))
	second := agenttest.Must(stream.Recv())(t)
	if got := second.GetBundles()["spiffe://cluster.local"]; string(got) != string(other.Root.Raw) {
		t.Error("the second message does not hold the new bundle: was the first one sent again?")
	}
}

func withHeader(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "workload.spiffe.io", "true")
}

// TestSecurityHeader calls every method with metadata that a forged request might have.
func TestSecurityHeader(t *testing.T) {
	r, ca := start(t), newAuthority(t)
	ca.issue(t, r.Server, leaf(cartID))
	client := workload.NewSpiffeWorkloadAPIClient(r.dial(t))
	first := func(_ any, err error) error { return err }
	methods := map[string]struct {
		call func(context.Context) error
		with codes.Code
	}{
		"FetchX509SVID": {func(ctx context.Context) error {
			return receiveOne(client.FetchX509SVID(ctx, &workload.X509SVIDRequest{}))
		}, codes.OK},
		"FetchX509Bundles": {func(ctx context.Context) error {
			return receiveOne(client.FetchX509Bundles(ctx, &workload.X509BundlesRequest{}))
		}, codes.OK},
		"FetchJWTBundles": {func(ctx context.Context) error {
			return receiveOne(client.FetchJWTBundles(ctx, &workload.JWTBundlesRequest{}))
		}, codes.Unimplemented},
		"FetchJWTSVID": {func(ctx context.Context) error {
			return first(client.FetchJWTSVID(ctx, &workload.JWTSVIDRequest{}))
		}, codes.Unimplemented},
		"ValidateJWTSVID": {func(ctx context.Context) error {
			return first(client.ValidateJWTSVID(ctx, &workload.ValidateJWTSVIDRequest{}))
		}, codes.Unimplemented},
	}
	for name, method := range methods {
		t.Run(name, func(t *testing.T) {
			if err := method.call(withHeader(patient(t))); status.Code(err) != method.with {
				t.Errorf("with the header: %v", err)
			}
			for _, value := range []string{"", "false", "TRUE", "true,true", "1"} {
				ctx := patient(t)
				if value != "" {
					ctx = metadata.AppendToOutgoingContext(ctx, "workload.spiffe.io", value)
				}
				if err := method.call(ctx); status.Code(err) != codes.InvalidArgument {
					t.Errorf("header %q: %v, want InvalidArgument", value, err)
				}
			}
		})
	}
}

// receiveOne opens a stream, receives its first message and ends it.
func receiveOne[T any](stream grpc.ServerStreamingClient[T], err error) error {
	if err == nil {
		_, err = stream.Recv()
	}
	return err
}

// TestThousandUpdatesPastAStalledClient has one client that stops reading.
func TestThousandUpdatesPastAStalledClient(t *testing.T) {
	r, ca := start(t), newAuthority(t)
	key := newKey(t)
	update := func() *x509.Certificate {
		certificate := ca.sign(t, leaf(cartID), key)
		if err := r.Update([]*x509.Certificate{certificate, ca.Intermediate}, key, []*x509.Certificate{ca.Root}); err != nil {
			t.Fatal(err)
		}
		return certificate
	}
	update()
	open := func() grpc.ServerStreamingClient[workload.X509SVIDResponse] {
		client := workload.NewSpiffeWorkloadAPIClient(r.dial(t, grpc.WithStaticStreamWindowSize(64<<10)))
		return agenttest.Must(client.FetchX509SVID(withHeader(patient(t)), &workload.X509SVIDRequest{}))(t)
	}
	stalled, reading := open(), open()
	agenttest.Must(stalled.Recv())(t)
	agenttest.Must(reading.Recv())(t)
	for range 1000 {
		last := update()
		if !strings.HasPrefix(string(agenttest.Must(reading.Recv())(t).GetSvids()[0].GetX509Svid()), string(last.Raw)) {
			t.Error("a client that reads at once was sent something else than the newest")
		}
	}
	last := update()
	messages := 1
	for ; !strings.HasPrefix(string(agenttest.Must(stalled.Recv())(t).GetSvids()[0].GetX509Svid()), string(last.Raw)); messages++ {
	}
	if messages > 200 {
		t.Errorf("%d messages were waiting for the stalled client", messages)
	}
}

func TestStreamsEndAtShutdown(t *testing.T) {
	r, ca := start(t), newAuthority(t)
	ca.issue(t, r.Server, leaf(cartID))
	client := workload.NewSpiffeWorkloadAPIClient(r.dial(t))
	stream := agenttest.Must(client.FetchX509SVID(withHeader(patient(t)), &workload.X509SVIDRequest{}))(t)
	agenttest.Must(stream.Recv())(t)
	began := time.Now()
	r.stop()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "ending") {
		t.Errorf("the stream ended with %v", err)
	}
}
