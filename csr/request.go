// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package csr turns the requests that Kubernetes holds into one parsed, validated form, the Request, which policy, limits
// and backends all look at. What it cannot represent it refuses, so a Request hides nothing: a backend that forwards the
// raw bytes and one that builds a certificate from the fields speak of the same names.
package csr

import (
	"crypto"
	"crypto/x509/pkix"
	"net/netip"
	"net/url"
	"regexp"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Request is one certificate request as the API server vouches for it: the parsed PKCS #10 bytes and the parts of spec
// that the API server stamps or keeps immutable. It is never modified after it was parsed.
type Request struct {
	// Name and UID of the Kubernetes object.
	Name string
	UID  types.UID
	// SignerName is the object's spec.signerName.
	SignerName string
	// Requester is who created the object.
	Requester Requester

	// Subject holds every value of the requested subject, all of them printable, in the named fields of pkix.Name; its Names
	// and ExtraNames are nil. The common name has at most 64 characters. The order of attributes is not kept.
	Subject pkix.Name
	// DNSNames as CheckDNSName wants them: in lower-case ASCII, so that string comparison is enough; a wildcard only as the
	// whole first label; never a trailing dot.
	DNSNames []string
	// IPAddresses without zones; never an IPv4-mapped IPv6 address, an unspecified or a multicast one.
	IPAddresses []netip.Addr
	// URIs as ParseURI wants them: absolute, with a host, without user, fragment or anything that url.URL would write
	// differently. Do not modify them.
	URIs []*url.URL
	// EmailAddresses are plain ASCII addr-specs, such as ops@example.com.
	EmailAddresses []string
	// IsCA is what the basic constraints extension asks for. Parse lets it pass: policy and limits decide.
	IsCA bool

	// PublicKey is an *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey, described by Key.
	PublicKey crypto.PublicKey
	Key       Key

	// Usages are spec.usages: at least one, each known to Kubernetes and there once. The keyUsage and extendedKeyUsage
	// extensions in DER ask for nothing else.
	Usages []certificatesv1.KeyUsage
	// Duration is the lifetime that spec.expirationSeconds asks for; 0 if it asks for none. WithDuration sets the lifetime
	// that was granted.
	Duration time.Duration

	// DER is the PKCS #10 request (RFC 2986) that all of the above was parsed from, for backends that forward it. It is nil where
	// ForPod is true.
	DER []byte

	// ForPod is true for what a kubelet asks for in a PodCertificateRequest (KEP-4317). The API server takes the certificate only if its
	// whole life, from notBefore to notAfter, is MinPodLifetime at least and Duration at the most, and begins now: within MaxPodBackdate
	// before it is signed.
	ForPod bool
}

const (
	// MinPodLifetime is the shortest life, from notBefore to notAfter, of a certificate that a kubelet asked for.
	MinPodLifetime = time.Hour
	// MaxPodBackdate is how far before the time of signing it may begin. The API server allows five minutes by its own clock, which may
	// be four away from the signer's.
	MaxPodBackdate = 30 * time.Second
)

// Key describes a public key.
type Key struct {
	// Algorithm is AlgorithmECDSA, AlgorithmEd25519 or AlgorithmRSA.
	Algorithm string
	// Size in bits: of the modulus (RSA), of the curve's field (ECDSA), 256 for Ed25519.
	Size int
}

// WithDuration returns a copy of the request that asks for the given lifetime.
func (r Request) WithDuration(d time.Duration) Request {
	r.Duration = d
	return r
}

// kubernetesDomain matches the signerNames that belong to Kubernetes itself.
var kubernetesDomain = regexp.MustCompile(`^([^/]*\.)?kubernetes\.io/`)

// IsKubernetesSigner reports whether a signerName is under kubernetes.io or a domain below it. Such requests are never
// handled, whatever a Signer or a policy says.
func IsKubernetesSigner(signerName string) bool { return kubernetesDomain.MatchString(signerName) }
