// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/certwright/certwright/signer"
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

// Orders knows the ids of requests. Those that wait are kept in a Secret too, so that a signer which restarts finds them. It is safe for concurrent use.
type Orders struct {
	own   *Secret
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

// NewOrders returns the orders that the Secret keeps.
func NewOrders(own *Secret, c clock.PassiveClock) *Orders {
	return &Orders{own: own, clock: c, turn: make(chan struct{}, 1), known: map[string]ordered{}, stored: map[string]string{}, dirty: map[string]bool{}}
}

// Find returns the id of an order, or nothing. The first call reads what was saved: before, nothing may be ordered.
func (o *Orders) Find(ctx context.Context, key string) (string, error) {
	if err := o.load(ctx); err != nil {
		return "", err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.known[key].ID, nil
}

func (o *Orders) load(ctx context.Context) error {
	o.mu.Lock()
	loaded := o.loaded
	o.mu.Unlock()
	if loaded {
		return nil
	}
	data, err := o.own.Read(ctx)
	if err != nil {
		return err
	}
	saved, err := decodeOrders(data)
	if err != nil {
		return &signer.CheckError{Reason: remote.ReasonSecretInvalid, Err: fmt.Errorf("Secret %s: the entry %q is not what this program wrote: delete it if nothing waits: %w", o.own.Key, keyOrders, err)}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for k, v := range saved {
		if _, ok := o.known[k]; !ok && IsID(v.ID) {
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

// Remember keeps an id in memory.
func (o *Orders) Remember(key, id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.known) >= maxOrders {
		prune(o.known, o.clock.Now(), maxOrders/2)
		maps.DeleteFunc(o.stored, func(k, _ string) bool { _, ok := o.known[k]; return !ok })
	}
	o.known[key] = ordered{ID: id, At: o.clock.Now().UTC().Truncate(time.Second)}
}

// Keep has the Secret know an order that waits.
func (o *Orders) Keep(ctx context.Context, key string) {
	o.mu.Lock()
	if o.stored[key] != o.known[key].ID {
		o.dirty[key] = true
	}
	o.mu.Unlock()
	o.save(ctx)
}

// Forget drops an order that failed.
func (o *Orders) Forget(ctx context.Context, key string) {
	o.mu.Lock()
	delete(o.known, key)
	if o.stored[key] != "" {
		o.dirty[key] = true
	}
	o.mu.Unlock()
	o.save(ctx)
}

// save writes what is dirty. An error is kept for the next check: the orders are in memory all the same.
func (o *Orders) save(ctx context.Context) {
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
	err := o.own.Change(ctx, func(data map[string][]byte) error {
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

// Saved tries again to save what could not be saved.
func (o *Orders) Saved(ctx context.Context) error {
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

var idForm = regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`)

// IsID reports whether a server's name for something is no more than a name: it becomes part of a path.
func IsID(s string) bool { return idForm.MatchString(s) }
