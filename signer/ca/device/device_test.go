// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package device_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca/device"
)

// machine is a device that does as it is told. Real ones are in the tests of certwright-kms; here is what those never do on demand.
type machine struct {
	crypto.Signer
	opened, closed, signed atomic.Int32

	mu sync.Mutex
	// openErr and signErr are what it answers, hang holds its answers back.
	openErr, signErr error
	hang             chan struct{}
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &machine{Signer: key}
}

// set changes the machine.
func (m *machine) set(openErr, signErr error, hang chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.openErr, m.signErr, m.hang = openErr, signErr, hang
}

func (m *machine) state() (hang chan struct{}, openErr, signErr error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hang, m.openErr, m.signErr
}

func (m *machine) open(context.Context) (crypto.Signer, error) {
	m.opened.Add(1)
	hang, err, _ := m.state()
	if hang != nil {
		<-hang
	}
	if err != nil {
		return nil, err
	}
	return &session{machine: m}, nil
}

// session is what the machine opens.
type session struct {
	*machine
	over atomic.Bool
}

func (s *session) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.signed.Add(1)
	hang, _, err := s.state()
	if hang != nil {
		<-hang
	}
	if s.over.Load() {
		return nil, errors.New("used after it was closed")
	}
	if err != nil {
		return nil, err
	}
	return s.Signer.Sign(random, digest, opts)
}

func (s *session) Close() error {
	if s.over.Swap(true) {
		return errors.New("closed twice")
	}
	s.closed.Add(1)
	return nil
}

func sign(ctx context.Context, k *device.Key) error {
	_, err := k.Signer(ctx).Sign(nil, make([]byte, 32), crypto.SHA256)
	return err
}

// pass lets time pass, in a bubble of testing/synctest.
func pass(d time.Duration) { <-time.After(d) }

func wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	var check *signer.CheckError
	if !errors.As(err, &check) || check.Reason != reason || check.Signs {
		t.Errorf("got %T %v, want a *signer.CheckError of reason %s", err, err, reason)
	}
}

func TestOpensOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		k := device.New(device.Options{Open: m.open, Public: m.Public()})
		if m.opened.Load() != 0 {
			t.Error("New opened the key")
		}
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if err := sign(t.Context(), k); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if m.opened.Load() != 1 || m.closed.Load() != 0 {
			t.Errorf("opened %d times, closed %d times", m.opened.Load(), m.closed.Load())
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if m.closed.Load() != 1 {
			t.Errorf("closed %d times", m.closed.Load())
		}
		if err := sign(t.Context(), k); err == nil {
			t.Error("signed after it was closed")
		}
	})
}

func TestOpensAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		k := device.New(device.Options{Open: m.open, Public: m.Public()})
		if err := sign(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		m.set(errors.New("no device"), errors.New("session over"), nil)
		pass(time.Hour)
		for range 10 {
			if err := sign(t.Context(), k); err == nil || !strings.Contains(err.Error(), "no device") {
				t.Errorf("%v, want why it cannot be opened", err)
			}
		}
		if m.opened.Load() != 2 || m.closed.Load() != 1 {
			t.Errorf("opened %d times, closed %d times, want 2 and 1", m.opened.Load(), m.closed.Load())
		}
		wantReason(t, k.Check(t.Context()), "KeyUnavailable")
		m.set(nil, nil, nil)
		if err := sign(t.Context(), k); err == nil {
			t.Errorf("opened again within %s", device.RetryPause)
		}
		pass(device.RetryPause)
		if err := sign(t.Context(), k); err != nil {
			t.Error(err)
		}
		if err := k.Check(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A device that opens and then does not sign is not opened without end.
func TestOpensButDoesNotSign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		m.set(nil, errors.New("out of order"), nil)
		k := device.New(device.Options{Open: m.open, Public: m.Public()})
		for range 100 {
			if err := sign(t.Context(), k); err == nil || !strings.Contains(err.Error(), "out of order") {
				t.Errorf("%v, want the device's words", err)
			}
		}
		if m.opened.Load() != 1 || m.closed.Load() != 1 {
			t.Errorf("opened %d times, closed %d times, want 1 and 1", m.opened.Load(), m.closed.Load())
		}
	})
}

func TestCheckAsksNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		k := device.New(device.Options{Open: m.open, Public: m.Public()})
		for range 10 {
			if err := k.Check(t.Context()); err != nil {
				t.Error(err)
			}
		}
		first := m.signed.Load()
		pass(device.ProofInterval)
		for range 10 {
			if err := k.Check(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if again := m.signed.Load() - first; first > 2 || again != 1 {
			t.Errorf("%d signatures at first and %d later, want at most 2, and 1", first, again)
		}
		m.set(nil, errors.New("out of order"), nil)
		pass(device.ProofInterval)
		wantReason(t, k.Check(t.Context()), "KeyUnavailable")
	})
}

func TestHangs(t *testing.T) {
	for name, opened := range map[string]bool{"when it opens": false, "when it signs": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t)
				k := device.New(device.Options{Open: m.open, Public: m.Public()})
				if opened {
					if err := sign(t.Context(), k); err != nil {
						t.Fatal(err)
					}
				}
				hang := make(chan struct{})
				m.set(nil, nil, hang)
				for range 100 {
					go func() {
						ctx, cancel := context.WithTimeout(t.Context(), time.Second)
						defer cancel()
						began := time.Now()
						if err := sign(ctx, k); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
							t.Errorf("%v after %s, want the context's error after 1s", err, time.Since(began))
						}
					}()
				}
				pass(2 * time.Second)
				if asked := m.signed.Load(); asked > device.MaxSignatures+2 {
					t.Errorf("the device was asked for %d signatures at the same time", asked)
				}
				if err := k.Close(); err != nil {
					t.Error(err)
				}
				if m.closed.Load() != 0 {
					t.Error("closed while the device was signing")
				}
				close(hang)
				synctest.Wait()
				if m.closed.Load() != 1 || m.opened.Load() != 1 {
					t.Errorf("opened %d times, closed %d times, want 1 and 1", m.opened.Load(), m.closed.Load())
				}
			})
		})
	}
}
