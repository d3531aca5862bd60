// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/discovery"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/ability"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer/issue"
	"github.com/certwright/certwright/signer/podcert"
	"github.com/certwright/certwright/signer/podcert/naming"
)

// servedPods is how PodCertificateRequests are signed, for as long as the API server serves them in one version, or not at all.
type servedPods struct {
	cluster ability.Cluster
	version podcert.Version
}

func newServedPods() (servedPods, error) {
	config, err := clientConfig()
	if err != nil {
		return servedPods{}, err
	}
	api, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return servedPods{}, fmt.Errorf("setting up discovery: %w", err)
	}
	p := servedPods{cluster: ability.Cluster{API: api}}
	p.version, err = podcert.Served(p.cluster)
	return p, err
}

// cached says what is kept of them in memory. What the API server does not serve must not be spoken of.
func (p servedPods) cached() map[client.Object]cache.ByObject {
	if p.version == "" {
		return nil
	}
	cached := map[client.Object]cache.ByObject{
		// Whole, with managedFields: they say when these were written last.
		&admissionregistrationv1.ValidatingAdmissionPolicy{}:        {Field: named(podcert.AdmissionPolicy), Transform: whole},
		&admissionregistrationv1.ValidatingAdmissionPolicyBinding{}: {Field: named(podcert.AdmissionPolicy), Transform: whole},
	}
	switch p.version {
	case podcert.V1:
		cached[&certificatesv1.PodCertificateRequest{}] = cache.ByObject{Transform: keep(keepPodRequest)}
	case podcert.V1Beta1:
		cached[&certificatesv1beta1.PodCertificateRequest{}] = cache.ByObject{Transform: keep(keepBetaPodRequest)}
	}
	return cached
}

// whole is the transform of a cache that keeps objects as they are.
func whole(object any) (any, error) { return object, nil }

// named selects the one object of a name, which is all that may be read.
func named(name string) fields.Selector {
	return fields.OneTermEqualSelector(metav1.ObjectNameField, name)
}

func (p servedPods) setup(mgr *controller, core *issue.Core, namespace string, workers int) error {
	if p.version == "" {
		mgr.GetLogger().Info("the API server serves no PodCertificateRequests")
		return nil
	}
	return podcert.New(core, mgr.GetClient(), p.version, namespace, mgr.judge, mgr.teller).SetupWithManager(mgr, workers)
}

// watch returns an error when the API server serves another version.
func (p servedPods) watch(ctx context.Context) error {
	return podcert.WatchServed(ctx, p.cluster, clock.RealClock{}, p.version)
}

// keepPodRequest does for what kubelets ask what keepRequest does for all others. What is cut is refused all the same.
func keepPodRequest(o *certificatesv1.PodCertificateRequest) *certificatesv1.PodCertificateRequest {
	kept := &certificatesv1.PodCertificateRequest{ObjectMeta: keepMeta(o.ObjectMeta)}
	kept.Spec.SignerName = o.Spec.SignerName
	kept.Status.Conditions = keepTypes(o.Status.Conditions)
	if len(o.Status.Conditions) > 0 || csr.IsKubernetesSigner(o.Spec.SignerName) {
		return kept
	}
	kept.Spec = o.Spec
	kept.Spec.StubPKCS10Request = cut(o.Spec.StubPKCS10Request)
	kept.Spec.UnverifiedUserAnnotations = keepAnnotations(o.Spec.UnverifiedUserAnnotations)
	return kept
}

// keepBetaPodRequest is keepPodRequest for v1beta1, with the older form of the key.
func keepBetaPodRequest(o *certificatesv1beta1.PodCertificateRequest) *certificatesv1beta1.PodCertificateRequest {
	kept := &certificatesv1beta1.PodCertificateRequest{ObjectMeta: keepMeta(o.ObjectMeta)}
	kept.Spec.SignerName = o.Spec.SignerName
	kept.Status.Conditions = keepTypes(o.Status.Conditions)
	if len(o.Status.Conditions) > 0 || csr.IsKubernetesSigner(o.Spec.SignerName) {
		return kept
	}
	kept.Spec = o.Spec
	kept.Spec.StubPKCS10Request = cut(o.Spec.StubPKCS10Request)
	kept.Spec.PKIXPublicKey, kept.Spec.ProofOfPossession = cut(o.Spec.PKIXPublicKey), cut(o.Spec.ProofOfPossession) //nolint:staticcheck // kubelets before 1.36 know this form only
	kept.Spec.UnverifiedUserAnnotations = keepAnnotations(o.Spec.UnverifiedUserAnnotations)
	return kept
}

// keepAnnotations cuts annotations that are too large to a size at which they still are.
func keepAnnotations(all map[string]string) map[string]string {
	if naming.AnnotationBytes(all) <= naming.MaxAnnotationBytes {
		return all
	}
	kept := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		room := naming.MaxAnnotationBytes + 1 - naming.AnnotationBytes(kept)
		if room <= 0 {
			break
		}
		kept[strings.Clone(key)] = strings.Clone(all[key][:min(len(all[key]), room)])
	}
	return kept
}

// keepTypes keeps that something was said about a request, and what.
func keepTypes(all []metav1.Condition) []metav1.Condition {
	var kept []metav1.Condition
	for _, c := range all {
		kept = append(kept, metav1.Condition{Type: c.Type, Status: c.Status})
	}
	return kept
}
