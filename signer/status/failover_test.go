// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer/internal/example"
	"github.com/certwright/certwright/signer/issue"
)

// bubbleClock tells a time at which the CAs of the tests are valid, and which passes as that of a synctest bubble does.
type bubbleClock struct{ began time.Time }

func (c bubbleClock) Now() time.Time                  { return example.Now.Add(time.Since(c.began)) }
func (c bubbleClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// server is a backend whose server can break.
type server struct {
	// broken, if set, is what its calls do.
	broken atomic.Pointer[func(ctx context.Context) error]
	signed atomic.Int64
	// chain is what it signs: all requests of the traffic ask for the same.
	once  sync.Once
	chain []*x509.Certificate
}

func (s *server) Check(ctx context.Context) error {
	if f := s.broken.Load(); f != nil {
		return (*f)(ctx)
	}
	return nil
}

func (s *server) Sign(ctx context.Context, req csr.Request) ([]*x509.Certificate, error) {
	<-time.After(5 * time.Millisecond)
	if err := s.Check(ctx); err != nil {
		return nil, err
	}
	s.signed.Add(1)
	s.once.Do(func() { s.chain, _ = example.Honest(req) })
	return s.chain, nil
}

func (s *server) TrustAnchors(context.Context) ([]*x509.Certificate, error) {
	return []*x509.Certificate{example.Root.Certificate}, nil
}

// traffic is a Signer with a first and a second backend under a steady stream of requests, as the manager would run it.
type traffic struct {
	*watcher
	first, second *server
	workers       chan struct{}

	mu   sync.Mutex
	took map[int]time.Duration // by the second in which the request came
}

const perSecond = 20

// run has requests come for a while, while the Signer is looked at as often as it wants.
func (tr *traffic) run(t *testing.T, seconds int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var looking sync.WaitGroup
	looking.Go(func() { tr.look(ctx, t, "internal") })
	synctest.Wait()
	var all sync.WaitGroup
	req := example.Request(t, nil, nil)
	for i := range seconds * perSecond {
		all.Go(func() { tr.request(t, example.SignerName, req, i) })
		<-time.After(time.Second / perSecond)
	}
	all.Wait()
	cancel()
	looking.Wait()
}

// look reconciles the Signer's status when it is due and when something changes.
func (tr *traffic) look(ctx context.Context, t *testing.T, name string) {
	for {
		result, err := tr.status.Reconcile(ctx, ctrl.Request{NamespacedName: client.ObjectKey{Name: name}})
		if err != nil && ctx.Err() == nil {
			t.Errorf("looking at the Signer: %v", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tr.status.Registry.Changed():
		case <-time.After(result.RequeueAfter):
		}
	}
}

// request asks until there is a certificate.
func (tr *traffic) request(t *testing.T, signerName string, req csr.Request, i int) {
	req.UID = types.UID(fmt.Sprint(i))
	came := time.Now()
	s, err := tr.status.Registry.Lookup(t.Context(), signerName)
	if err != nil {
		t.Error(err)
		return
	}
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		tr.workers <- struct{}{}
		_, err := tr.signing.Sign(t.Context(), req.WithDuration(time.Hour), 0, s)
		<-tr.workers
		if err == nil {
			break
		}
		if refused := (*issue.Refusal)(nil); errors.As(err, &refused) {
			t.Errorf("trouble became a verdict: %v", err)
			return
		}
		<-time.After(pause)
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.took[i/perSecond] = max(tr.took[i/perSecond], time.Since(came))
}

func newTraffic(t *testing.T, backends ...string) *traffic {
	t.Helper()
	api := newCluster(t, []*v1alpha1.Signer{example.Signer(backends...)})
	tr := &traffic{watcher: watch(api, bubbleClock{time.Now()}), first: &server{}, second: &server{}, took: map[int]time.Duration{}, workers: make(chan struct{}, 64)}
	tr.backends["first"], tr.backends["second"] = tr.first, tr.second
	return tr
}

// When the first backend breaks, in whatever way, requests are slow for some seconds at the most, get their certificates from the second
// one, and from the first one again once that is well.
func TestFailover(t *testing.T) {
	const begins, ends, last = 5, 25, 70
	for name, broken := range map[string]func(over <-chan struct{}) func(context.Context) error{
		"it refuses connections": func(<-chan struct{}) func(context.Context) error {
			return func(context.Context) error { return errors.New("connection refused") }
		},
		"it hangs": func(<-chan struct{}) func(context.Context) error {
			return func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		},
		"it hangs where no context reaches": func(over <-chan struct{}) func(context.Context) error {
			return func(context.Context) error { <-over; return errors.New("at last") }
		},
		"it answers every other time": func(<-chan struct{}) func(context.Context) error {
			var n atomic.Int64
			return func(context.Context) error {
				if n.Add(1)%2 == 0 {
					return nil
				}
				return errors.New("500")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTraffic(t, "first", "second")
				over := make(chan struct{})
				f := broken(over)
				time.AfterFunc(begins*time.Second, func() { tr.first.broken.Store(&f) })
				var until int64
				time.AfterFunc(ends*time.Second, func() {
					tr.first.broken.Store(nil)
					close(over)
					until = tr.first.signed.Load()
				})
				tr.run(t, last)
				for second := range last {
					limit := 50 * time.Millisecond
					if second >= begins && second < begins+10 {
						limit = 5*time.Second + time.Second
					}
					if tr.took[second] > limit {
						t.Errorf("a request of second %d took %s", second, tr.took[second])
					}
				}
				if n := tr.first.signed.Load() - until; n < 5*perSecond {
					t.Errorf("the first backend signed %d after it was well again", n)
				}
				if n := tr.first.signed.Load() + tr.second.signed.Load(); n != last*perSecond {
					t.Errorf("%d certificates were signed for %d requests", n, last*perSecond)
				}
				if n := len(slices.DeleteFunc(tr.api.Writes, func(s string) bool { return !strings.HasPrefix(s, "update status") })); n > last/3 {
					t.Errorf("%d writes of the status in %d seconds", n, last)
				}
				s := tr.signer(t, "internal").Status
				if s.Serving != "first" || s.Backends[0].State != v1alpha1.BackendServing {
					t.Errorf("in the end %+v", s)
				}
			})
		})
	}
}

// Without another backend, requests wait for the one there is, and all get their certificates soon after it is well.
func TestOutageWithoutAnotherBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTraffic(t, "first")
		const begins, ends, last = 2, 15, 60
		f := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		time.AfterFunc(begins*time.Second, func() { tr.first.broken.Store(&f) })
		time.AfterFunc(ends*time.Second, func() { tr.first.broken.Store(nil) })
		tr.run(t, last)
		if n := tr.first.signed.Load(); n != last*perSecond {
			t.Errorf("%d certificates were signed for %d requests", n, last*perSecond)
		}
		if took := tr.took[last-1]; took > 50*time.Millisecond {
			t.Errorf("the last one took %s", took)
		}
	})
}

// A Signer whose backend hangs must not hold up another one, although the same workers sign for both.
func TestHangingBackendHoldsUpNoOtherSigner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTraffic(t, "first")
		const other = "example.com/other"
		o := example.Called(example.Signer("second"), "other", "signer-2", 0)
		o.Spec.SignerName = other
		if err := tr.api.Client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		over := make(chan struct{})
		f := func(context.Context) error { <-over; return errors.New("at last") }
		time.AfterFunc(2*time.Second, func() { tr.first.broken.Store(&f) })
		time.AfterFunc(15*time.Second, func() { tr.first.broken.Store(nil); close(over) })
		ctx, cancel := context.WithCancel(t.Context())
		go tr.look(ctx, t, "other")
		synctest.Wait()
		control := &traffic{watcher: tr.watcher, workers: tr.workers, took: map[int]time.Duration{}}
		req := example.Granted(t)
		var all sync.WaitGroup
		all.Go(func() {
			for i := range 30 * perSecond {
				all.Go(func() { control.request(t, other, req, -1-i) })
				<-time.After(time.Second / perSecond)
			}
		})
		tr.run(t, 30)
		all.Wait()
		cancel()
		for second, took := range control.took {
			if took > 50*time.Millisecond {
				t.Errorf("a request to the other Signer took %s in second %d", took, -second)
			}
		}
	})
}

// An event and a metric tell of each change, once.
func TestChangesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTraffic(t, "first", "second")
		f := func(context.Context) error { return errors.New("connection refused") }
		time.AfterFunc(5*time.Second, func() { tr.first.broken.Store(&f) })
		time.AfterFunc(10*time.Second, func() { tr.first.broken.Store(nil) })
		tr.run(t, 30)
		events := slices.DeleteFunc(slices.Clone(tr.api.Writes), func(s string) bool { return s != "create Event" })
		if len(events) != 2 {
			t.Errorf("%d events, want one when it went down and one when it came back", len(events))
		}
		for state, want := range map[string]float64{"Down": 1, "Probing": 1, "Serving": 1} {
			if n := tr.count(t, "certwright_signer_backend_changes_total", "first", state); n != want {
				t.Errorf("%v changes to %s counted, want %v", n, state, want)
			}
		}
		if n := tr.count(t, "certwright_signer_backend_up"); n != 2 {
			t.Errorf("%v backends are up, want 2", n)
		}
	})
}
