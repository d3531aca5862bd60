// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// External says how to reach a program that serves the gRPC contract certwright.signer.v1: over a Unix socket in the signer's
// pod, or over mutual TLS.
//
// +kubebuilder:validation:XValidation:rule="self.address.startsWith('unix:') != has(self.clientCertificateRef)",message="clientCertificateRef must be set for HOST:PORT, and only there"
type External struct {
	// Address is HOST:PORT, or unix:///run/certwright/NAME.sock for a program in the signer's pod.
	//
	// +kubebuilder:validation:MaxLength=300
	// +kubebuilder:validation:Pattern=`^([^\s/?#@]+:[0-9]+|unix:///run/certwright/[-a-z0-9]+\.sock)$`
	Address string `json:"address"`

	// CABundle holds the certificates in PEM that the program's own certificate must lead to. Default: the public roots that come
	// with Certwright's image.
	//
	// +kubebuilder:validation:MaxLength=65536
	// +optional
	CABundle string `json:"caBundle,omitempty"`

	// ServerName is the name that the program's certificate must have, if it is not the address's host.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	ServerName string `json:"serverName,omitempty"`

	// ClientCertificateRef names a Secret of type kubernetes.io/tls with the certificate that Certwright shows.
	//
	// +optional
	ClientCertificateRef *SecretRef `json:"clientCertificateRef,omitempty"`

	// Config is handed to the program with each call.
	//
	// +kubebuilder:validation:MaxProperties=32
	// +optional
	Config map[string]string `json:"config,omitempty"`
}
