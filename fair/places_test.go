// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package fair

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// takeAll takes as many places as the key gets at once.
func takeAll(t *testing.T, p *Places, key string) (leave []func()) {
	t.Helper()
	for {
		l, err := p.Take(t.Context(), key, time.Second)
		if errors.Is(err, ErrNoPlace) {
			return leave
		} else if err != nil {
			t.Fatal(err)
		}
		leave = append(leave, l)
	}
}

// However many places one key wants, there is one left for the next.
func TestPlacesAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPlaces(16)
		var all []func()
		for i, want := range []int{8, 4, 2, 1, 1} {
			began := time.Now()
			leave := takeAll(t, p, fmt.Sprint("key ", i))
			if len(leave) != want || (time.Since(began) > 0 && i < 4) {
				t.Errorf("key %d got %d places in %s, want %d at once", i, len(leave), time.Since(began), want)
			}
			all = append(all, leave...)
		}
		if _, err := p.Take(t.Context(), "one more", time.Second); !errors.Is(err, ErrNoPlace) {
			t.Errorf("error %v although all are taken", err)
		}
		for _, leave := range all {
			leave()
		}
		if len(p.held) > 0 || len(p.taken) > 0 {
			t.Errorf("held are %v, taken %d, after all have left", p.held, len(p.taken))
		}
	})
}

func TestPlaceIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPlaces(1)
		leave, err := p.Take(t.Context(), "a", 0)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, leave)
		began := time.Now()
		next, err := p.Take(t.Context(), "b", time.Minute)
		if err != nil || time.Since(began) != time.Second {
			t.Fatalf("error %v after %s, want the place when it is free", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.Take(ctx, "c", time.Minute); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want that of the context", err)
		}
		next()
		if len(p.held) > 0 {
			t.Errorf("held are %v by those who went away", p.held)
		}
	})
}

// A namespace whose requests all hang must not keep the places from a request that comes now and then.
func TestSlowRequesterLeavesPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPlaces(16)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		var slow atomic.Int64
		for range 500 {
			all.Go(func() {
				for ctx.Err() == nil {
					if leave, err := p.Take(ctx, "slow", 100*time.Millisecond); err == nil {
						slow.Add(1)
						<-time.After(5 * time.Second)
						leave()
					}
					<-time.After(8 * time.Second)
				}
			})
		}
		for range 100 {
			<-time.After(time.Second)
			leave, err := p.Take(t.Context(), "victim", 100*time.Millisecond)
			if err != nil {
				t.Fatalf("the other one gets no place: %v", err)
			}
			leave()
		}
		cancel()
		all.Wait()
		if slow.Load() < 100 {
			t.Errorf("the slow one got %d places in 100 seconds", slow.Load())
		}
	})
}
