// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package fair

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrNoPlace says that all places are taken, or those that one key may take.
var ErrNoPlace = errors.New("no place is free")

// Places bound how many things are done at once, and leave room for others: who holds some gets another one only while more are free
// than it holds already. So a key alone gets half of the places, a second one half of the rest, and whoever holds none gets the last
// one. It is safe for concurrent use.
type Places struct {
	taken chan struct{}

	mu   sync.Mutex
	held map[string]int // by key, those who wait for a place included
}

// NewPlaces returns n places, all of them free.
func NewPlaces(n int) *Places {
	return &Places{taken: make(chan struct{}, n), held: map[string]int{}}
}

// Take takes a place for a key until leave is called. It waits for one for the given time at the most; who holds as many as it may does
// not wait. The error is ErrNoPlace or the context's.
func (p *Places) Take(ctx context.Context, key string, patience time.Duration) (leave func(), err error) {
	if !p.claim(key) {
		return nil, ErrNoPlace
	}
	select {
	case p.taken <- struct{}{}:
	default:
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case p.taken <- struct{}{}:
		case <-timer.C:
			p.release(key)
			return nil, ErrNoPlace
		case <-ctx.Done():
			p.release(key)
			return nil, ctx.Err()
		}
	}
	return func() {
		p.release(key)
		<-p.taken
	}, nil
}

// claim counts another place for the key, if it may have one.
func (p *Places) claim(key string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.held[key]; n > 0 && n >= cap(p.taken)-len(p.taken) {
		return false
	}
	p.held[key]++
	return true
}

func (p *Places) release(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[key]--; p.held[key] <= 0 {
		delete(p.held, key)
	}
}
