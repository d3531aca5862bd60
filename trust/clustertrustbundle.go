// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"context"
	"fmt"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/fair"
)

// managedBy is the label of everything that this package creates.
var managedBy = labels.Set{"app.kubernetes.io/managed-by": "certwright"}

// ownerReference has Kubernetes delete what is published for a Signer together with the last Signer that it is published for.
func ownerReference(signer *v1alpha1.Signer) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Signer", Name: signer.Name, UID: signer.UID}
}

// ClusterTrustBundles publishes each signerName's bundle as a ClusterTrustBundle, and puts it back where it was changed. It is
// safe for concurrent use.
//
// What is to be published is kept in memory and comes from Publish alone: a bundle that nothing was published for since the
// start stays as it is.
type ClusterTrustBundles struct {
	client   client.Client
	reader   client.Reader
	beta     bool
	patience *patience

	mu      sync.Mutex
	bundles map[string]clusterBundle // by name
}

// clusterBundle is what a ClusterTrustBundle should be.
type clusterBundle struct {
	signerName, text string
	owner            metav1.OwnerReference
}

// NewClusterTrustBundles returns a publisher that writes with c and reads with r, which should be no cache: it only ever
// gets one object by name. The version is the one that Detect found. What others change is put back only while the manager
// runs what SetupWithManager adds.
func NewClusterTrustBundles(c client.Client, r client.Reader, version string, clk clock.PassiveClock) (*ClusterTrustBundles, error) {
	p := &ClusterTrustBundles{client: c, reader: r, patience: newPatience(clk), bundles: map[string]clusterBundle{}}
	switch version {
	case certificatesv1.SchemeGroupVersion.Version:
	case certificatesv1beta1.SchemeGroupVersion.Version:
		p.beta = true
	default:
		return nil, fmt.Errorf("version %q of ClusterTrustBundle is not one of v1, v1beta1", version)
	}
	return p, nil
}

// Publish makes the bundle that of a Signer's signerName, and returns where it is. It writes only if that differs from what is
// published. The bundle goes with its Signer, also when nobody is there to withdraw it.
func (p *ClusterTrustBundles) Publish(ctx context.Context, signer *v1alpha1.Signer, bundle Bundle) (where string, err error) {
	signerName := signer.Spec.SignerName
	name := v1alpha1.ClusterTrustBundleName(signerName)
	p.mu.Lock()
	p.bundles[name] = clusterBundle{signerName: signerName, text: bundle.PEM, owner: ownerReference(signer)}
	p.mu.Unlock()
	err = retry.OnError(retry.DefaultRetry, comesBack, func() error { // should Reconcile write at the same time
		_, err := p.put(ctx, name, false)
		return err
	})
	return "clustertrustbundle/" + name, err
}

// Current returns the bundle of a signerName as it is in the cluster, where only those can change it who may attest for the signerName.
func (p *ClusterTrustBundles) Current(ctx context.Context, signerName string) (string, error) {
	name := v1alpha1.ClusterTrustBundleName(signerName)
	object, spec := p.object(name)
	if err := p.reader.Get(ctx, client.ObjectKey{Name: name}, object); apierrors.IsNotFound(err) {
		return "", nil
	} else if err != nil {
		return "", fmt.Errorf("reading clustertrustbundle/%s: %w", name, err)
	}
	return *spec.bundle, nil
}

// Behind returns the name of the bundle if it is not what was published last. It is an error if nothing was since the start.
func (p *ClusterTrustBundles) Behind(ctx context.Context, signerName string) ([]string, error) {
	name := v1alpha1.ClusterTrustBundleName(signerName)
	p.mu.Lock()
	want, known := p.bundles[name]
	p.mu.Unlock()
	if !known {
		return nil, fmt.Errorf("no trust bundle of %s was published since this process began", signerName)
	}
	if text, err := p.Current(ctx, signerName); err != nil || text == want.text {
		return nil, err
	}
	return []string{"clustertrustbundle/" + name}, nil
}

// Withdraw deletes the bundle of a signerName that no Signer has any more. Pods that run keep what they have; those that
// mount it cannot start again.
func (p *ClusterTrustBundles) Withdraw(ctx context.Context, signerName string) error {
	name := v1alpha1.ClusterTrustBundleName(signerName)
	p.mu.Lock()
	delete(p.bundles, name)
	p.mu.Unlock()
	p.patience.forget(name)
	object, _ := p.object(name)
	if err := client.IgnoreNotFound(p.client.Delete(ctx, object)); err != nil {
		return fmt.Errorf("deleting clustertrustbundle/%s: %w", name, err)
	}
	return nil
}

// SetupWithManager has the manager put back bundles that others change or delete. Of those that carry our label it keeps in
// memory that they exist and no more: who takes the label away is seen to delete the bundle.
func (p *ClusterTrustBundles) SetupWithManager(mgr ctrl.Manager) error {
	ours, err := cache.New(mgr.GetConfig(), cache.Options{
		HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(),
		DefaultLabelSelector: labels.SelectorFromSet(managedBy),
		DefaultTransform:     keepName,
	})
	if err != nil {
		return fmt.Errorf("setting up the cache of ClusterTrustBundles: %w", err)
	}
	if err := mgr.Add(ours); err != nil {
		return err
	}
	version := certificatesv1.SchemeGroupVersion
	if p.beta {
		version = certificatesv1beta1.SchemeGroupVersion
	}
	kind := &metav1.PartialObjectMetadata{}
	kind.SetGroupVersionKind(version.WithKind("ClusterTrustBundle"))
	return ctrl.NewControllerManagedBy(mgr).
		Named("clustertrustbundle").
		WatchesRawSource(source.Kind(ours, kind, &handler.TypedEnqueueRequestForObject[*metav1.PartialObjectMetadata]{})).
		WithOptions(controller.Options{RateLimiter: fair.Backoff()}).
		Complete(p)
}

// keepName is a transform of a cache that keeps only what tells objects and their versions apart.
func keepName(object any) (any, error) {
	o, ok := object.(*metav1.PartialObjectMetadata)
	if !ok {
		return object, nil // a tombstone
	}
	return &metav1.PartialObjectMetadata{
		TypeMeta:   o.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{Name: o.Name, UID: o.UID, ResourceVersion: o.ResourceVersion},
	}, nil
}

// Reconcile makes one bundle what it should be, if that is known.
func (p *ClusterTrustBundles) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	wait, err := p.put(ctx, request.Name, true)
	if err != nil && !comesBack(err) {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: wait}, nil
}

// put makes one bundle what it should be, with one write if it is not. If it is patient, it may be that it has to wait.
func (p *ClusterTrustBundles) put(ctx context.Context, name string, patient bool) (wait time.Duration, err error) {
	object, spec := p.object(name)
	err = p.reader.Get(ctx, client.ObjectKey{Name: name}, object)
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return 0, fmt.Errorf("reading clustertrustbundle/%s: %w", name, err)
	}
	// Only now, so that what was wanted before the read never takes the place of what somebody else published after it.
	p.mu.Lock()
	want, known := p.bundles[name]
	p.mu.Unlock()
	if !known || !missing && want.is(object, *spec.bundle) {
		return 0, nil
	}
	if patient {
		if wait := p.patience.wait(name, fmt.Sprint(want)); wait > 0 {
			return wait, nil
		}
	}
	*spec.bundle = want.text
	object.SetOwnerReferences([]metav1.OwnerReference{want.owner})
	object.SetLabels(labels.Merge(object.GetLabels(), managedBy))
	if missing {
		// Should it be withdrawn meanwhile, it has no owner, and Kubernetes deletes it.
		*spec.signerName = want.signerName
		err = p.client.Create(ctx, object)
	} else {
		err = p.client.Update(ctx, object)
	}
	if err != nil {
		return 0, fmt.Errorf("writing clustertrustbundle/%s: %w", name, err)
	}
	return 0, nil
}

// is reports whether an object with this text is as it should be.
func (b clusterBundle) is(object client.Object, text string) bool {
	return text == b.text && equality.Semantic.DeepEqual(object.GetOwnerReferences(), []metav1.OwnerReference{b.owner}) &&
		labels.SelectorFromSet(managedBy).Matches(labels.Set(object.GetLabels()))
}

// specFields are the fields that all versions of the kind have.
type specFields struct{ signerName, bundle *string }

func (p *ClusterTrustBundles) object(name string) (client.Object, specFields) {
	if p.beta {
		o := &certificatesv1beta1.ClusterTrustBundle{}
		o.Name = name
		return o, specFields{&o.Spec.SignerName, &o.Spec.TrustBundle}
	}
	o := &certificatesv1.ClusterTrustBundle{}
	o.Name = name
	return o, specFields{&o.Spec.SignerName, &o.Spec.TrustBundle}
}
