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
