// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package status looks after Signers: it probes the backends of each, has their CAs rotated, publishes the trust anchors by which their
// certificates are verified, and says in the status whether something can sign. Nothing is signed with what is not published, and what is
// published goes only when nothing needs it.
package status

import (
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/event"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/metrics"
	"github.com/certwright/certwright/signer/registry"
)

// Reasons of a Signer's condition Ready, besides those of registry, of member, and of backends in a CheckError.
const (
	ReasonReady           = "Ready"
	ReasonDegraded        = "Degraded"
	ReasonSignerNameTaken = "SignerNameTaken"
)

// Reasons of events about a Signer.
const (
	ReasonBackendDown    = "BackendDown"
	ReasonBackendServing = "BackendServing"
)

const (
	// recheck is how often a Signer is looked at, at the least.
	recheck = time.Minute
	// between is how long a Signer's status stays as it was written, whatever its backends do.
	between = 3 * time.Second
	// soonest is how soon it is looked at again, whatever its backends say.
	soonest = time.Second
)

// Publisher publishes the trust anchors of a signerName for those who verify its certificates.
type Publisher interface {
	// Publish makes anchors, and what the Signer's spec.trustBundle adds, the trust bundle of its signerName, and returns the name it
	// has in the cluster. The warnings say what was left out, and why. Should the Signer be deleted while nobody is there to withdraw
	// the bundle, that goes with it.
	Publish(ctx context.Context, signer *v1alpha1.Signer, anchors []*x509.Certificate) (where string, warnings []string, err error)
	// Current returns the certificates of the published bundle of a signerName; none if there is none.
	Current(ctx context.Context, signerName string) ([]*x509.Certificate, error)
	// Withdraw removes the trust bundle of a signerName that no Signer has any more.
	Withdraw(ctx context.Context, signerName string) error
}

// Reconciler probes the backends of each Signer, publishes its trust anchors, and says in its status whether something can sign.
type Reconciler struct {
	Client    client.Client
	Registry  *registry.Registry
	Publisher Publisher
	Teller    event.Teller
	Metrics   *metrics.Metrics
	Clock     clock.PassiveClock

	mu   sync.Mutex
	seen map[types.UID]seen
}

// seen is what the reconciler remembers of a Signer.
type seen struct {
	// name is the Signer's, reason that of its condition, as the metrics tell it of its signerName.
	name, signerName, reason string
	// written is when its status was written last, annotations what it was annotated with then, by which people speak to backends.
	written     time.Time
	annotations map[string]string
}

// Reconcile looks at one Signer and writes its status if that changes.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var object v1alpha1.Signer
	if err := r.Client.Get(ctx, request.NamespacedName, &object); apierrors.IsNotFound(err) {
		return ctrl.Result{}, r.withdraw(ctx, request.Name, "")
	} else if err != nil {
		return ctrl.Result{}, fmt.Errorf("reading Signer %s: %w", request.Name, err)
	}
	if err := r.withdraw(ctx, object.Name, object.UID); err != nil {
		return ctrl.Result{}, err
	}
	updated := object.DeepCopy()
	updated.Status.ObservedGeneration = object.Generation
	next, condition, trouble := r.look(ctx, updated)
	r.count(&object, condition)
	meta.SetStatusCondition(&updated.Status.Conditions, condition)
	if !equality.Semantic.DeepEqual(object.Status, updated.Status) {
		if wait := r.early(&object); wait > 0 {
			return ctrl.Result{RequeueAfter: wait}, trouble
		}
		switch err := r.write(ctx, &object, updated); {
		case apierrors.IsConflict(err): // the cache is behind, and is looked at again
			return ctrl.Result{RequeueAfter: soonest}, trouble
		case err != nil:
			return ctrl.Result{}, err
		}
	}
	return ctrl.Result{RequeueAfter: next}, trouble
}

// early returns how long the status of a Signer should stay as it is, so that backends which come and go cannot have it written without
// end. A status that speaks of another generation is always written.
func (r *Reconciler) early(object *v1alpha1.Signer) time.Duration {
	if object.Status.ObservedGeneration != object.Generation {
		return 0
	}
	return between - r.sinceWritten(object.UID)
}

func (r *Reconciler) sinceWritten(uid types.UID) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Clock.Since(r.seen[uid].written)
}

// remember changes what is remembered of a Signer, and returns what was before.
func (r *Reconciler) remember(uid types.UID, change func(*seen)) (before seen) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = map[types.UID]seen{}
	}
	before = r.seen[uid]
	now := before
	change(&now)
	r.seen[uid] = now
	return before
}

// count has the metrics say what the condition does.
func (r *Reconciler) count(object *v1alpha1.Signer, ready metav1.Condition) {
	before := r.remember(object.UID, func(s *seen) {
		s.name, s.signerName, s.reason = object.Name, object.Spec.SignerName, ready.Reason
	})
	if before.reason != ready.Reason {
		r.Metrics.NoLonger(object.Spec.SignerName, before.reason)
	}
	r.Metrics.Ready(object.Spec.SignerName, ready.Reason, ready.Status == metav1.ConditionTrue)
}

// write writes the status and tells what became of backends.
func (r *Reconciler) write(ctx context.Context, before, updated *v1alpha1.Signer) error {
	if err := r.Client.Status().Update(ctx, updated); err != nil {
		return fmt.Errorf("writing the status of Signer %s: %w", updated.Name, err)
	}
	r.remember(updated.UID, func(s *seen) { s.written = r.Clock.Now() })
	for _, b := range updated.Status.Backends {
		r.tellRotation(ctx, updated, statusOf(before.Status.Backends, b.Name), b)
		was := statusOf(before.Status.Backends, b.Name).State
		switch {
		case b.State == v1alpha1.BackendDown && (was == v1alpha1.BackendServing || was == ""):
			r.Teller.Signer(ctx, updated, corev1.EventTypeWarning, ReasonBackendDown,
				fmt.Sprintf("Backend %q is down and is not asked until it is well: %s.", b.Name, b.Message))
		case b.State == v1alpha1.BackendServing && was != v1alpha1.BackendServing && was != "":
			r.Teller.Signer(ctx, updated, corev1.EventTypeNormal, ReasonBackendServing, fmt.Sprintf("Backend %q serves again.", b.Name))
		}
	}
	return nil
}

func statusOf(all []v1alpha1.BackendStatus, name string) v1alpha1.BackendStatus {
	if i := slices.IndexFunc(all, func(s v1alpha1.BackendStatus) bool { return s.Name == name }); i >= 0 {
		return all[i]
	}
	return v1alpha1.BackendStatus{}
}

// look looks at all backends, publishes their trust anchors and fills in the status. It returns the condition Ready, and when to look
// again. The error is trouble that is not a backend's.
func (r *Reconciler) look(ctx context.Context, object *v1alpha1.Signer) (next time.Duration, ready metav1.Condition, err error) {
	s, err := r.own(ctx, object)
	if err != nil {
		object.Status.Serving = ""
		return 0, readyCondition(object, nil, err), err
	}
	annotated := r.remember(object.UID, func(s *seen) { s.annotations = object.Annotations }).annotations
	if !maps.Equal(annotated, object.Annotations) {
		s.Expedite()
	}
	next = r.rotate(ctx, s, object)
	before, published := object.Status.Backends, object.Status.TrustBundle != ""
	var all sync.WaitGroup
	for _, m := range s.Members {
		all.Go(func() { m.Inspect(ctx, statusOf(before, m.Name()), published) })
	}
	all.Wait()
	warnings, err := r.publish(ctx, s, object)
	ready = r.describe(s, object, append(warnings, err)...)
	if err != nil {
		return 0, ready, err
	}
	for _, m := range s.Members {
		next = min(next, m.Next().Sub(r.Clock.Now()))
	}
	return max(next, soonest), ready, nil
}

// own returns the Signer made ready, if its signerName belongs to it.
func (r *Reconciler) own(ctx context.Context, object *v1alpha1.Signer) (*registry.Signer, error) {
	owner, err := r.Registry.Owner(ctx, object.Spec.SignerName)
	if err != nil {
		return nil, err
	}
	if owner != nil && owner.UID != object.UID {
		return nil, &signer.CheckError{Reason: ReasonSignerNameTaken, Err: fmt.Errorf("signerName %s belongs to Signer %q, which is older: delete one of them", object.Spec.SignerName, owner.Name)}
	}
	return r.Registry.Load(object)
}

// withdraw withdraws the trust bundles of Signers that had this name and are gone, unless another one has their signerName.
// They are forgotten only then, so that what fails is tried again.
func (r *Reconciler) withdraw(ctx context.Context, name string, now types.UID) error {
	for uid, signerName := range r.Registry.Former(name, now) {
		owner, err := r.Registry.Owner(ctx, signerName)
		if err != nil {
			return err
		}
		if owner == nil {
			if err := r.Publisher.Withdraw(ctx, signerName); err != nil {
				return fmt.Errorf("withdrawing the trust bundle of %s: %w", signerName, err)
			}
			r.Metrics.Forget(signerName)
		}
		r.Registry.Forget(uid)
	}
	r.forget(name, now)
	return nil
}

// forget drops what is remembered of Signers that had this name and are gone, and what the metrics say of them.
func (r *Reconciler) forget(name string, now types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for uid, s := range r.seen {
		if s.name == name && uid != now {
			r.Metrics.NoLonger(s.signerName, s.reason)
			delete(r.seen, uid)
		}
	}
}
