// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"context"
	"crypto/x509"
	"fmt"
	"maps"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// managedBy is the label of everything that this package creates.
var managedBy = map[string]string{"app.kubernetes.io/managed-by": "certwright"}

// ownerReference has Kubernetes delete what is published for a Signer together with the last Signer that it is published for.
func ownerReference(signer *v1alpha1.Signer) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Signer", Name: signer.Name, UID: signer.UID}
}

// ClusterTrustBundles publishes each signerName's bundle as a ClusterTrustBundle. It is safe for concurrent use.
type ClusterTrustBundles struct {
	client client.Client
	reader client.Reader
	beta   bool
	clock  clock.PassiveClock
}

// NewClusterTrustBundles returns a publisher that writes with c and reads with r, which need not be cached: it only ever
// gets one object by name. The version is the one that Detect found.
func NewClusterTrustBundles(c client.Client, r client.Reader, version string, clk clock.PassiveClock) (*ClusterTrustBundles, error) {
	p := &ClusterTrustBundles{client: c, reader: r, clock: clk}
	switch version {
	case certificatesv1.SchemeGroupVersion.Version:
	case certificatesv1beta1.SchemeGroupVersion.Version:
		p.beta = true
	default:
		return nil, fmt.Errorf("version %q of ClusterTrustBundle is not one of v1, v1beta1", version)
	}
	return p, nil
}

// Publish makes exactly these anchors the bundle of a Signer's signerName, but for those that Assemble leaves out, and returns
// where it is. It writes only if that differs from what is published, and leaves that alone if nothing is fit to be published.
// The bundle goes with its Signer, also when nobody is there to withdraw it.
func (p *ClusterTrustBundles) Publish(ctx context.Context, signer *v1alpha1.Signer, anchors []*x509.Certificate) (where string, err error) {
	signerName := signer.Spec.SignerName
	bundle, err := Assemble(anchors, p.clock.Now())
	if err != nil {
		return "", fmt.Errorf("assembling the trust bundle of %s: %w", signerName, err)
	}
	object, spec := p.object(signerName)
	where = "clustertrustbundle/" + object.GetName()
	err = p.reader.Get(ctx, client.ObjectKeyFromObject(object), object)
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return "", fmt.Errorf("reading %s: %w", where, err)
	}
	owners := []metav1.OwnerReference{ownerReference(signer)}
	if !missing && *spec.bundle == bundle.PEM && equality.Semantic.DeepEqual(object.GetOwnerReferences(), owners) {
		return where, nil
	}
	for _, warning := range bundle.Warnings {
		ctrl.LoggerFrom(ctx).Info("leaving a certificate out of the trust bundle", "signerName", signerName, "reason", warning)
	}
	*spec.bundle = bundle.PEM
	object.SetOwnerReferences(owners)
	if missing {
		*spec.signerName = signerName
		object.SetLabels(maps.Clone(managedBy))
		err = p.client.Create(ctx, object)
	} else {
		err = p.client.Update(ctx, object)
	}
	if err != nil {
		return "", fmt.Errorf("writing %s: %w", where, err)
	}
	return where, nil
}

// Withdraw deletes the bundle of a signerName that no Signer has any more. Pods that run keep what they have; those that
// mount it cannot start again.
func (p *ClusterTrustBundles) Withdraw(ctx context.Context, signerName string) error {
	object, _ := p.object(signerName)
	if err := client.IgnoreNotFound(p.client.Delete(ctx, object)); err != nil {
		return fmt.Errorf("deleting clustertrustbundle/%s: %w", object.GetName(), err)
	}
	return nil
}

// specFields are the fields that all versions of the kind have.
type specFields struct{ signerName, bundle *string }

func (p *ClusterTrustBundles) object(signerName string) (client.Object, specFields) {
	name := v1alpha1.ClusterTrustBundleName(signerName)
	if p.beta {
		o := &certificatesv1beta1.ClusterTrustBundle{}
		o.Name = name
		return o, specFields{&o.Spec.SignerName, &o.Spec.TrustBundle}
	}
	o := &certificatesv1.ClusterTrustBundle{}
	o.Name = name
	return o, specFields{&o.Spec.SignerName, &o.Spec.TrustBundle}
}
