// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package order

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer/acme/challenge"
)

const (
	// sweepEvery is how often the Cleaner looks at all orders.
	sweepEvery = 10 * time.Second
	// idle is after what time an order that nobody asked for is given up, as its Signer is gone or no longer has its backend.
	idle = 2 * time.Hour
	// each bounds the work on one order.
	each = 30 * time.Second
	// atOnce is how many orders are worked on at a time.
	atOnce = 8
)

// Cleaner ends orders whose requests are finished or gone: it takes away what is in place for their challenges, and then their
// Secrets. It needs no Signer: an order carries the configuration of its solvers.
type Cleaner struct {
	Book *Book
	// Requests reads CertificateSigningRequests from a cache that has synced.
	Requests client.Reader
	// NewSolver makes solvers from stored configurations.
	NewSolver challenge.NewSolver
	Clock     clock.WithTicker
}

// NeedLeaderElection makes it run in the leader only, as a manager's runnable.
func (*Cleaner) NeedLeaderElection() bool { return true }

// Start cleans up until ctx ends.
func (c *Cleaner) Start(ctx context.Context) error {
	ticker := c.Clock.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		c.Sweep(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
	}
}

// Sweep looks at all orders once. What cannot be taken away is tried again at the next sweep, as is what else its backend has, so
// that a place which is slow or broken holds up nobody else for long.
func (c *Cleaner) Sweep(ctx context.Context) {
	log := logf.FromContext(ctx).WithName("acme-cleaner")
	if err := c.Book.load(ctx); err != nil {
		log.Error(err, "orders cannot be cleaned up")
		return
	}
	var failed sync.Map // the owners of orders
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, o := range c.Book.all() {
		group.Go(func() error {
			if _, later := failed.Load(o.owner); later {
				return nil
			}
			if err := c.look(ctx, o); err != nil && ctx.Err() == nil {
				failed.Store(o.owner, true)
				log.Error(err, "an order cannot be cleaned up yet", "secret", o.name)
			}
			return nil
		})
	}
	_ = group.Wait() // there are no errors
}

// look ends an order if nothing waits for it.
func (c *Cleaner) look(ctx context.Context, o *Order) error {
	ctx, cancel := context.WithTimeout(ctx, each)
	defer cancel()
	select {
	case o.lock <- struct{}{}:
	default:
		return nil // somebody works on it
	}
	defer func() { <-o.lock }()
	if o.gone {
		return nil
	}
	over, err := c.over(ctx, o)
	if err != nil || !over {
		return err
	}
	if len(o.Answers) > 0 {
		if err := o.CleanUp(ctx, c.NewSolver); err != nil {
			return err
		}
	}
	return c.Book.remove(ctx, o)
}

// over reports whether nothing waits for the order.
func (c *Cleaner) over(ctx context.Context, o *Order) (bool, error) {
	if c.Clock.Since(o.touched) > idle {
		return true, nil
	}
	var request certificatesv1.CertificateSigningRequest
	err := c.Requests.Get(ctx, client.ObjectKey{Name: o.CSR}, &request)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the request %s: %w", o.CSR, err)
	}
	return request.UID != o.UID || csr.IsFinished(&request), nil
}

// remove deletes the order's Secret and forgets the order.
func (b *Book) remove(ctx context.Context, o *Order) error {
	if o.version != "" {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: o.name}}
		if err := client.IgnoreNotFound(b.client.Delete(ctx, secret)); err != nil {
			return fmt.Errorf("deleting Secret %s/%s: %w", b.namespace, o.name, err)
		}
	}
	b.forget(o)
	return nil
}
