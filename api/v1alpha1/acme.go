// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ACME says which account of which server orders certificates, and how it proves that names are ours (RFC 8555). The url is
// that of the server's directory.
type ACME struct {
	Server `json:",inline"`

	// AcceptTerms says that you accept the server's terms of service, which it names when they are asked for.
	//
	// +optional
	AcceptTerms bool `json:"acceptTerms,omitempty"`

	// Emails are where the server may write to about the account.
	//
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=254
	// +listType=set
	// +optional
	Emails []string `json:"emails,omitempty"`

	// AccountKeyRef names an entry with the account's private key in PEM, to use an account that exists. Default: Certwright makes
	// a key and keeps it in a Secret of its own, certwright-acme-SIGNER.BACKEND.
	//
	// +optional
	AccountKeyRef *SecretKeyRef `json:"accountKeyRef,omitempty"`

	// ExternalAccountBinding ties a new account to one that the server's operator knows (RFC 8555, section 7.3.4).
	//
	// +optional
	ExternalAccountBinding *ExternalAccountBinding `json:"externalAccountBinding,omitempty"`

	// Profile of the certificates, one of those that the server's directory names. Default: the server's.
	//
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Profile string `json:"profile,omitempty"`

	// PreferredChain is the common name of the issuer at the top of the chain to take where the server offers several. Where none
	// has it, the first one is taken.
	//
	// +kubebuilder:validation:MaxLength=64
	// +optional
	PreferredChain string `json:"preferredChain,omitempty"`

	// Solvers prove that names are ours. For each name the one with the most specific of its domains is taken, of these the first
	// that can: HTTP-01 cannot prove a wildcard.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	Solvers []ACMESolver `json:"solvers"`
}

// ExternalAccountBinding is what an operator hands out to tie an ACME account to a customer.
type ExternalAccountBinding struct {
	// KeyID of the MAC key.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	KeyID string `json:"keyID"`

	// KeyRef is where the MAC key is, in base64url as the operator hands it out.
	KeyRef SecretKeyRef `json:"keyRef"`
}

// ACMESolver answers the challenges of an ACME server. Exactly one kind is set.
//
// +kubebuilder:validation:XValidation:rule="has(self.http01) != has(self.dns01)",message="exactly one kind of solver must be set: http01 or dns01"
type ACMESolver struct {
	// Domains that this solver is for, with all names below them. Default: all.
	//
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=set
	// +optional
	Domains []string `json:"domains,omitempty"`

	// HTTP01 answers at http://NAME/.well-known/acme-challenge/ (RFC 8555, section 8.3).
	//
	// +optional
	HTTP01 *HTTP01 `json:"http01,omitempty"`

	// DNS01 puts a TXT record at _acme-challenge.NAME (RFC 8555, section 8.4).
	//
	// +optional
	DNS01 *DNS01 `json:"dns01,omitempty"`
}

// HTTP01 says how requests from outside reach the solver, by a route that exists only while a challenge does. Exactly one
// kind is set.
//
// +kubebuilder:validation:XValidation:rule="has(self.ingress) != has(self.httpRoute)",message="exactly one kind of route must be set: ingress or httpRoute"
type HTTP01 struct {
	// Ingress routes with an Ingress in Certwright's namespace.
	//
	// +optional
	Ingress *HTTP01Ingress `json:"ingress,omitempty"`

	// HTTPRoute routes with an HTTPRoute in Certwright's namespace, which the Gateway must admit.
	//
	// +optional
	HTTPRoute *HTTP01Route `json:"httpRoute,omitempty"`
}

// HTTP01Ingress describes the Ingress of a challenge.
type HTTP01Ingress struct {
	// ClassName of the Ingress. Default: the cluster's default class.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	ClassName string `json:"className,omitempty"`

	// Annotations of the Ingress, as some ingress controllers need them.
	//
	// +kubebuilder:validation:MaxProperties=16
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// HTTP01Route describes the HTTPRoute of a challenge.
type HTTP01Route struct {
	// Gateway that the route is attached to.
	Gateway GatewayRef `json:"gateway"`
}

// GatewayRef names a listener of a Gateway that serves plain HTTP on port 80.
type GatewayRef struct {
	// Namespace of the Gateway.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`

	// Name of the Gateway.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// SectionName is the listener. Default: all that take the route.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	SectionName string `json:"sectionName,omitempty"`
}

// DNS01 says who writes the TXT record of a challenge. Exactly one provider is set.
//
// +kubebuilder:validation:XValidation:rule="has(self.rfc2136) != has(self.webhook)",message="exactly one provider must be set: rfc2136 or webhook"
type DNS01 struct {
	// RFC2136 sends dynamic updates to a DNS server.
	//
	// +optional
	RFC2136 *RFC2136 `json:"rfc2136,omitempty"`

	// Webhook asks a program: certwright-dns for Route 53, Cloudflare, Google Cloud DNS, Azure DNS and DigitalOcean, or one of
	// your own.
	//
	// +optional
	Webhook *DNSWebhook `json:"webhook,omitempty"`

	// Delegations are domains that a CNAME at _acme-challenge.NAME may lead into: there, and not at that name, the record is then
	// written. Use domains that serve nothing else, as who controls NAME chooses what is written. Default: none, and a CNAME there
	// is refused.
	//
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=set
	// +optional
	Delegations []string `json:"delegations,omitempty"`

	// Nameservers, as ADDRESS or ADDRESS:PORT, that are asked for zones and delegations. Default: those of the signer's pod.
	//
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=64
	// +listType=atomic
	// +optional
	Nameservers []string `json:"nameservers,omitempty"`

	// PropagationTimeout is how long the zone's authoritative servers may take to serve the record.
	//
	// +kubebuilder:default="5m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="propagationTimeout must be between 1s and 1h"
	// +optional
	PropagationTimeout metav1.Duration `json:"propagationTimeout,omitzero"`
}

// RFC2136 says which DNS server takes dynamic updates (RFC 2136), signed with TSIG (RFC 8945).
type RFC2136 struct {
	// Server, as HOST or HOST:PORT.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=300
	Server string `json:"server"`

	// TSIG signs the updates. Default: they are not signed, and the server must trust the signer's address.
	//
	// +optional
	TSIG *TSIG `json:"tsig,omitempty"`
}

// TSIG is a key that a DNS server shares with those who may update it.
type TSIG struct {
	// KeyName as the server knows it.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	KeyName string `json:"keyName"`

	// Algorithm of the MAC.
	//
	// +kubebuilder:validation:Enum=hmac-sha1;hmac-sha224;hmac-sha256;hmac-sha384;hmac-sha512
	// +kubebuilder:default=hmac-sha256
	Algorithm string `json:"algorithm,omitempty"`

	// SecretRef is where the key is, in base64 as in the server's configuration.
	SecretRef SecretKeyRef `json:"secretRef"`
}

// DNSWebhook says which program writes and removes TXT records. docs/dns-webhook.md describes what it must serve.
type DNSWebhook struct {
	// URL of the program: https://HOST/PATH, or unix:///run/certwright/NAME.sock for one in the signer's pod.
	//
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^(https://[^\s/?#@]+(/[^\s?#]*)?|unix:///run/certwright/[-a-z0-9]+\.sock)$`
	URL string `json:"url"`

	// CABundle holds the certificates in PEM that the program's own certificate must lead to. Default: the public roots that come
	// with Certwright's image.
	//
	// +kubebuilder:validation:MaxLength=65536
	// +optional
	CABundle string `json:"caBundle,omitempty"`

	// TokenRef is a bearer token that the program asks for. It must be set for an https URL.
	//
	// +optional
	TokenRef *SecretKeyRef `json:"tokenRef,omitempty"`

	// Config is handed to the program with each call.
	//
	// +kubebuilder:validation:MaxProperties=32
	// +optional
	Config map[string]string `json:"config,omitempty"`
}
