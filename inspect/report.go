// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package inspect shows people what certificates, chains, keys and requests hold, and judges them: does the chain lead to
// the trust bundle, does the key match, when does it expire. Private keys are held against certificates and never shown.
package inspect

import (
	"crypto/x509"
	"time"
)

// Report is what was found in one place.
type Report struct {
	// Source says where, such as "secret shop/web".
	Source string `json:"source"`
	// Pod tells what Certwright did to a pod; nil if the source is none.
	Pod *Pod `json:"pod,omitempty"`
	// Request is the request that was found; nil if there is none.
	Request *Request `json:"request,omitempty"`
	// Certificates are in the order in which they were found: a chain has its leaf first.
	Certificates []Certificate `json:"certificates,omitempty"`
	// Trust says whether the chain leads to the trust bundle; nil if there is no chain.
	Trust *Trust `json:"trust,omitempty"`
	// PrivateKey says whether the key belongs to the first certificate; nil if there is no key.
	PrivateKey *PrivateKey `json:"privateKey,omitempty"`
	// Findings are what needs attention.
	Findings []Finding `json:"findings,omitempty"`
	// Requests are the newest requests of a pod.
	Requests []Report `json:"requests,omitempty"`
}

// Severity says how bad a finding is.
type Severity string

const (
	// Error is what makes a certificate useless.
	Error Severity = "error"
	// Warning is what will, or should not be.
	Warning Severity = "warning"
)

// Finding is something that needs attention.
type Finding struct {
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
}

// Certificate is a decoded certificate.
type Certificate struct {
	Subject        string   `json:"subject,omitempty"`
	Issuer         string   `json:"issuer"`
	SerialNumber   string   `json:"serialNumber"` // hexadecimal
	DNSNames       []string `json:"dnsNames,omitempty"`
	URIs           []string `json:"uris,omitempty"`
	IPAddresses    []string `json:"ipAddresses,omitempty"`
	EmailAddresses []string `json:"emailAddresses,omitempty"`
	// Usages as Kubernetes names them.
	Usages     []string  `json:"usages,omitempty"`
	IsCA       bool      `json:"isCA,omitempty"`
	SelfSigned bool      `json:"selfSigned,omitempty"`
	Key        Key       `json:"key"`
	NotBefore  time.Time `json:"notBefore"`
	NotAfter   time.Time `json:"notAfter"`
	// Fingerprint is the SHA-256 of the certificate in hexadecimal.
	Fingerprint string `json:"fingerprint"`
}

// Key is a kind of key; Size is in bits.
type Key struct {
	Algorithm string `json:"algorithm"`
	Size      int    `json:"size,omitempty"`
}

// Trust says whether a chain leads to a trust bundle.
type Trust struct {
	// Bundle says where the trust anchors are, such as "clustertrustbundle example.com:internal:certwright".
	Bundle string `json:"bundle,omitempty"`
	// Verified is true if the chain leads to one of them. For a certificate that is not valid now, that is judged for the
	// nearest time at which it is.
	Verified bool `json:"verified"`
	// Path names the subjects from the leaf to the anchor.
	Path []string `json:"path,omitempty"`
	// Problem says why the chain was not verified.
	Problem string `json:"problem,omitempty"`
}

// PrivateKey is what may be told about a private key.
type PrivateKey struct {
	Key
	// Matches is true if it is the key of the first certificate, or of the request; nil if there is neither.
	Matches *bool `json:"matches,omitempty"`
}

// Request is a certificate request. Of one that does not parse only what Kubernetes adds is known.
type Request struct {
	Name           string   `json:"name,omitempty"`
	SignerName     string   `json:"signerName,omitempty"`
	Requester      string   `json:"requester,omitempty"`   // user name
	RequestedBy    string   `json:"requestedBy,omitempty"` // the requester in words
	Subject        string   `json:"subject,omitempty"`
	DNSNames       []string `json:"dnsNames,omitempty"`
	URIs           []string `json:"uris,omitempty"`
	IPAddresses    []string `json:"ipAddresses,omitempty"`
	EmailAddresses []string `json:"emailAddresses,omitempty"`
	Usages         []string `json:"usages,omitempty"`
	IsCA           bool     `json:"isCA,omitempty"`
	Key            *Key     `json:"key,omitempty"`
	// Duration asked for, such as "24h0m0s"; empty if none is.
	Duration string `json:"duration,omitempty"`
	// Status is Pending, Approved, Denied, Failed or Issued; empty for a request outside of Kubernetes.
	Status string `json:"status,omitempty"`
	// StatusMessage is what whoever decided said.
	StatusMessage string     `json:"statusMessage,omitempty"`
	Created       *time.Time `json:"created,omitempty"`
	// RenewFrom is when a kubelet begins to ask for the next certificate; nil for requests of others.
	RenewFrom *time.Time `json:"renewFrom,omitempty"`
	// Refusal says why Certwright refuses to read the request; empty if it does not.
	Refusal string `json:"refusal,omitempty"`
}

// Anchors are a trust bundle and where it was found.
type Anchors struct {
	Source       string
	Certificates []*x509.Certificate
}

func (r *Report) find(severity Severity, message string) {
	r.Findings = append(r.Findings, Finding{Severity: severity, Message: message})
}

// HasErrors reports whether something is wrong, here or in one of the requests.
func (r *Report) HasErrors() bool {
	for _, f := range r.Findings {
		if f.Severity == Error {
			return true
		}
	}
	for i := range r.Requests {
		if r.Requests[i].HasErrors() {
			return true
		}
	}
	return false
}
