// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// TrustBundle says what is published for those who verify, besides the trust anchors of the backends. It is only published:
// what a backend returns is never verified with it.
type TrustBundle struct {
	// Additional trust anchors, such as those of a CA that was in use before or will be. A source that cannot be read keeps what
	// it gave before.
	//
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	Additional []TrustSource `json:"additional,omitempty"`

	// PublicRoots adds the roots of public CAs that come with Certwright, as Mozilla trusts them without reservations. They take a
	// quarter of what fits into a bundle. Servers that accept every client whose certificate leads to the bundle then accept anybody: for
	// programs that call public servers, the annotation certwright.dev/trust-env of their pods is the better way.
	//
	// +optional
	PublicRoots bool `json:"publicRoots,omitempty"`

	// ConfigMap has the bundle published in the ConfigMap certwright-trust of some namespaces as well, where pods get ClusterTrustBundles.
	// Elsewhere it is in every namespace anyway.
	//
	// +optional
	ConfigMap *TrustConfigMaps `json:"configMap,omitempty"`
}

// TrustConfigMaps says in which namespaces a bundle is published in a ConfigMap.
type TrustConfigMaps struct {
	// NamespaceSelector selects the namespaces by their labels; an empty one selects all. Where the bundle is already, it stays and is
	// kept fresh as long as the Signer exists, as pods may mount it.
	NamespaceSelector metav1.LabelSelector `json:"namespaceSelector"`

	// Formats are published beside PEM in the same ConfigMaps: a truststore for Java in each format, with the password "changeit", which
	// protects nothing and which Java wants.
	//
	// +kubebuilder:validation:MaxItems=2
	// +listType=set
	// +optional
	Formats []TrustFormat `json:"formats,omitempty"`
}

// TrustFormat is a format of trust bundles besides PEM.
//
// +kubebuilder:validation:Enum=PKCS12;JKS
type TrustFormat string

// Formats of trust bundles besides PEM.
const (
	// TrustFormatPKCS12 is a PKCS #12 truststore (RFC 7292), as Java 8u301 and later read it.
	TrustFormatPKCS12 TrustFormat = "PKCS12"
	// TrustFormatJKS is a Java KeyStore.
	TrustFormatJKS TrustFormat = "JKS"
)

// TrustSource is where trust anchors are: CA certificates in PEM. Exactly one is set.
//
// +kubebuilder:validation:XValidation:rule="[has(self.pem), has(self.secretRef), has(self.configMapRef)].exists_one(set, set)",message="exactly one source of trust anchors must be set: pem, secretRef or configMapRef"
type TrustSource struct {
	// PEM holds the certificates themselves.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=65536
	// +optional
	PEM string `json:"pem,omitempty"`

	// SecretRef names an entry of a Secret in Certwright's own namespace. A change is published at once.
	//
	// +optional
	SecretRef *SecretKeyRef `json:"secretRef,omitempty"`

	// ConfigMapRef names an entry of a ConfigMap in Certwright's own namespace. A change is published at once.
	//
	// +optional
	ConfigMapRef *ConfigMapKeyRef `json:"configMapRef,omitempty"`
}

// ConfigMapKeyRef names one entry of a ConfigMap in the namespace that Certwright runs in.
type ConfigMapKeyRef struct {
	// Name of the ConfigMap. What Certwright publishes itself, certwright-trust, is no source.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self != 'certwright-trust'",message="certwright-trust is what Certwright publishes itself: name another ConfigMap"
	Name string `json:"name"`

	// Key of the entry in the ConfigMap's data.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key"`
}
