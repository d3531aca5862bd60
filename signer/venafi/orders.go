// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package venafi

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/certwright/certwright/signer/remote"
)

const (
	// keyOrders is the entry of the backend's own Secret with the orders that wait, as JSON.
	keyOrders = "orders"
	// Kubernetes deletes a request after at most 24 hours; nobody asks for it later.
	orderLife = 25 * time.Hour
	// maxOrders bounds memory, maxSaved the Secret.
	maxOrders = 20_000
	maxSaved  = 2_000
)

// orders knows the ids of requests. Those that wait are kept in a Secret too, so that a signer which restarts finds them.
type orders struct {
	own   *ownSecret
	clock clock.PassiveClock
	turn  chan struct{} // whoever holds it reads or writes the Secret

	mu     sync.Mutex
	loaded bool
	known  map[string]ordered
	stored map[string]string // the ids that the Secret has
	dirty  map[string]bool   // keys that the Secret has, or lacks, wrongly
	failed error             // of the last attempt to save
}

type ordered struct {
	ID string    `json:"id"`
	At time.Time `json:"at"`
}

func newOrders(own *ownSecret, c clock.PassiveClock) *orders {
	return &orders{own: own, clock: c, turn: make(chan struct{}, 1), known: map[string]ordered{}, stored: map[string]string{}, dirty: map[string]bool{}}
}

// find returns the id of an order, or nothing. The first call reads what was saved: before, nothing may be ordered.
func (o *orders) find(ctx context.Context, key string) (string, error) {
	if err := o.load(ctx); err != nil {
		return "", err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.known[key].ID, nil
}

func (o *orders) load(ctx context.Context) error {
	o.mu.Lock()
	loaded := o.loaded
	o.mu.Unlock()
	if loaded {
		return nil
	}
	data, err := o.own.read(ctx)
	if err != nil {
		return err
	}
	saved, err := decodeOrders(data)
	if err != nil {
		return checkError(remote.ReasonSecretInvalid, "Secret %s: the entry %q is not what this program wrote: delete it if nothing waits: %w", o.own.key, keyOrders, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for k, v := range saved {
		if _, ok := o.known[k]; !ok && isID(v.ID) {
			o.known[k], o.stored[k] = v, v.ID
		}
	}
	o.loaded = true
	return nil
}

func decodeOrders(data map[string][]byte) (map[string]ordered, error) {
	saved := map[string]ordered{}
	if len(data[keyOrders]) == 0 {
		return saved, nil
	}
	return saved, json.Unmarshal(data[keyOrders], &saved)
}

// remember keeps an id in memory.
func (o *orders) remember(key, id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.known) >= maxOrders {
		prune(o.known, o.clock.Now(), maxOrders/2)
		maps.DeleteFunc(o.stored, func(k, _ string) bool { _, ok := o.known[k]; return !ok })
	}
	o.known[key] = ordered{ID: id, At: o.clock.Now().UTC().Truncate(time.Second)}
}

// keep has the Secret know an order that waits.
func (o *orders) keep(ctx context.Context, key string) {
	o.mu.Lock()
	if o.stored[key] != o.known[key].ID {
		o.dirty[key] = true
	}
	o.mu.Unlock()
	o.save(ctx)
}

// forget drops an order that failed.
func (o *orders) forget(ctx context.Context, key string) {
	o.mu.Lock()
	delete(o.known, key)
	if o.stored[key] != "" {
		o.dirty[key] = true
	}
	o.mu.Unlock()
	o.save(ctx)
}

// save writes what is dirty. An error is kept for the next check: the orders are in memory all the same.
func (o *orders) save(ctx context.Context) {
	select {
	case o.turn <- struct{}{}:
		defer func() { <-o.turn }()
	case <-ctx.Done():
		return
	}
	o.mu.Lock()
	changed := map[string]ordered{}
	for k := range o.dirty {
		changed[k] = o.known[k]
	}
	o.mu.Unlock()
	if len(changed) == 0 {
		return // nothing is, or whoever had the turn before wrote it along
	}
	err := o.own.change(ctx, func(data map[string][]byte) error {
		saved, err := decodeOrders(data)
		if err != nil {
			saved = map[string]ordered{}
		}
		for k, v := range changed {
			if saved[k] = v; v.ID == "" {
				delete(saved, k)
			}
		}
		prune(saved, o.clock.Now(), maxSaved)
		data[keyOrders], err = json.Marshal(saved)
		return err
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failed = err; err != nil {
		return
	}
	for k, v := range changed {
		if o.stored[k] = v.ID; v.ID == "" {
			delete(o.stored, k)
		}
		if o.known[k] == v {
			delete(o.dirty, k)
		}
	}
}

// saved tries again to save what could not be saved.
func (o *orders) saved(ctx context.Context) error {
	o.mu.Lock()
	failed := o.failed
	o.mu.Unlock()
	if failed == nil {
		return nil
	}
	o.save(ctx)
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failed
}

// prune drops what nobody asks for any more, and the oldest if there is still too much.
func prune(all map[string]ordered, now time.Time, most int) {
	maps.DeleteFunc(all, func(_ string, v ordered) bool { return now.Sub(v.At) > orderLife })
	if len(all) <= most {
		return
	}
	keys := slices.SortedFunc(maps.Keys(all), func(a, b string) int { return cmp.Or(all[a].At.Compare(all[b].At), cmp.Compare(a, b)) })
	for _, k := range keys[:len(keys)-most] {
		delete(all, k)
	}
}
