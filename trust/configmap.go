// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/fair"
)

// workers is how many ConfigMaps are written at once: ten thousand namespaces at some 10 ms a write take seconds, not minutes.
const workers = 16

// ConfigMaps publishes the bundles as keys of the ConfigMap v1alpha1.TrustConfigMap in every active namespace, or in those that
// their Signers select, and puts them back where they were changed. It is safe for concurrent use.
//
// What is to be published is kept in memory and comes from Publish alone. After a start, a key that nothing was published
// for yet stays as it is while its Signer exists. A ConfigMap goes with the last of its Signers, also when nobody runs.
type ConfigMaps struct {
	client   client.Client
	home     string
	all      bool // namespaces get all bundles
	patience *patience

	mu      sync.RWMutex
	bundles map[string]mapped // by signerName
	stuck   map[string]string // why a namespace cannot be made right, by its name
	changed chan event.GenericEvent
}

// mapped is a bundle in all formats that its Signer wants, and the namespaces that have it.
type mapped struct {
	text    string
	formats []v1alpha1.TrustFormat
	stores  map[string][]byte // by key of the ConfigMap
	in      labels.Selector
	since   time.Time // when its Signer was made
	noRoom  bool      // for the stores
}

// NewConfigMaps returns a publisher that reads Namespaces, Signers and ConfigMaps with a cached client. The cache should
// hold ConfigMaps as ConfigMapCache says. What was published before is read from the namespace home, which is Certwright's own. Nothing is
// written before the manager runs what SetupWithManager adds. If it is not for all namespaces, a bundle comes to those that its Signer
// selects; where it is already, it is kept fresh, as pods may mount it.
func NewConfigMaps(c client.Client, home string, all bool, clk clock.PassiveClock) *ConfigMaps {
	return &ConfigMaps{client: c, home: home, all: all, patience: newPatience(clk), bundles: map[string]mapped{}, stuck: map[string]string{}, changed: make(chan event.GenericEvent, 1)}
}

// Publish makes the bundle that of a Signer's signerName, in PEM and in the formats that the Signer wants. The namespaces follow at once,
// but not before it returns. What was published before stays if the PEM of all bundles together does not fit into a ConfigMap; Warnings
// says which truststores do not.
func (p *ConfigMaps) Publish(_ context.Context, signer *v1alpha1.Signer, bundle Bundle) (where string, err error) {
	signerName, now := signer.Spec.SignerName, mapped{text: bundle.PEM, since: signer.CreationTimestamp.Time}
	if some := signer.Spec.TrustBundle.ConfigMap; some != nil {
		now.formats = some.Formats
	}
	if now.in, err = p.selector(signer); err != nil {
		return "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	before, known := p.bundles[signerName]
	if !known || before.text != now.text || !slices.Equal(before.formats, now.formats) || !reflect.DeepEqual(before.in, now.in) {
		if now.stores, err = truststores(signerName, bundle, now.formats); err != nil {
			return "", err
		}
		if err := p.fits(signerName, now); err != nil {
			return "", err
		}
		p.bundles[signerName] = now
		p.makeRoom()
		p.announce()
	}
	return "configmap/" + v1alpha1.TrustConfigMap, nil
}

// selector returns which namespaces get the bundle of a Signer.
func (p *ConfigMaps) selector(signer *v1alpha1.Signer) (labels.Selector, error) {
	switch some := signer.Spec.TrustBundle.ConfigMap; {
	case p.all:
		return labels.Everything(), nil
	case some == nil:
		return labels.Nothing(), nil
	default:
		in, err := metav1.LabelSelectorAsSelector(&some.NamespaceSelector)
		if err != nil {
			return nil, fmt.Errorf("spec.trustBundle.configMap.namespaceSelector: %w", err)
		}
		return in, nil
	}
}

// Current returns the bundle of a signerName as it is in Certwright's own namespace, which only those can change who may change CAs.
func (p *ConfigMaps) Current(ctx context.Context, signerName string) (string, error) {
	var current corev1.ConfigMap
	err := p.client.Get(ctx, client.ObjectKey{Namespace: p.home, Name: v1alpha1.TrustConfigMap}, &current)
	if client.IgnoreNotFound(err) != nil {
		return "", fmt.Errorf("reading ConfigMap %s/%s: %w", p.home, v1alpha1.TrustConfigMap, err)
	}
	return current.Data[v1alpha1.TrustConfigMapKey(signerName)], nil
}

// Withdraw removes the bundle of a signerName that no Signer has any more.
func (p *ConfigMaps) Withdraw(_ context.Context, signerName string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.bundles, signerName)
	p.makeRoom()
	p.announce()
	return nil
}

// announce asks for all namespaces to be reconciled. If that is asked for already, once is enough.
func (p *ConfigMaps) announce() {
	select {
	case p.changed <- event.GenericEvent{Object: &v1alpha1.Signer{}}:
	default:
	}
}

// SetupWithManager has the manager keep the ConfigMaps of all namespaces right.
func (p *ConfigMaps) SetupWithManager(mgr ctrl.Manager) error {
	everywhere := p.everywhere()
	return ctrl.NewControllerManagedBy(mgr).
		Named("trustconfigmap").
		For(&corev1.Namespace{}).
		Watches(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			if o.GetName() != v1alpha1.TrustConfigMap {
				return nil
			}
			return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: o.GetNamespace()}}}
		})).
		Watches(&v1alpha1.Signer{}, everywhere, builder.WithPredicates(predicate.Funcs{
			UpdateFunc: func(event.UpdateEvent) bool { return false }, // a Signer's name and signerName never change
		})).
		WatchesRawSource(source.Channel(p.changed, everywhere)).
		WithOptions(controller.Options{RateLimiter: fair.Backoff(), MaxConcurrentReconciles: workers}).
		Complete(p)
}

// everywhere has all namespaces looked at when there is time: one that is made meanwhile, or tampered with, comes before them.
func (p *ConfigMaps) everywhere() handler.EventHandler {
	enqueue := func(ctx context.Context, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		var list corev1.NamespaceList
		if err := p.client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "listing namespaces to publish trust bundles in")
			return
		}
		add := func(r reconcile.Request) { q.Add(r) }
		if priority, ok := q.(priorityqueue.PriorityQueue[reconcile.Request]); ok {
			add = func(r reconcile.Request) {
				priority.AddWithOpts(priorityqueue.AddOpts{Priority: new(handler.LowPriority)}, r)
			}
		}
		for i := range list.Items {
			add(reconcile.Request{NamespacedName: types.NamespacedName{Name: list.Items[i].Name}})
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, _ event.CreateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			enqueue(ctx, q)
		},
		DeleteFunc: func(ctx context.Context, _ event.DeleteEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			enqueue(ctx, q)
		},
		GenericFunc: func(ctx context.Context, _ event.GenericEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			enqueue(ctx, q)
		},
	}
}

// Reconcile makes the ConfigMap of one namespace what it should be, with one write if it is not.
func (p *ConfigMaps) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	var namespace corev1.Namespace
	if err := p.client.Get(ctx, client.ObjectKey{Name: request.Name}, &namespace); apierrors.IsNotFound(err) {
		p.patience.forget(request.Name)
		p.unstuck(request.Name)
		return reconcile.Result{}, nil
	} else if err != nil {
		return reconcile.Result{}, fmt.Errorf("reading Namespace %s: %w", request.Name, err)
	}
	if isGoing(&namespace) {
		p.unstuck(request.Name)
		return reconcile.Result{}, nil
	}
	var current corev1.ConfigMap
	err := p.client.Get(ctx, client.ObjectKey{Namespace: request.Name, Name: v1alpha1.TrustConfigMap}, &current, client.UnsafeDisableDeepCopy)
	if client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, fmt.Errorf("reading ConfigMap %s/%s: %w", request.Name, v1alpha1.TrustConfigMap, err)
	}
	var signers v1alpha1.SignerList
	if err := p.client.List(ctx, &signers, client.UnsafeDisableDeepCopy); err != nil {
		return reconcile.Result{}, fmt.Errorf("listing Signers: %w", err)
	}
	p.mu.RLock()
	want := desired(p.bundles, signers.Items, &namespace, &current)
	p.mu.RUnlock()
	somebodys := !p.all && want.empty() && !managedBy.AsSelector().Matches(labels.Set(current.Labels))
	if somebodys || want.is(&current) {
		p.unstuck(request.Name)
		return reconcile.Result{}, nil
	}
	if wait := p.patience.wait(request.Name, want.String()); wait > 0 {
		p.isStuck(request.Name, "somebody else changes it again and again")
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	if err := p.write(ctx, request.Name, &current, want); err != nil && !comesBack(err) {
		p.isStuck(request.Name, err.Error())
		return reconcile.Result{}, fmt.Errorf("writing ConfigMap %s/%s: %w", request.Name, v1alpha1.TrustConfigMap, err)
	}
	return reconcile.Result{}, nil
}

// isGoing reports whether a namespace is being deleted: nothing can be created in it.
func isGoing(namespace *corev1.Namespace) bool {
	return namespace.DeletionTimestamp != nil || namespace.Status.Phase == corev1.NamespaceTerminating
}

// comesBack reports whether a write failed because the cache lags behind, where the event that it has yet to hear of is
// reconciled in its turn, or because the namespace is going away.
func comesBack(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

func (p *ConfigMaps) write(ctx context.Context, namespace string, current *corev1.ConfigMap, want contents) error {
	immutable := current.Immutable != nil && *current.Immutable
	switch {
	case exists(current) && (want.empty() || immutable && !want.areIn(current)):
		// An immutable one cannot be put right. Its deletion is an event that brings us back to create it.
		return client.IgnoreNotFound(p.client.Delete(ctx, current, client.Preconditions{UID: &current.UID, ResourceVersion: &current.ResourceVersion}))
	case exists(current):
		updated := current.DeepCopy()
		updated.Data, updated.BinaryData, updated.OwnerReferences = want.texts, want.stores, want.owners
		return p.client.Update(ctx, updated)
	}
	return p.client.Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: v1alpha1.TrustConfigMap, Labels: maps.Clone(managedBy), OwnerReferences: want.owners},
		Data:       want.texts,
		BinaryData: want.stores,
	})
}
