// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package order

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/signer/acme/challenge"
)

// maxOrders bounds the orders of one backend, and so its Secrets.
const maxOrders = 2000

// pageSize is how many Secrets are read at a time.
const pageSize = 200

// ErrFull says that a backend has as many orders as it may have, or those that one requester may have of them: who has some gets
// another one only while more are free than he has, as in fair.Places.
var ErrFull = fmt.Errorf("there are as many orders under way as this requester may have of the %d of a backend", maxOrders)

// ErrStale says that another process wrote the order: it is read again at the next try.
var ErrStale = errors.New("the order was changed by another process, such as the leader before this one")

// Book holds all orders of a namespace. It reads their Secrets once, when it is first asked: only the leader may use it. It is
// safe for concurrent use.
type Book struct {
	client    client.Client
	reader    client.Reader
	namespace string
	clock     clock.PassiveClock

	loading chan struct{} // held while the Secrets are read
	holds   [64]chan struct{}

	mu      sync.Mutex
	loaded  bool
	orders  map[string]*Order
	needers map[challengeKey]map[string]bool // names of the orders that need an answer in place
}

// challengeKey tells challenges apart.
type challengeKey struct{ kind, domain, token string }

func keyOf(c challenge.Challenge) challengeKey { return challengeKey{c.Type, c.Domain, c.Token} }

// NewBook returns a book of the orders in a namespace. The client writes Secrets, the reader reads them past the cache.
func NewBook(c client.Client, reader client.Reader, namespace string, clk clock.PassiveClock) *Book {
	b := &Book{
		client: c, reader: reader, namespace: namespace, clock: clk,
		loading: make(chan struct{}, 1),
		orders:  map[string]*Order{}, needers: map[challengeKey]map[string]bool{},
	}
	for i := range b.holds {
		b.holds[i] = make(chan struct{}, 1)
	}
	return b
}

// Open returns the order of a request, a new one if it has none. It waits while somebody else has it. Requests of one requester, by
// the key of package fair, share what he may have.
func (b *Book) Open(ctx context.Context, key Key, csr, requester string) (*Order, error) {
	if err := b.load(ctx); err != nil {
		return nil, err
	}
	for name := key.name(); ; {
		o, err := b.find(name, Record{Signer: key.Signer, Backend: key.Backend, CSR: csr, UID: key.UID, Requester: requester})
		if err != nil {
			return nil, err
		}
		if err := acquire(ctx, o.lock); err != nil {
			return nil, err
		}
		if !o.gone {
			return o, nil
		}
		<-o.lock // it was forgotten while we waited
	}
}

// Has reports whether the request has an order that may have come to the server's knowledge.
func (b *Book) Has(ctx context.Context, key Key) (bool, error) {
	if err := b.load(ctx); err != nil {
		return false, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.orders[key.name()]
	return o != nil && o.version != "", nil
}

// find returns the order of that name, which it makes if need be.
func (b *Book) find(name string, r Record) (*Order, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o := b.orders[name]; o != nil {
		return o, nil
	}
	free, his, owner := maxOrders, 0, labelValue(r.Signer, r.Backend)
	for _, o := range b.orders {
		if o.owner != owner {
			continue
		}
		free--
		if o.requester == r.Requester {
			his++
		}
	}
	if his >= free {
		return nil, ErrFull
	}
	o := b.order(name, r)
	b.orders[name] = o
	return o, nil
}

func (b *Book) order(name string, r Record) *Order {
	o := &Order{book: b, name: name, owner: labelValue(r.Signer, r.Backend), requester: r.Requester, lock: make(chan struct{}, 1), touched: b.clock.Now()}
	o.Reset()
	o.Record = r
	return o
}

// release forgets an order that was never stored and waits for nothing.
func (b *Book) release(o *Order) {
	if o.version == "" && o.Turn.IsZero() && o.URL == "" && o.NotBefore.IsZero() {
		b.forget(o)
	}
	<-o.lock
}

// forget takes an order out of the book.
func (b *Book) forget(o *Order) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o.gone = true
	delete(b.orders, o.name)
	for _, a := range o.Answers {
		b.dropLocked(keyOf(a.Challenge), o.name)
	}
}

// save writes the order's Secret.
func (b *Book) save(ctx context.Context, o *Order) error {
	secret, err := o.secret(b.namespace, o.name, o.version)
	if err != nil {
		return err
	}
	if o.version == "" {
		err = b.client.Create(ctx, secret)
	} else {
		err = b.client.Update(ctx, secret)
	}
	switch {
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), o.version != "" && apierrors.IsNotFound(err):
		if err := b.reread(ctx, o); err != nil {
			return err
		}
		return ErrStale
	case err != nil:
		return fmt.Errorf("writing Secret %s/%s: %w", b.namespace, o.name, err)
	}
	b.stored(o, secret.ResourceVersion)
	return nil
}

// stored remembers the version of an order's Secret.
func (b *Book) stored(o *Order, version string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o.version = version
}

// reread takes over what another process wrote.
func (b *Book) reread(ctx context.Context, o *Order) error {
	var secret corev1.Secret
	err := b.reader.Get(ctx, client.ObjectKey{Namespace: b.namespace, Name: o.name}, &secret)
	if apierrors.IsNotFound(err) { // what was in place is still in our memory, and written again
		b.stored(o, "")
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading Secret %s/%s: %w", b.namespace, o.name, err)
	}
	record, err := parse(&secret)
	if err != nil {
		return err
	}
	o.Reset()
	for _, a := range o.Answers {
		b.drop(a.Challenge, o)
	}
	o.Record = record
	b.stored(o, secret.ResourceVersion)
	for _, a := range o.Answers {
		b.need(a.Challenge, o)
	}
	return nil
}

// load reads all Secrets, once.
func (b *Book) load(ctx context.Context) error {
	if err := acquire(ctx, b.loading); err != nil {
		return err
	}
	defer func() { <-b.loading }()
	if b.loaded {
		return nil
	}
	options := []client.ListOption{client.InNamespace(b.namespace), client.HasLabels{Label}, client.Limit(pageSize)}
	for next := ""; ; {
		var list corev1.SecretList
		if err := b.reader.List(ctx, &list, append(options, client.Continue(next))...); err != nil {
			return fmt.Errorf("listing the Secrets of ACME orders in %s: %w", b.namespace, err)
		}
		for i := range list.Items {
			b.enter(&list.Items[i])
		}
		if next = list.Continue; next == "" {
			break
		}
	}
	b.loaded = true
	return nil
}

// enter puts a stored order into the book. One that cannot be read stands there empty, and is written anew or forgotten.
func (b *Book) enter(secret *corev1.Secret) {
	record, err := parse(secret)
	if err != nil {
		record = Record{}
	}
	o := b.order(secret.Name, record)
	o.version = secret.ResourceVersion
	b.mu.Lock()
	defer b.mu.Unlock()
	b.orders[o.name] = o
	for _, a := range o.Answers {
		b.needLocked(keyOf(a.Challenge), o.name)
	}
}

// Len returns how many orders are in memory.
func (b *Book) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.orders)
}

// all returns all orders, each time in another order.
func (b *Book) all() []*Order {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Values(b.orders))
}

// hold keeps others from putting in place or taking away the answer to a challenge until unlock is called.
func (b *Book) hold(ctx context.Context, c challenge.Challenge) (unlock func(), err error) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(c.Type + " " + c.Domain + " " + c.Token))
	lock := b.holds[h.Sum32()%uint32(len(b.holds))]
	if err := acquire(ctx, lock); err != nil {
		return nil, err
	}
	return func() { <-lock }, nil
}

func (b *Book) need(c challenge.Challenge, o *Order) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.needLocked(keyOf(c), o.name)
}

func (b *Book) needLocked(key challengeKey, name string) {
	if b.needers[key] == nil {
		b.needers[key] = map[string]bool{}
	}
	b.needers[key][name] = true
}

func (b *Book) drop(c challenge.Challenge, o *Order) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dropLocked(keyOf(c), o.name)
}

func (b *Book) dropLocked(key challengeKey, name string) {
	delete(b.needers[key], name)
	if len(b.needers[key]) == 0 {
		delete(b.needers, key)
	}
}

// needed reports whether an order other than o needs the answer in place.
func (b *Book) needed(c challenge.Challenge, o *Order) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	needers := b.needers[keyOf(c)]
	return len(needers) > 1 || len(needers) == 1 && !needers[o.name]
}

func acquire(ctx context.Context, lock chan struct{}) error {
	select {
	case lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
