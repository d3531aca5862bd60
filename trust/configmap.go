// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/certwright/certwright/api/v1alpha1"
)

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
	bundles map[string]mapped // by key of the ConfigMap
	changed chan event.GenericEvent
}

// mapped is a bundle and the namespaces that have it.
type mapped struct {
	text string
	in   labels.Selector
}

// NewConfigMaps returns a publisher that reads Namespaces, Signers and ConfigMaps with a cached client. The cache should
// hold ConfigMaps as ConfigMapCache says. What was published before is read from the namespace home, which is Certwright's own. Nothing is
// written before the manager runs what SetupWithManager adds. If it is not for all namespaces, a bundle comes to those that its Signer
// selects; where it is already, it is kept fresh, as pods may mount it.
func NewConfigMaps(c client.Client, home string, all bool, clk clock.PassiveClock) *ConfigMaps {
	return &ConfigMaps{client: c, home: home, all: all, patience: newPatience(clk), bundles: map[string]mapped{}, changed: make(chan event.GenericEvent, 1)}
}

// ConfigMapCache keeps all ConfigMaps out of the cache of a manager but the published ones and those of Certwright's namespace, which
// may be sources.
func ConfigMapCache(namespace string) cache.ByObject {
	return cache.ByObject{Namespaces: map[string]cache.Config{
		cache.AllNamespaces: {FieldSelector: fields.OneTermEqualSelector("metadata.name", v1alpha1.TrustConfigMap)},
		namespace:           {},
	}}
}

// Publish makes the bundle that of a Signer's signerName. The namespaces follow at once, but not before it returns. What was
// published before stays if all bundles together do not fit into a ConfigMap.
func (p *ConfigMaps) Publish(_ context.Context, signer *v1alpha1.Signer, bundle Bundle) (where string, err error) {
	key := v1alpha1.TrustConfigMapKey(signer.Spec.SignerName)
	now := mapped{text: bundle.PEM}
	if now.in, err = p.selector(signer); err != nil {
		return "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if before, known := p.bundles[key]; !known || before.text != now.text || !reflect.DeepEqual(before.in, now.in) {
		if err := p.fits(key, now); err != nil {
			return "", err
		}
		p.bundles[key] = now
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

// fits returns an error if a bundle and those that a namespace may have beside it do not fit into a ConfigMap.
func (p *ConfigMaps) fits(key string, b mapped) error {
	size := 0
	add := func(key string, b mapped) {
		if _, selects := b.in.Requirements(); selects {
			size += len(key) + len(b.text)
		}
	}
	add(key, b)
	if size == 0 {
		return nil
	}
	for other, o := range p.bundles {
		if other != key {
			add(other, o)
		}
	}
	if size > maxBundleBytes {
		return fmt.Errorf("with this bundle of %d bytes those of all Signers would be %d bytes long: at most %d fit into ConfigMap %s", len(b.text), size, maxBundleBytes, v1alpha1.TrustConfigMap)
	}
	return nil
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
	delete(p.bundles, v1alpha1.TrustConfigMapKey(signerName))
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
	everywhere := handler.EnqueueRequestsFromMapFunc(p.everywhere)
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
		Complete(p)
}

func (p *ConfigMaps) everywhere(ctx context.Context, _ client.Object) []reconcile.Request {
	var list corev1.NamespaceList
	if err := p.client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "listing namespaces to publish trust bundles in")
		return nil
	}
	requests := make([]reconcile.Request, len(list.Items))
	for i := range list.Items {
		requests[i].Name = list.Items[i].Name
	}
	return requests
}

// Reconcile makes the ConfigMap of one namespace what it should be, with one write if it is not.
func (p *ConfigMaps) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	var namespace corev1.Namespace
	if err := p.client.Get(ctx, client.ObjectKey{Name: request.Name}, &namespace); apierrors.IsNotFound(err) {
		p.patience.forget(request.Name)
		return reconcile.Result{}, nil
	} else if err != nil {
		return reconcile.Result{}, fmt.Errorf("reading Namespace %s: %w", request.Name, err)
	}
	if namespace.DeletionTimestamp != nil || namespace.Status.Phase == corev1.NamespaceTerminating {
		return reconcile.Result{}, nil
	}
	var current corev1.ConfigMap
	err := p.client.Get(ctx, client.ObjectKey{Namespace: request.Name, Name: v1alpha1.TrustConfigMap}, &current)
	if client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, fmt.Errorf("reading ConfigMap %s/%s: %w", request.Name, v1alpha1.TrustConfigMap, err)
	}
	var signers v1alpha1.SignerList
	if err := p.client.List(ctx, &signers, client.UnsafeDisableDeepCopy); err != nil {
		return reconcile.Result{}, fmt.Errorf("listing Signers: %w", err)
	}
	p.mu.RLock()
	want, owners := desired(p.bundles, signers.Items, &namespace, current.Data)
	p.mu.RUnlock()
	somebodys := !p.all && len(want) == 0 && !managedBy.AsSelector().Matches(labels.Set(current.Labels))
	if somebodys || isRight(&current, want, owners) {
		return reconcile.Result{}, nil
	}
	if wait := p.patience.wait(request.Name, fmt.Sprint(want, owners)); wait > 0 {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	if err := p.write(ctx, request.Name, &current, want, owners); err != nil && !comesBack(err) {
		return reconcile.Result{}, fmt.Errorf("writing ConfigMap %s/%s: %w", request.Name, v1alpha1.TrustConfigMap, err)
	}
	return reconcile.Result{}, nil
}

// comesBack reports whether a write failed because the cache lags behind, where the event that it has yet to hear of is
// reconciled in its turn, or because the namespace is going away.
func comesBack(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// desired returns what the ConfigMap should hold, and the Signers that it is for: what was published for those that exist, if the
// namespace is to have it or has it already; and what is there for those of which nothing was published yet, such as right after a
// start.
func desired(bundles map[string]mapped, signers []v1alpha1.Signer, namespace *corev1.Namespace, current map[string]string) (map[string]string, []metav1.OwnerReference) {
	want := map[string]string{}
	var owners []metav1.OwnerReference
	for i := range signers {
		key := v1alpha1.TrustConfigMapKey(signers[i].Spec.SignerName)
		text, there := current[key]
		if b, known := bundles[key]; known && (there || b.in.Matches(labels.Set(namespace.Labels))) {
			text = b.text
		}
		if text != "" {
			want[key] = text
			owners = append(owners, ownerReference(&signers[i]))
		}
	}
	slices.SortFunc(owners, func(a, b metav1.OwnerReference) int { return cmp.Compare(a.Name, b.Name) })
	return want, owners
}

// isRight reports whether the ConfigMap is as it should be: not there if there is nothing to publish.
func isRight(current *corev1.ConfigMap, want map[string]string, owners []metav1.OwnerReference) bool {
	if !exists(current) || len(want) == 0 {
		return !exists(current) && len(want) == 0
	}
	return holds(current, want) && equality.Semantic.DeepEqual(current.OwnerReferences, owners)
}

func exists(current *corev1.ConfigMap) bool {
	return current.UID != "" || current.ResourceVersion != ""
}

func holds(current *corev1.ConfigMap, want map[string]string) bool {
	return maps.Equal(current.Data, want) && len(current.BinaryData) == 0
}

func (p *ConfigMaps) write(ctx context.Context, namespace string, current *corev1.ConfigMap, want map[string]string, owners []metav1.OwnerReference) error {
	immutable := current.Immutable != nil && *current.Immutable
	switch {
	case exists(current) && (len(want) == 0 || immutable && !holds(current, want)):
		// An immutable one cannot be put right. Its deletion is an event that brings us back to create it.
		return client.IgnoreNotFound(p.client.Delete(ctx, current, client.Preconditions{UID: &current.UID, ResourceVersion: &current.ResourceVersion}))
	case exists(current):
		updated := current.DeepCopy()
		updated.Data, updated.BinaryData, updated.OwnerReferences = want, nil, owners
		return p.client.Update(ctx, updated)
	}
	return p.client.Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: v1alpha1.TrustConfigMap, Labels: maps.Clone(managedBy), OwnerReferences: owners},
		Data:       want,
	})
}
