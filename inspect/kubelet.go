// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// kubeletRequest is what the versions of PodCertificateRequest have in common.
type kubeletRequest struct {
	metav1.ObjectMeta
	signerName string
	seconds    *int32
	conditions []metav1.Condition
	chain      string
	refresh    *metav1.Time
}

// kubeletRequests reports on the requests that this pod's kubelet made for it, in whatever version the API server has the kind, if it has it.
func (c Cluster) kubeletRequests(ctx context.Context, pod *corev1.Pod) ([]Report, error) {
	var found []kubeletRequest
	var v1 certificatesv1.PodCertificateRequestList
	err := c.Reader.List(ctx, &v1, client.InNamespace(pod.Namespace))
	for _, o := range v1.Items {
		if o.Spec.PodUID == pod.UID {
			found = append(found, kubeletRequest{o.ObjectMeta, o.Spec.SignerName, o.Spec.MaxExpirationSeconds, o.Status.Conditions, o.Status.CertificateChain, o.Status.BeginRefreshAt})
		}
	}
	if meta.IsNoMatchError(err) {
		var beta certificatesv1beta1.PodCertificateRequestList
		err = absent(c.Reader.List(ctx, &beta, client.InNamespace(pod.Namespace)))
		for _, o := range beta.Items {
			if o.Spec.PodUID == pod.UID {
				found = append(found, kubeletRequest{o.ObjectMeta, o.Spec.SignerName, o.Spec.MaxExpirationSeconds, o.Status.Conditions, o.Status.CertificateChain, o.Status.BeginRefreshAt})
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listing podcertificaterequests: %w", err)
	}
	var reports []Report
	for _, request := range found {
		reports = append(reports, c.kubeletReport(ctx, request))
	}
	return reports, nil
}

// kubeletReport reports on one of them and, if it was issued, on its certificate.
func (c Cluster) kubeletReport(ctx context.Context, object kubeletRequest) Report {
	r := Report{Source: "podcertificaterequest " + object.Namespace + "/" + object.Name, Request: &Request{
		Name: object.Name, SignerName: object.signerName, RequestedBy: "its kubelet", Status: "Pending",
		Created: ptr.To(object.CreationTimestamp.UTC()),
	}}
	if object.seconds != nil {
		r.Request.Duration = (time.Duration(*object.seconds) * time.Second).String()
	}
	if object.refresh != nil {
		r.Request.RenewFrom = ptr.To(object.refresh.UTC())
	}
	for _, condition := range object.conditions {
		r.Request.Status, r.Request.StatusMessage = condition.Type, condition.Message
		if condition.Type != certificatesv1.PodCertificateRequestConditionTypeIssued {
			r.find(Error, "the request was "+map[string]string{
				certificatesv1.PodCertificateRequestConditionTypeDenied: "denied", certificatesv1.PodCertificateRequestConditionTypeFailed: "given up",
			}[condition.Type]+": "+condition.Message)
		}
	}
	if object.chain == "" {
		return r
	}
	m, err := decode([]byte(object.chain))
	if err != nil {
		r.find(Error, "the issued certificate cannot be read: "+err.Error())
		return r
	}
	anchors, why := c.anchors(ctx, object.signerName, object.Namespace)
	r.addProblems(m)
	r.judge(m.certificates, anchors, c.Clock.Now())
	if why != nil {
		r.find(Warning, why.Error())
	}
	return r
}
