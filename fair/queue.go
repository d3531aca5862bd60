// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fair queues requests so that whoever files thousands of them delays nobody else: requesters are served in turns,
// and what fails is tried again at a pace of its own.
package fair

import (
	"context"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Queue holds items by the key of whoever they belong to, and pops one item of each key in turn; the items of one key come
// in the order in which they were pushed. It is the storage of a workqueue, which guards it.
type Queue[T comparable] struct {
	key func(T) string
	// items of each key that has any. turns holds the same keys, in the order in which they are served.
	items map[string][]T
	turns []string
	size  int
}

// New returns an empty queue. The key of an item is asked for once, when it is pushed.
func New[T comparable](key func(T) string) *Queue[T] {
	return &Queue[T]{key: key, items: map[string][]T{}}
}

// Touch does nothing: to ask again gains no better place.
func (q *Queue[T]) Touch(T) {}

// Push puts the item behind the others of its key. A new key's turn comes once all the keys before it had theirs.
func (q *Queue[T]) Push(item T) {
	key := q.key(item)
	if len(q.items[key]) == 0 {
		q.turns = append(q.turns, key)
	}
	q.items[key] = append(q.items[key], item)
	q.size++
}

// Len is the number of items of all keys.
func (q *Queue[T]) Len() int { return q.size }

// Pop takes the first item of the key whose turn it is. The queue must not be empty.
func (q *Queue[T]) Pop() T {
	key := q.turns[0]
	q.turns = q.turns[1:]
	items := q.items[key]
	item := items[0]
	items[0] = *new(T) // the array behind the slice must not keep it alive
	if len(items) == 1 {
		delete(q.items, key)
	} else {
		q.items[key] = items[1:]
		q.turns = append(q.turns, key)
	}
	q.size--
	return item
}

// NewQueue is for the option NewQueue of a controller, in place of controller-runtime's priority queue.
func NewQueue(key func(reconcile.Request) string) func(string, workqueue.TypedRateLimiter[reconcile.Request]) workqueue.TypedRateLimitingInterface[reconcile.Request] {
	return func(name string, limiter workqueue.TypedRateLimiter[reconcile.Request]) workqueue.TypedRateLimitingInterface[reconcile.Request] {
		queue := workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[reconcile.Request]{Name: name, Queue: New(key)})
		return workqueue.NewTypedRateLimitingQueueWithConfig(limiter, workqueue.TypedRateLimitingQueueConfig[reconcile.Request]{
			Name: name,
			DelayingQueue: workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[reconcile.Request]{
				Name: name, Queue: queue,
			}),
		})
	}
}

// Backoff says when that which did not work is tried again: each item by itself, and after a long outage, too, within a
// minute. Controller-runtime's default has all items share ten tries in a second.
func Backoff() workqueue.TypedRateLimiter[reconcile.Request] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](100*time.Millisecond, time.Minute)
}

// patience is how long a queue waits for a cache that fills up.
const patience = 10 * time.Second

// ByRequester returns the key of a CertificateSigningRequest, read from a cache: the namespace of the service account that
// asks, or the user. Requests that the cache does not hold share a key, as nothing is left to do for them.
func ByRequester(cached client.Reader) func(reconcile.Request) string {
	return func(request reconcile.Request) string {
		// A cache that is not filled yet has its readers wait, and the queue with it.
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		var object certificatesv1.CertificateSigningRequest
		if err := cached.Get(ctx, types.NamespacedName{Name: request.Name}, &object, client.UnsafeDisableDeepCopy); err != nil {
			return ""
		}
		return Requester(object.Spec.Username)
	}
}

// ByNamespace returns the key of an object that lives in the namespace of the service account that it is for: the same as ByRequester's.
func ByNamespace(request reconcile.Request) string { return "namespace " + request.Namespace }

// Requester returns the key of a requester: the namespace of the service account that asks, or the user.
func Requester(username string) string {
	if namespace, _, err := serviceaccount.SplitUsername(username); err == nil {
		return "namespace " + namespace
	}
	return "user " + username
}
