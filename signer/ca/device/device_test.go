// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package device_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
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

func (m *machine) state() (openErr, signErr error, hang chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.openErr, m.signErr, m.hang
}

func (m *machine) open(context.Context) (crypto.Signer, error) {
	m.opened.Add(1)
	err, _, hang := m.state()
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
	_, err, hang := s.state()
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
		time.Sleep(time.Hour)
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
		time.Sleep(device.RetryPause)
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
		time.Sleep(device.ProofInterval)
		for range 10 {
			if err := k.Check(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if again := m.signed.Load() - first; first > 2 || again != 1 {
			t.Errorf("%d signatures at first and %d later, want at most 2, and 1", first, again)
		}
		m.set(nil, errors.New("out of order"), nil)
		time.Sleep(device.ProofInterval)
		wantReason(t, k.Check(t.Context()), "KeyUnavailable")
	})
}

func TestAnotherKey(t *testing.T) {
	m, other := newMachine(t), newMachine(t)
	for name, k := range map[string]*device.Key{
		"says so": device.New(device.Options{Open: m.open, Public: other.Public()}),
		"lies": device.New(device.Options{Public: other.Public(), Open: func(context.Context) (crypto.Signer, error) {
			return liar{m.Signer, other.Public()}, nil
		}}),
		"of another kind": device.New(device.Options{Open: m.open, Public: rsaKey(t).Public()}),
	} {
		t.Run(name, func(t *testing.T) {
			if err := sign(t.Context(), k); err == nil {
				t.Error("a wrong key signed")
			}
			wantReason(t, k.Check(t.Context()), "KeyMismatch")
		})
	}
}

type liar struct {
	crypto.Signer
	public crypto.PublicKey
}

func (l liar) Public() crypto.PublicKey { return l.public }

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
				time.Sleep(2 * time.Second)
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

// Google's KMS binds a key to one algorithm.
func TestAlgorithmOfTheKey(t *testing.T) {
	key := rsaKey(t)
	for _, algorithm := range []x509.SignatureAlgorithm{
		x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
	} {
		k := device.New(device.Options{Public: key.Public(), Open: func(context.Context) (crypto.Signer, error) {
			return bound{key, algorithm}, nil
		}})
		if err := k.Check(t.Context()); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
		if got := k.Signer(t.Context()).(interface {
			SignatureAlgorithm() x509.SignatureAlgorithm
		}).SignatureAlgorithm(); got != algorithm {
			t.Errorf("the key signs with %s, want %s", got, algorithm)
		}
	}
}

// bound is a key that signs with one algorithm only.
type bound struct {
	crypto.Signer
	algorithm x509.SignatureAlgorithm
}

func (b bound) SignatureAlgorithm() x509.SignatureAlgorithm { return b.algorithm }

func (b bound) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	_, pss := opts.(*rsa.PSSOptions)
	if want := strings.Contains(b.algorithm.String(), "PSS"); pss != want {
		return nil, errors.New("the key is bound to another padding")
	}
	return b.Signer.Sign(random, digest, opts)
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
