// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package annotation

import (
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/certwright/certwright/agent"
)

// The checks in this file are about form. Whether a name may be had is for the
// policy, which knows the live pod. Each returns an empty string for a good value
// and otherwise what is allowed.

// keyAlgorithms are those that the agent can make.
var keyAlgorithms = []string{"ECDSA-P256", "ECDSA-P384", "ECDSA-P521", "Ed25519", "RSA-2048", "RSA-3072", "RSA-4096"}

// formats are those of keystores and truststores.
var formats = []string{agent.FormatPKCS12, agent.FormatJKS, agent.FormatPEM}

// usages are the values of spec.usages (certificates.k8s.io/v1, KeyUsage).
var usages = usageNames(
	certificatesv1.UsageSigning, certificatesv1.UsageDigitalSignature, certificatesv1.UsageContentCommitment,
	certificatesv1.UsageKeyEncipherment, certificatesv1.UsageKeyAgreement, certificatesv1.UsageDataEncipherment,
	certificatesv1.UsageCertSign, certificatesv1.UsageCRLSign, certificatesv1.UsageEncipherOnly,
	certificatesv1.UsageDecipherOnly, certificatesv1.UsageAny, certificatesv1.UsageServerAuth,
	certificatesv1.UsageClientAuth, certificatesv1.UsageCodeSigning, certificatesv1.UsageEmailProtection,
	certificatesv1.UsageSMIME, certificatesv1.UsageIPsecEndSystem, certificatesv1.UsageIPsecTunnel,
	certificatesv1.UsageIPsecUser, certificatesv1.UsageTimestamping, certificatesv1.UsageOCSPSigning,
	certificatesv1.UsageMicrosoftSGC, certificatesv1.UsageNetscapeSGC,
)

func usageNames(list ...certificatesv1.KeyUsage) []string {
	names := make([]string, len(list))
	for i, usage := range list {
		names[i] = string(usage)
	}
	return names
}

// DefaultUsages lets both ends of a TLS connection use the key. Key encipherment
// belongs to RSA alone: TLS 1.2 without forward secrecy needs it.
func DefaultUsages(keyAlgorithm string) []string {
	if strings.HasPrefix(keyAlgorithm, "RSA-") {
		return usageNames(certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment,
			certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth)
	}
	return usageNames(certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth)
}

// checkSignerName holds the API server's rule for spec.signerName: a qualified
// domain, a slash and a dotted path.
func checkSignerName(value string) string {
	const allowed = "a signer name: a domain, a slash and a name, in lower case, such as example.com/internal"
	domain, name, found := strings.Cut(value, "/")
	switch {
	case !found || !IsDomain(domain) || !strings.Contains(domain, ".") || !IsDomain(name):
		return allowed
	case domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io"):
		return "a signer outside kubernetes.io, whose signers belong to Kubernetes itself"
	}
	return ""
}

func checkDNSName(value string) string {
	if len(value) > validation.DNS1123SubdomainMaxLength || !IsDomain(strings.TrimPrefix(value, "*.")) {
		return "a DNS name in lower case of at most 253 characters, such as shop.example.com or *.example.com"
	}
	return ""
}

// IsDomain tells whether a value is a DNS name in lower case without a wildcard. It
// also bounds each label, which the subdomain check of Kubernetes does not.
func IsDomain(value string) bool {
	return len(validation.IsDNS1123Subdomain(value)) == 0 &&
		!slices.ContainsFunc(strings.Split(value, "."), func(label string) bool { return len(label) > validation.DNS1123LabelMaxLength })
}

func checkURI(value string) string {
	u, err := url.Parse(value)
	if err != nil || u.Scheme == "" || u.Host == "" || u.String() != value ||
		strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "an absolute URI with scheme and host and without commas, such as spiffe://example.org/ns/shop/sa/cart"
	}
	return ""
}

func checkIPAddress(value string) string {
	if value == agent.PodIP {
		return ""
	}
	if ip, err := netip.ParseAddr(value); err != nil || ip.Zone() != "" {
		return `an IP address without zone, or "pod" for every address of the pod`
	}
	return ""
}

func checkKeyAlgorithm(value string) string {
	if !slices.Contains(keyAlgorithms, value) {
		return "one of " + strings.Join(keyAlgorithms, ", ")
	}
	return ""
}

func checkUsage(value string) string {
	if !slices.Contains(usages, value) {
		return "one of " + strings.Join(usages, ", ")
	}
	return ""
}

func checkContainerName(value string) string {
	if len(validation.IsDNS1123Label(value)) != 0 {
		return "names of containers, separated by commas"
	}
	return ""
}

func checkMountPath(value string) string {
	if !path.IsAbs(value) || path.Clean(value) != value || value == "/" || strings.ContainsAny(value, ":\x00") {
		return "a clean absolute path other than / and without colons, such as " + DefaultMountPath
	}
	return ""
}

func checkFormat(value string) string {
	if !slices.Contains(formats, value) {
		return "one of " + strings.Join(formats, ", ")
	}
	return ""
}

func checkVolumeName(value string) string {
	if len(validation.IsDNS1123Label(value)) != 0 {
		return "the name of a volume of the pod"
	}
	return ""
}

func checkTime(value string) string {
	if _, err := time.Parse(time.RFC3339, value); err != nil {
		return "a time such as 2026-01-02T15:04:05Z (RFC 3339)"
	}
	return ""
}
