// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "strings"

// TrustConfigMap is the name of the ConfigMap that holds the trust bundles in each namespace of a cluster that serves no
// ClusterTrustBundles. It is one name, so that the right to change it can be granted by name.
const TrustConfigMap = "certwright-trust"

// ClusterTrustBundleName is the name under which the trust bundle of a signerName is published. Kubernetes wants it to
// start with the signerName, its slash as a colon, and another colon (KEP-3257).
func ClusterTrustBundleName(signerName string) string {
	return strings.Replace(signerName, "/", ":", 1) + ":certwright"
}

// TrustConfigMapKey is the key of a signerName's bundle in the TrustConfigMap. An underscore takes the place of the slash,
// as a signerName holds none itself and a key may hold no slash.
func TrustConfigMapKey(signerName string) string {
	return strings.Replace(signerName, "/", "_", 1) + ".pem"
}

// IndexSignerName is the name of the index of cached Signers and CertificatePolicies by the signerNames that they name.
const IndexSignerName = "signerName"

// AnnotationReview is the annotation of a CertificateSigningRequest that waits for a person. It says in plain words what is
// to be decided. Nothing is ever decided by it.
const AnnotationReview = "certwright.dev/review"

// AnnotationRenewAt is the annotation of a CertificateSigningRequest that says when its certificate should be renewed (RFC 3339), as the
// backend that signed it advises. The signer writes it beside the certificate. It is advice: a requester may only ever renew earlier
// for it than it would anyway.
const AnnotationRenewAt = "certwright.dev/renew-at"

// Annotations of a Signer by which a person has a managed CA replaced. The value is the fingerprint of the root that is meant, as
// status.backends says it, so that the word means nothing to the root that comes after it.
const (
	// AnnotationRotateRoot has the root replaced in phases that no verifier notices.
	AnnotationRotateRoot = "certwright.dev/rotate-root"
	// AnnotationRotateIntermediate has the CA certificate that signs replaced, by another one of the same root. The value is its own
	// fingerprint, status.backends[].issuer.
	AnnotationRotateIntermediate = "certwright.dev/rotate-intermediate"
	// AnnotationCompromisedRoot has the root replaced at once, and no longer trusted: what it signed is worth nothing from then on.
	AnnotationCompromisedRoot = "certwright.dev/compromised-root"
)

// AnnotationRenew is the annotation of a pod that asks for its certificate to be renewed if it was issued before a time (RFC 3339). Agents
// follow it; a kubelet asks for a certificate when it wants to.
const AnnotationRenew = "certwright.dev/renew"

// AnnotationDeliveredBy is the annotation by which the webhook says what brings a pod its certificate: agent, init or kubelet.
const AnnotationDeliveredBy = "certwright.dev/delivered-by"

// TrustFormatKey is the key of a signerName's bundle in a format other than PEM in the TrustConfigMap.
func TrustFormatKey(signerName string, format TrustFormat) string {
	extension := map[TrustFormat]string{TrustFormatPKCS12: ".p12", TrustFormatJKS: ".jks"}[format]
	return strings.Replace(signerName, "/", "_", 1) + extension
}
