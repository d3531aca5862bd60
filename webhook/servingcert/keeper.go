// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package servingcert keeps the serving certificate of a webhook fresh: made by
// itself, shared by all replicas through one Secret, and trusted by the API
// server through the caBundle of one MutatingWebhookConfiguration.
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
package servingcert

import (
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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	// Secret that holds the certificate and its key; it is made if missing.
	Secret types.NamespacedName
	// Configuration is the name of the MutatingWebhookConfiguration, all of whose
	// webhooks are served with the certificate. Others install it.
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
	switch {
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

// Sync looks once at Secret and configuration, and puts right what is wrong.
func (k *Keeper) Sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var err error
	for range attempts {
		err = k.syncOnce(ctx)
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	return fmt.Errorf("another replica was faster %d times: %w", attempts, err)
}

// syncOnce reads the configuration before the Secret. Whoever writes the
// configuration has thus seen a Secret at least as new as anybody who wrote the
// same version of it before, and no bundle is replaced by an older one.
func (k *Keeper) syncOnce(ctx context.Context) error {
	var config admissionregistrationv1.MutatingWebhookConfiguration
	configErr := k.client.Get(ctx, types.NamespacedName{Name: k.opts.Configuration}, &config)
	if configErr != nil && !apierrors.IsNotFound(configErr) {
		return fmt.Errorf("reading MutatingWebhookConfiguration %s: %w", k.opts.Configuration, configErr)
	}
	current, err := k.syncSecret(ctx, &config)
	if err != nil {
		return err
	}
	k.serve(current.current, configErr == nil && trusts(&config, current.current))
	if configErr != nil {
		return fmt.Errorf("reading MutatingWebhookConfiguration %s, install it: %w", k.opts.Configuration, configErr)
	}
	if err := k.syncBundle(ctx, &config, current.bundle()); err != nil {
		return err
	}
	k.serve(current.current, trusts(&config, current.current))
	return nil
}

// syncSecret returns the state that is in the Secret, after having brought it up
// to date.
func (k *Keeper) syncSecret(ctx context.Context, config *admissionregistrationv1.MutatingWebhookConfiguration) (state, error) {
	now := k.clock.Now()
	var secret corev1.Secret
	err := k.client.Get(ctx, k.opts.Secret, &secret)
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return state{}, fmt.Errorf("reading Secret %s: %w", k.opts.Secret, err)
	}
	found := decode(secret.Data, k.opts.DNSName, now)
	next, changed, err := found.advance(k.opts.DNSName, now, func(g *generation) bool { return trusts(config, g) })
	if err != nil {
		return state{}, err
	}
	if !changed {
		return next, nil
	}
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	next.encode(secret.Data)
	if missing {
		secret.ObjectMeta = metav1.ObjectMeta{Namespace: k.opts.Secret.Namespace, Name: k.opts.Secret.Name}
		secret.Type = corev1.SecretTypeTLS
		if err := k.client.Create(ctx, &secret); err != nil {
			return state{}, fmt.Errorf("creating Secret %s: %w", k.opts.Secret, err)
		}
		return next, nil
	}
	if err := k.client.Update(ctx, &secret); err != nil {
		return state{}, fmt.Errorf("updating Secret %s: %w", k.opts.Secret, err)
	}
	return next, nil
}

// syncBundle writes the caBundle of every webhook, and nothing else, if one differs.
func (k *Keeper) syncBundle(ctx context.Context, config *admissionregistrationv1.MutatingWebhookConfiguration, bundle []byte) error {
	patch := client.StrategicMergeFrom(config.DeepCopy(), client.MergeFromWithOptimisticLock{})
	changed := false
	for i := range config.Webhooks {
		if target := &config.Webhooks[i].ClientConfig; !slices.Equal(target.CABundle, bundle) {
			target.CABundle, changed = bundle, true
		}
	}
	if !changed {
		return nil
	}
	if err := k.client.Patch(ctx, config, patch); err != nil {
		return fmt.Errorf("writing the caBundle of MutatingWebhookConfiguration %s: %w", k.opts.Configuration, err)
	}
	return nil
}

func (k *Keeper) serve(g *generation, trusted bool) {
	k.served.Store(&served{certificate: &g.pair, notAfter: g.pair.Leaf.NotAfter, trusted: trusted})
}
