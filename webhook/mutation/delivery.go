// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package mutation

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/webhook/annotation"
	"github.com/certwright/certwright/webhook/inject"
)

// choose says who delivers: agent, init or kubelet. A pod that leaves it open gets
// the kubelet where nothing speaks against it. One that insists on the kubelet is
// told all that does.
func (m Mutator) choose(pod *corev1.Pod, ask annotation.Ask, in Facts) (annotation.Way, annotation.Refusal) {
	if ask.Delivery != annotation.DeliveryAuto && ask.Delivery != annotation.DeliveryKubelet {
		return ask.Delivery, nil
	}
	problems := ask.NeedsAgent()
	if !ask.TrustOnly() {
		problems = append(problems, m.kubeletProblems(pod, ask, in)...)
	}
	if ask.Delivery == annotation.DeliveryKubelet {
		return annotation.DeliveryKubelet, problems
	}
	if len(problems) == 0 && (ask.TrustOnly() || m.PodCertificates.EveryKubelet) {
		return annotation.DeliveryKubelet, nil
	}
	return annotation.DeliveryAgent, nil
}

// asksSigner tells whether it depends on the Signer who delivers.
func (m Mutator) asksSigner(ask annotation.Ask) bool {
	switch ask.Delivery {
	case annotation.DeliveryKubelet:
		return m.PodCertificates.Version != ""
	case annotation.DeliveryAuto:
		return m.PodCertificates.EveryKubelet && ask.NeedsAgent() == nil
	default:
		return false
	}
}

// kubeletProblems says what of the cluster, the Signer and the pod keeps any kubelet
// from delivering a certificate.
func (m Mutator) kubeletProblems(pod *corev1.Pod, ask annotation.Ask, in Facts) (refusal annotation.Refusal) {
	instead := fmt.Sprintf("or set annotation %s to %s", annotation.Delivery, annotation.DeliveryAgent)
	if m.PodCertificates.Version == "" {
		refusal.Addf("annotation %s: %q is not allowed, the cluster serves no PodCertificateRequests: leave it out, %s", annotation.Delivery, annotation.DeliveryKubelet, instead)
		return refusal // the Signer is not known then
	}
	signerName := annotation.Shorten(ask.SignerName)
	switch {
	case in.Signer == nil:
		refusal.Addf("annotation %s: %q is not allowed, no Signer has signerName %s: apply one with spec.podCertificates, %s", annotation.Delivery, annotation.DeliveryKubelet, signerName, instead)
	case in.Signer.Spec.PodCertificates == nil:
		refusal.Addf("annotation %s: %q is not allowed, Signer %s of %s signs nothing for kubelets: have somebody set its spec.podCertificates, %s",
			annotation.Delivery, annotation.DeliveryKubelet, in.Signer.Name, signerName, instead)
	case !slices.ContainsFunc(in.Signer.Spec.Backends, func(b v1alpha1.Backend) bool { return b.CA != nil }):
		refusal.Addf("annotation %s: %q is not allowed, Signer %s of %s has no backend that signs for kubelets, such as ca: have somebody add one, %s",
			annotation.Delivery, annotation.DeliveryKubelet, in.Signer.Name, signerName, instead)
	case in.Signer.Spec.Limits.MaxDuration.Duration != 0 && in.Signer.Spec.Limits.MaxDuration.Duration < annotation.MinKubeletDuration:
		refusal.Addf("annotation %s: %q is not allowed, kubelets take nothing shorter than %s and Signer %s of %s signs nothing longer than %s: have somebody raise its spec.limits.maxDuration, %s",
			annotation.Delivery, annotation.DeliveryKubelet, annotation.MinKubeletDuration, in.Signer.Name, signerName, in.Signer.Spec.Limits.MaxDuration.Duration, instead)
	}
	if problem := inject.KeyProblem(pod); problem != "" {
		refusal.Addf("annotation %s: %s", annotation.Delivery, problem)
	}
	if ask.DNSNames != nil && ask.URIs != nil && len(ask.DNSNames)+len(ask.URIs)+len(ask.IPAddresses) == 0 {
		refusal = append(refusal, noNames)
	}
	return refusal
}
