// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package device signs with a private key that is kept outside this process, in an HSM or a KMS.
//
// The key is opened at its first use and kept open. It proves that it is the CA's by signing something harmless. When the
// device stops signing, because its token was pulled, its daemon restarted or its session ended, the key is opened anew, at
// most once in RetryPause. Nobody waits longer for a device than their context says, and a device that hangs holds up a
// bounded number of goroutines.
package device

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/certwright/certwright/signer"
)

const (
	// RetryPause is the least time between the beginnings of two attempts to open a key.
	RetryPause = 5 * time.Second
	// ProofInterval is how old the last good signature may be before Check asks for another one.
	ProofInterval = time.Minute
	// MaxSignatures is how many signatures a device is asked for at the same time.
	MaxSignatures = 16

	// openTimeout bounds an attempt to open a key, which outlives the request that began it.
	openTimeout = 30 * time.Second
)

// reasonKeyUnavailable is the reason of a *signer.CheckError about a device that does not sign.
const reasonKeyUnavailable = "KeyUnavailable"

// Options are what New needs. Only Clock may be left out.
type Options struct {
	// Open opens the key. What it returns is closed if it is an io.Closer.
	Open func(ctx context.Context) (crypto.Signer, error)
	// Public is the public key that belongs to it.
	Public crypto.PublicKey
	// Clock tells the time. Default: the real one.
	Clock clock.PassiveClock
}

// Key is a private key outside this process. It is safe for concurrent use.
type Key struct {
	options Options
	// slots holds one entry for each signature that the device works on.
	slots chan struct{}

	mu      sync.Mutex
	current *handle
	// opening is closed when the attempt to open the key that runs now is over. It is nil if none runs.
	opening chan struct{}
	// failure is why there is no current key, and retryAt when to try again.
	failure error
	retryAt time.Time
	// idle are keys out of use that are still to be closed, which the device may take its time for.
	idle []crypto.Signer
	// proved is when the device last signed.
	proved time.Time
	closed bool
}

// handle is a key that is open, with how many use it now.
type handle struct {
	key   crypto.Signer
	users int
}

// New returns a key. It does no I/O.
func New(o Options) *Key {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return &Key{options: o, slots: make(chan struct{}, MaxSignatures)}
}

// Signer returns the key as something that signs as long as the context allows.
func (k *Key) Signer(ctx context.Context) crypto.Signer { return boundKey{k, ctx} }

// Check returns nil if the device signed lately or signs something harmless now. The error is a *signer.CheckError.
func (k *Key) Check(ctx context.Context) error {
	k.mu.Lock()
	fresh := k.current != nil && k.options.Clock.Since(k.proved) < ProofInterval
	k.mu.Unlock()
	if fresh {
		return nil
	}
	err := prove(k.Signer(ctx), k.options.Public)
	if check := (*signer.CheckError)(nil); err == nil || errors.As(err, &check) {
		return err
	}
	return &signer.CheckError{Reason: reasonKeyUnavailable, Err: err}
}

// Close gives the key back, when the last signature that is under way is done. It does not wait for that.
func (k *Key) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	if h := k.current; h != nil {
		k.current = nil
		h.users++
		k.giveBack(h)
	}
	go closeAll(k.takeIdle())
	return nil
}

// sign asks the device for a signature. If it cannot give one, the key is opened anew and asked once more.
func (k *Key) sign(ctx context.Context, digest []byte, opts crypto.SignerOpts) (signature []byte, err error) {
	for range 2 {
		h, acquireErr := k.acquire(ctx)
		if acquireErr != nil {
			return nil, acquireErr
		}
		if signature, err = k.signWith(ctx, h, digest, opts); err == nil || ctx.Err() != nil {
			return signature, err
		}
	}
	return nil, err
}

// signWith asks an open key for a signature. A goroutine waits for the device, which knows nothing of contexts.
func (k *Key) signWith(ctx context.Context, h *handle, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	select {
	case k.slots <- struct{}{}:
	case <-ctx.Done():
		k.release(h)
		return nil, fmt.Errorf("the device works on %d signatures already: %w", MaxSignatures, ctx.Err())
	}
	type result struct {
		signature []byte
		err       error
	}
	done := make(chan result, 1)
	go func() {
		signature, err := h.key.Sign(rand.Reader, digest, opts)
		if err == nil && len(signature) == 0 {
			err = errors.New("the device gave an empty signature")
		}
		<-k.slots
		if err != nil {
			k.retire(h, err)
		} else {
			k.signed(h)
		}
		done <- result{signature, err}
	}()
	select {
	case r := <-done:
		return r.signature, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for a signature of the device: %w", ctx.Err())
	}
}

// acquire returns the open key, after opening it if need be. Whoever gets it must release it.
func (k *Key) acquire(ctx context.Context) (*handle, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		k.mu.Lock()
		switch {
		case k.closed:
			k.mu.Unlock()
			return nil, errors.New("the key was closed, as its backend is no longer in use")
		case k.current != nil:
			h := k.current
			h.users++
			k.mu.Unlock()
			return h, nil
		case k.opening == nil && k.options.Clock.Now().Before(k.retryAt):
			err := k.failure
			k.mu.Unlock()
			return nil, err
		case k.opening == nil:
			k.opening = make(chan struct{})
			k.retryAt = k.options.Clock.Now().Add(RetryPause)
			go k.open(context.WithoutCancel(ctx), k.opening)
		}
		opening := k.opening
		k.mu.Unlock()
		select {
		case <-opening:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the device to open the key: %w", ctx.Err())
		}
	}
}

// open opens the key and has it prove that it is the right one. What was set aside is closed before, as a module of PKCS #11
// can begin anew only when nothing of it is open.
func (k *Key) open(ctx context.Context, done chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	k.mu.Lock()
	idle := k.takeIdle()
	k.mu.Unlock()
	closeAll(idle)
	key, err := k.options.Open(ctx)
	if err != nil {
		err = fmt.Errorf("opening the key: %w", err)
	} else if err = prove(key, k.options.Public); err != nil {
		closeAll([]crypto.Signer{key})
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.opening = nil
	close(done)
	switch {
	case err != nil:
		k.failure = err
	case k.closed:
		go closeAll([]crypto.Signer{key})
	default:
		k.current, k.failure, k.proved = &handle{key: key}, nil, k.options.Clock.Now()
	}
}

// signed gives a key back that gave a signature.
func (k *Key) signed(h *handle) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.proved = k.options.Clock.Now()
	k.giveBack(h)
}

// release gives a key back that signed, or that nothing was asked of.
func (k *Key) release(h *handle) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.giveBack(h)
}

// retire gives a key back that could not sign, so that nobody uses it again.
func (k *Key) retire(h *handle, why error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current == h {
		k.current, k.failure = nil, fmt.Errorf("the device stopped signing: %w", why)
	}
	k.giveBack(h)
}

// giveBack sets a key that is out of use aside when its last user gives it back. The lock must be held.
func (k *Key) giveBack(h *handle) {
	h.users--
	if h.users > 0 || h == k.current {
		return
	}
	k.idle = append(k.idle, h.key)
	if k.closed {
		go closeAll(k.takeIdle())
	}
}

// takeIdle returns the keys that are to be closed. The lock must be held.
func (k *Key) takeIdle() []crypto.Signer {
	idle := k.idle
	k.idle = nil
	return idle
}

func closeAll(keys []crypto.Signer) {
	for _, key := range keys {
		if c, ok := key.(io.Closer); ok {
			_ = c.Close() // there is nothing to be done about a session that does not end
		}
	}
}
