// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// kubeletRequests reports on the requests that this pod's kubelet made for it.
func (c Cluster) kubeletRequests(ctx context.Context, pod *corev1.Pod) ([]Report, error) {
	requests, err := PodCertificateRequests(ctx, c.Reader, pod.Namespace)
	if err != nil {
		return nil, fmt.Errorf("listing podcertificaterequests: %w", err)
	}
	var reports []Report
	for i := range requests {
		if requests[i].Spec.PodUID == pod.UID {
			reports = append(reports, c.kubeletReport(ctx, &requests[i]))
		}
	}
	return reports, nil
}

// kubeletReport reports on one of them and, if it was issued, on its certificate.
func (c Cluster) kubeletReport(ctx context.Context, object *certificatesv1.PodCertificateRequest) Report {
	r := Report{Source: "podcertificaterequest " + object.Namespace + "/" + object.Name, Request: &Request{
		Name: object.Name, SignerName: object.Spec.SignerName, RequestedBy: "its kubelet", Status: "Pending",
		Created: ptr.To(object.CreationTimestamp.UTC()),
	}}
	if object.Spec.MaxExpirationSeconds != nil {
		r.Request.Duration = (time.Duration(*object.Spec.MaxExpirationSeconds) * time.Second).String()
	}
	if object.Status.BeginRefreshAt != nil {
		r.Request.RenewFrom = ptr.To(object.Status.BeginRefreshAt.UTC())
	}
	for _, condition := range object.Status.Conditions {
		r.Request.Status, r.Request.StatusMessage = condition.Type, condition.Message
		if condition.Type != certificatesv1.PodCertificateRequestConditionTypeIssued {
			r.find(Error, "the request was "+map[string]string{
				certificatesv1.PodCertificateRequestConditionTypeDenied: "denied", certificatesv1.PodCertificateRequestConditionTypeFailed: "given up",
			}[condition.Type]+": "+condition.Message)
		}
	}
	if object.Status.CertificateChain == "" {
		return r
	}
	m, err := decode([]byte(object.Status.CertificateChain))
	if err != nil {
		r.find(Error, "the issued certificate cannot be read: "+err.Error())
		return r
	}
	anchors, why := c.anchors(ctx, object.Spec.SignerName, object.Namespace)
	r.addProblems(m)
	r.judge(m.certificates, anchors, c.Clock.Now())
	if why != nil {
		r.find(Warning, why.Error())
	}
	return r
}
