// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package podcert

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/certwright/certwright/csr"
)

// rejects applies the rules by which an API server of Kubernetes 1.36 or 1.37 takes the status of a PodCertificateRequest
// (k8s.io/kubernetes/pkg/apis/certificates/validation, ValidatePodCertificateRequestStatusUpdate), at its own time.
func rejects(r *certificatesv1beta1.PodCertificateRequest, now time.Time) error {
	path := field.NewPath("status")
	errs := validation.ValidateConditions(r.Status.Conditions, path.Child("conditions"))
	must := func(ok bool, at string, rule string) {
		if !ok {
			errs = append(errs, field.Invalid(path.Child(at), "a value that takes kilobytes", rule))
		}
	}
	s := r.Status
	must(len(s.Conditions) == 1 && s.Conditions[0].Status == metav1.ConditionTrue, "conditions", "must be one of Issued, Denied and Failed, and True")
	if len(s.Conditions) == 1 && s.Conditions[0].Type != "Issued" {
		must(s.CertificateChain == "" && s.NotBefore == nil && s.NotAfter == nil && s.BeginRefreshAt == nil, "certificateChain", "must be empty when denied or failed")
		return invalid(r, errs)
	}
	must(len(s.CertificateChain) <= 100*1024, "certificateChain", "must be of 100 KiB at most")
	var chain []*x509.Certificate
	for rest := []byte(s.CertificateChain); len(rest) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			must(false, "certificateChain", "must be CERTIFICATE blocks")
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		must(err == nil, "certificateChain", "must parse")
		chain = append(chain, c)
	}
	if must(len(chain) > 0 && s.NotBefore != nil && s.NotAfter != nil && s.BeginRefreshAt != nil, "notBefore", "must be there, as must the others"); len(errs) > 0 {
		return invalid(r, errs)
	}
	leaf := chain[0]
	req, err := csr.ParsePod(r)
	must(err == nil && req.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(leaf.PublicKey), "certificateChain", "must be for the key")
	must(s.NotBefore.Time.Equal(leaf.NotBefore) && s.NotAfter.Time.Equal(leaf.NotAfter), "notBefore", "must be the leaf's, as must notAfter")
	must(s.NotBefore.After(now.Add(-5*time.Minute)) && s.NotBefore.Time.Before(now.Add(5*time.Minute)), "notBefore", "must be set to within 5 minutes of kube-apiserver's current time")
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	must(life >= time.Hour, "certificateChain", "must live for an hour at least")
	must(life <= time.Duration(*r.Spec.MaxExpirationSeconds)*time.Second, "certificateChain", fmt.Sprintf("must not live for %s", life))
	must(!s.BeginRefreshAt.Time.Before(s.NotBefore.Add(10*time.Minute)), "beginRefreshAt", "must be 10 minutes after notBefore at least")
	must(!s.BeginRefreshAt.After(s.NotAfter.Add(-10*time.Minute)), "beginRefreshAt", "must be 10 minutes before notAfter at least")
	return invalid(r, errs)
}

func invalid(r *certificatesv1beta1.PodCertificateRequest, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(certificatesv1beta1.Kind("PodCertificateRequest"), r.Name, errs)
}
