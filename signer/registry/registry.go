// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package registry makes Signers ready to sign: their limits compiled, their backends in service. It knows which Signer owns a signerName, and
// closes what is no longer used. A Signer that is wrong in any field is not ready at all, so that nothing is signed by half of what its
// author meant.
package registry

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/breaker"
	"github.com/certwright/certwright/signer/member"
	"github.com/certwright/certwright/signer/metrics"
)

// Reasons of a Signer that is wrong.
const (
	ReasonSignerNameReserved     = "SignerNameReserved"
	ReasonLimitsInvalid          = "LimitsInvalid"
	ReasonPodCertificatesInvalid = "PodCertificatesInvalid"
	ReasonBackendInvalid         = "BackendInvalid"
	ReasonTrustIncomplete        = "TrustBundleIncomplete"
)

// Registry keeps the backends of every Signer. When a Signer's spec changes, those backends that do not change live on, as they may know
// things that cannot be read again, such as the last good CA. It is safe for concurrent use.
type Registry struct {
	reader     client.Reader
	newBackend signer.NewBackend
	clock      clock.PassiveClock
	metrics    *metrics.Metrics
	// changed names the Signers of which something changed that their status should say.
	changed chan event.GenericEvent

	mu     sync.Mutex
	known  map[types.UID]*Signer
	looked map[string]time.Time
}

// New returns a registry that reads Signers from a cache with the index v1alpha1.IndexSignerName.
func New(reader client.Reader, newBackend signer.NewBackend, clk clock.PassiveClock, m *metrics.Metrics) *Registry {
	return &Registry{
		reader: reader, newBackend: newBackend, clock: clk, metrics: m,
		changed: make(chan event.GenericEvent, 1024), known: map[types.UID]*Signer{}, looked: map[string]time.Time{},
	}
}

// maker returns what makes the backends of the object.
func (r *Registry) maker(object *v1alpha1.Signer) member.Maker {
	name, signerName := object.Name, object.Spec.SignerName
	return member.Maker{NewBackend: r.newBackend, Clock: r.clock, OnChange: func(backend string, to breaker.State) {
		r.metrics.Became(signerName, backend, to)
		r.announce(name)
	}}
}

// Changed names the Signers of which something changed that their status should say.
func (r *Registry) Changed() <-chan event.GenericEvent { return r.changed }

// announce has the status of a Signer looked at. If too many are waiting for that, it is looked at in its time.
func (r *Registry) announce(name string) {
	select {
	case r.changed <- event.GenericEvent{Object: &v1alpha1.Signer{ObjectMeta: metav1.ObjectMeta{Name: name}}}:
	default:
	}
}

// Look has the status of a Signer looked at soon, however often that is asked for.
func (r *Registry) Look(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.clock.Now(); now.Sub(r.looked[name]) >= time.Second {
		r.looked[name] = now
		r.announce(name)
	}
}

// Expedite makes all backends due for a probe.
func (r *Registry) Expedite() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.known {
		s.Expedite()
	}
}

// Lookup returns the Signer that owns a signerName, or nil if none does. An error means that it cannot sign now.
func (r *Registry) Lookup(ctx context.Context, signerName string) (*Signer, error) {
	owner, err := r.Owner(ctx, signerName)
	if err != nil || owner == nil {
		return nil, err
	}
	return r.Load(owner)
}

// Owner returns the Signer that owns a signerName: the oldest, should there be several, so that a later one takes nothing
// away from it. It belongs to the cache: do not modify it.
func (r *Registry) Owner(ctx context.Context, signerName string) (*v1alpha1.Signer, error) {
	var list v1alpha1.SignerList
	if err := r.reader.List(ctx, &list, client.MatchingFields{v1alpha1.IndexSignerName: signerName}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing signers: %w", err)
	}
	if len(list.Items) == 0 {
		return nil, nil
	}
	oldest := &list.Items[0]
	for i := range list.Items[1:] {
		other := &list.Items[i+1]
		if cmp.Or(other.CreationTimestamp.Compare(oldest.CreationTimestamp.Time), cmp.Compare(other.Name, oldest.Name)) < 0 {
			oldest = other
		}
	}
	return oldest, nil
}

// Load returns the Signer made from the object, from before if its spec is the same.
func (r *Registry) Load(object *v1alpha1.Signer) (*Signer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.known[object.UID]
	if known != nil && known.generation >= object.Generation {
		return known, nil
	}
	s, err := known.next(object, r.maker(object))
	if err != nil {
		return nil, err
	}
	r.known[object.UID] = s
	known.close(s)
	r.count(known, s)
	return s, nil
}

// count has the metrics speak of the backends that a Signer has now, and no more of those that it had before; each Signer may be nil.
func (r *Registry) count(before, now *Signer) {
	if before != nil {
		for _, m := range before.Members {
			r.metrics.Left(before.SignerName, m.Name())
		}
	}
	if now != nil {
		for _, m := range now.Members {
			r.metrics.Serves(now.SignerName, m.Name(), m.State())
		}
	}
}

// Former returns the signerNames of the Signers that had this name and are gone: all but the one with the UID that has it
// now.
func (r *Registry) Former(name string, now types.UID) map[types.UID]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	gone := map[types.UID]string{}
	for uid, s := range r.known {
		if s.Name == name && uid != now {
			gone[uid] = s.SignerName
		}
	}
	return gone
}

// Forget drops a Signer that is gone.
func (r *Registry) Forget(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[uid].close(nil)
	r.count(r.known[uid], nil)
	delete(r.looked, r.known[uid].Name)
	delete(r.known, uid)
}
