// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package spiffe

import (
	"context"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"

	"github.com/certwright/certwright/agent/agenttest"
)

// takeAll holds three times as many connections as there may be until the test ends,
// with as many calls in each as there may be. Asked to insist, it makes those anew
// that it loses, as soon as gRPC does.
func (r *running) takeAll(t *testing.T, insist bool) {
	ctx, cancel := context.WithCancel(withHeader(t.Context()))
	var hostile, began sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		hostile.Wait()
	})
	for range 96 {
		client := workload.NewSpiffeWorkloadAPIClient(r.dial(t))
		began.Add(1)
		hostile.Go(func() {
			first := true
			for ; first || insist && ctx.Err() == nil; first = false {
				var streams []grpc.ServerStreamingClient[workload.X509SVIDResponse]
				for range 8 {
					if stream, err := client.FetchX509SVID(ctx, &workload.X509SVIDRequest{}); err == nil {
						streams = append(streams, stream)
					}
				}
				if first {
					began.Done()
				}
				for _, stream := range streams {
					for err := error(nil); err == nil; {
						_, err = stream.Recv()
					}
				}
			}
		})
	}
	began.Wait()
}

// follows waits until a source has the certificate.
func follows(t *testing.T, s *workloadapi.X509Source, want *x509.Certificate, which string) {
	t.Helper()
	for ctx := patient(t); !agenttest.Must(s.GetX509SVID())(t).Certificates[0].Equal(want); {
		select {
		case <-s.Updated():
		case <-ctx.Done():
			t.Fatalf("a client %s did not get the certificate", which)
		}
	}
}

// Clients of another user do not even notice: one that was connected stays so, one
// that comes has its answer at once.
func TestClientOfAnotherUserTakesAll(t *testing.T) {
	r, ca := start(t), newAuthority(t)
	for name, mode := range map[string]os.FileMode{filepath.Dir(r.socket): 0o755, r.socket: 0o777} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	var dialed atomic.Int32 // by the clients of the user, one after the other
	address := workloadapi.WithAddr("unix://" + r.socket)
	user := workloadapi.WithDialOptions(grpc.WithContextDialer(func(ctx context.Context, _ string) (conn net.Conn, err error) {
		dialed.Add(1)
		agenttest.As(t, 65532, func() { conn, err = new(net.Dialer).DialContext(ctx, "unix", r.socket) })
		return conn, err
	}))
	first, _ := ca.issue(t, r.Server, leaf(cartID))
	before := agenttest.Must(workloadapi.NewX509Source(patient(t), workloadapi.WithClientOptions(address, user)))(t)
	t.Cleanup(func() { _ = before.Close() })
	r.takeAll(t, true)
	if svid := agenttest.Must(workloadapi.FetchX509SVID(patient(t), address, user))(t); !svid.Certificates[0].Equal(first) {
		t.Error("got another certificate")
	}
	renewed, _ := ca.issue(t, r.Server, leaf(cartID))
	follows(t, before, renewed, "from before")
	if n := dialed.Load(); n != 2 {
		t.Errorf("connected %d times, want once for each of two clients", n)
	}
}

// Nothing tells the clients of one process apart, but who holds what there is has to give.
func TestClientOfTheSameProcessTakesAll(t *testing.T) {
	r, ca := start(t), newAuthority(t)
	first, _ := ca.issue(t, r.Server, leaf(cartID))
	before := source(t, r)
	r.takeAll(t, false)
	late := source(t, r)
	follows(t, late, first, "from during the attack")
	renewed, _ := ca.issue(t, r.Server, leaf(cartID))
	follows(t, late, renewed, "from during the attack")
	follows(t, before, renewed, "from before")
}
