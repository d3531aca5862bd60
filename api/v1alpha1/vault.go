// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Vault says which role of which PKI secrets engine signs, and how to log in.
type Vault struct {
	Server `json:",inline"`

	// Namespace of Vault Enterprise, HCP Vault or OpenBao that path and auth are in, such as "team/prod". Default: the root one.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Namespace string `json:"namespace,omitempty"`

	// Path where the PKI secrets engine is mounted.
	//
	// +kubebuilder:default=pki
	// +kubebuilder:validation:MaxLength=253
	Path string `json:"path,omitempty"`

	// Role of the PKI secrets engine that signs. Its key usages and names must allow what policies do.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Role string `json:"role"`

	// Auth says how to log in.
	Auth VaultAuth `json:"auth"`
}

// VaultAuth says how to log in to Vault. Exactly one method is set.
//
// +kubebuilder:validation:XValidation:rule="[has(self.kubernetes), has(self.appRole), has(self.certificate), has(self.tokenSecretRef)].exists_one(set, set)",message="exactly one method must be set: kubernetes, appRole, certificate or tokenSecretRef"
type VaultAuth struct {
	// Kubernetes logs in with a token of the signer's service account.
	//
	// +optional
	Kubernetes *VaultKubernetesAuth `json:"kubernetes,omitempty"`

	// AppRole logs in with a role ID and a secret ID.
	//
	// +optional
	AppRole *VaultAppRoleAuth `json:"appRole,omitempty"`

	// Certificate logs in with a TLS client certificate.
	//
	// +optional
	Certificate *VaultCertificateAuth `json:"certificate,omitempty"`

	// TokenSecretRef is a token that somebody else keeps fresh. It is read anew when the Secret changes, and renewed as long as
	// Vault lets it be.
	//
	// +optional
	TokenSecretRef *SecretKeyRef `json:"tokenSecretRef,omitempty"`
}

// VaultKubernetesAuth logs in with a projected token of the signer's service account.
type VaultKubernetesAuth struct {
	// Path where the auth method is mounted.
	//
	// +kubebuilder:default=kubernetes
	// +kubebuilder:validation:MaxLength=253
	Path string `json:"path,omitempty"`

	// Role of the auth method.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Role string `json:"role"`

	// Audience of the token. The signer's Deployment has a projected volume with one token for each audience, in a file of that
	// name; as shipped it has "vault".
	//
	// +kubebuilder:default=vault
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	Audience string `json:"audience,omitempty"`
}

// VaultAppRoleAuth logs in with a role ID and a secret ID.
type VaultAppRoleAuth struct {
	// Path where the auth method is mounted.
	//
	// +kubebuilder:default=approle
	// +kubebuilder:validation:MaxLength=253
	Path string `json:"path,omitempty"`

	// RoleID of the role.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	RoleID string `json:"roleID"`

	// SecretIDRef is where the secret ID is.
	SecretIDRef SecretKeyRef `json:"secretIDRef"`
}

// VaultCertificateAuth logs in with a TLS client certificate.
type VaultCertificateAuth struct {
	// Path where the auth method is mounted.
	//
	// +kubebuilder:default=cert
	// +kubebuilder:validation:MaxLength=253
	Path string `json:"path,omitempty"`

	// Role of the auth method. Default: whichever matches the certificate.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Role string `json:"role,omitempty"`

	// SecretRef names a Secret of type kubernetes.io/tls with the client certificate and its key.
	SecretRef SecretRef `json:"secretRef"`
}
