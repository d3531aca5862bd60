// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// CFSSL says which signer of which cfssl or multirootca server signs.
type CFSSL struct {
	Server `json:",inline"`

	// Profile of the server's signing configuration. Default: the server's own.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Profile string `json:"profile,omitempty"`

	// Label of the signer, for a multirootca server.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Label string `json:"label,omitempty"`

	// AuthKeyRef is where the key of authenticated signing (authsign) is, in hexadecimal digits as in the server's configuration.
	AuthKeyRef SecretKeyRef `json:"authKeyRef"`

	// ClientCertificateRef names a Secret of type kubernetes.io/tls with a client certificate, for a server that asks for one.
	//
	// +optional
	ClientCertificateRef *SecretRef `json:"clientCertificateRef,omitempty"`
}
