// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// CFSSL says which signer of which cfssl or multirootca server signs.
type CFSSL struct {
	Server `json:",inline"`

	// Profile of the server's signing configuration. It decides the usages of certificates: a request for others is refused.
	// Default: the server's own. A cfssl server takes that one also in place of a profile that it does not have.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Profile string `json:"profile,omitempty"`

	// Label of the signer, for a multirootca server, which gives certificates the lifetime that was granted. Without a label it
	// is a cfssl server, which gives each the lifetime of the profile: a request for a shorter one is refused.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Label string `json:"label,omitempty"`

	// AuthKeyRef is where the key of authenticated signing (authsign) is, in hexadecimal digits as in the server's configuration.
	AuthKeyRef SecretKeyRef `json:"authKeyRef"`

	// Chain holds the CA certificates in PEM that stand above the server's own, as the server does not tell them. The root may be
	// among them; it is then the trust anchor, unless trustAnchors are set.
	//
	// +kubebuilder:validation:MaxLength=65536
	// +optional
	Chain string `json:"chain,omitempty"`

	// ClientCertificateRef names a Secret of type kubernetes.io/tls with a client certificate, for a server that asks for one.
	//
	// +optional
	ClientCertificateRef *SecretRef `json:"clientCertificateRef,omitempty"`
}
