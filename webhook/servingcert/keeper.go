// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package servingcert keeps the serving certificate of a webhook fresh: made by
// itself, shared by all replicas through one Secret, and trusted by the API
// server through the caBundle of the webhook's configurations.
//
// What it promises:
//
//   - A new certificate is trusted by the API server before it is served, and the
//     old one until it expires, so a rotation interrupts nothing.
//   - Replicas need no leader. Whoever writes first wins; the others take over
//     what was written.
//   - A certificate is replaced when it is broken, or when its time has come, and
//     never otherwise. Trouble with the API leaves what is served as it is.
//   - The key of the CA is forgotten once it has signed its one certificate.
//   - It creates nothing and writes nothing but these: the Secret's data and the
//     caBundles.
package servingcert

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// interval between two looks at Secret and configuration, retry after an error.
	interval = 10 * time.Second
	retry    = 2 * time.Second
	// attempts to write when another replica was faster.
	attempts = 5
	// callTimeout bounds one look, with all its calls.
	callTimeout = 30 * time.Second
)

// Options name what a Keeper keeps. All fields are required.
type Options struct {
	// Secret that holds the certificate and its key. Others install it, empty.
	Secret types.NamespacedName
	// Configuration is the name of the MutatingWebhookConfiguration, and of the
	// ValidatingWebhookConfiguration if there is one, all of whose webhooks are
	// served with the certificate. Others install them.
	Configuration string
	// DNSName by which the API server calls: service.namespace.svc.
	DNSName string
}

// Keeper keeps one serving certificate. Its methods may be called concurrently.
type Keeper struct {
	client client.Client
	clock  clock.WithTicker
	opts   Options
	served atomic.Pointer[served]
	// trouble of the last Sync, or nil.
	trouble atomic.Pointer[error]
}

// served is what this replica serves, and whether the API server trusts it.
type served struct {
	certificate *tls.Certificate
	notAfter    time.Time
	trusted     bool
}

// New returns a Keeper. The client should read without a cache.
func New(c client.Client, clk clock.WithTicker, opts Options) *Keeper {
	return &Keeper{client: c, clock: clk, opts: opts}
}

// GetCertificate is for tls.Config.
func (k *Keeper) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if s := k.served.Load(); s != nil {
		return s.certificate, nil
	}
	return nil, errors.New("the serving certificate is not there yet")
}

// Ready returns nil while the certificate is valid and the API server trusts it.
// It is a healthz.Checker.
func (k *Keeper) Ready(*http.Request) error {
	s := k.served.Load()
	trouble := k.trouble.Load()
	switch {
	case s == nil && trouble != nil:
		return fmt.Errorf("the serving certificate is not there yet: %w", *trouble)
	case s == nil:
		return errors.New("the serving certificate is not there yet")
	case k.clock.Now().After(s.notAfter):
		return fmt.Errorf("the serving certificate expired at %s", s.notAfter.UTC().Format(time.RFC3339))
	case !s.trusted:
		return fmt.Errorf("MutatingWebhookConfiguration %s does not trust the serving certificate yet", k.opts.Configuration)
	}
	return nil
}

// Run calls Sync until the context ends, and then returns nil.
func (k *Keeper) Run(ctx context.Context) error {
	log := ctrl.LoggerFrom(ctx).WithName("serving-certificate")
	for {
		pause := interval
		if err := k.Sync(ctx); err != nil && ctx.Err() == nil {
			log.Error(err, "keeping the serving certificate")
			pause = retry
		}
		timer := k.clock.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C():
		}
	}
}

// Sync looks once at Secret and configurations, and puts right what is wrong.
func (k *Keeper) Sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := k.sync(ctx)
	if err != nil {
		k.trouble.Store(&err)
	} else {
		k.trouble.Store(nil)
	}
	return err
}

func (k *Keeper) sync(ctx context.Context) error {
	var err error
	for range attempts {
		if err = k.syncOnce(ctx); !apierrors.IsConflict(err) {
			return err
		}
	}
	return fmt.Errorf("another replica was faster %d times: %w", attempts, err)
}

// syncOnce reads the configurations before the Secret. Whoever writes a
// configuration has thus seen a Secret at least as new as anybody who wrote the
// same version of it before, and no bundle is replaced by an older one.
//
// What is wrong with the validating configuration keeps nothing else from its way:
// pods depend on the mutating one alone.
func (k *Keeper) syncOnce(ctx context.Context) error {
	mutating, missing := k.mutating(ctx)
	if missing != nil && !apierrors.IsNotFound(missing) {
		return missing
	}
	validating, optional := k.validating(ctx)
	current, err := k.syncSecret(ctx, func(g *generation) bool { return missing == nil && mutating.trusts(g) && validating.trusts(g) })
	if err != nil {
		return err
	}
	k.serve(current.current, missing == nil && mutating.trusts(current.current))
	if missing != nil {
		return fmt.Errorf("%w; install it", missing)
	}
	if err := k.syncBundle(ctx, mutating, current.bundle()); err != nil {
		return err
	}
	k.serve(current.current, mutating.trusts(current.current))
	if optional == nil {
		optional = k.syncBundle(ctx, validating, current.bundle())
	}
	return optional
}

// syncSecret returns the state that is in the Secret, after having brought it up
// to date.
func (k *Keeper) syncSecret(ctx context.Context, trusted func(*generation) bool) (state, error) {
	var secret corev1.Secret
	if err := k.client.Get(ctx, k.opts.Secret, &secret); apierrors.IsNotFound(err) {
		return state{}, fmt.Errorf("reading Secret %s: %w; create it, empty, the webhook fills it in: kubectl create secret generic %s --namespace %s",
			k.opts.Secret, err, k.opts.Secret.Name, k.opts.Secret.Namespace)
	} else if err != nil {
		return state{}, fmt.Errorf("reading Secret %s: %w", k.opts.Secret, err)
	}
	now := k.clock.Now()
	next, changed, err := decode(secret.Data, k.opts.DNSName, now).advance(k.opts.DNSName, now, trusted)
	if err != nil || !changed {
		return next, err
	}
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	next.encode(secret.Data)
	// With the version that was read: of two replicas one is refused, and takes over what the other wrote.
	if err := k.client.Update(ctx, &secret); err != nil {
		return state{}, fmt.Errorf("updating Secret %s: %w", k.opts.Secret, err)
	}
	return next, nil
}

// syncBundle writes the caBundle of every webhook, and nothing else, if one differs.
func (k *Keeper) syncBundle(ctx context.Context, c configuration, bundle []byte) error {
	if !slices.ContainsFunc(c.webhooks, func(w *admissionregistrationv1.WebhookClientConfig) bool { return !bytes.Equal(w.CABundle, bundle) }) {
		return nil
	}
	patch := client.StrategicMergeFrom(c.object.DeepCopyObject().(client.Object), client.MergeFromWithOptimisticLock{})
	for _, w := range c.webhooks {
		w.CABundle = bundle
	}
	if err := k.client.Patch(ctx, c.object, patch); err != nil {
		return fmt.Errorf("writing the caBundle of %s %s: %w", c.kind, k.opts.Configuration, err)
	}
	return nil
}

func (k *Keeper) serve(g *generation, trusted bool) {
	k.served.Store(&served{certificate: &g.pair, notAfter: g.pair.Leaf.NotAfter, trusted: trusted})
}
