// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package csr

import (
	"crypto/x509"
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
)

// keyUsages and extKeyUsages are all usages that Kubernetes defines (certificates.k8s.io/v1, KeyUsage), as RFC 5280 section
// 4.2.1.3 and 4.2.1.12 name them. "signing" and "s/mime" are second names of other usages.
var (
	keyUsages = map[certificatesv1.KeyUsage]x509.KeyUsage{
		certificatesv1.UsageSigning:           x509.KeyUsageDigitalSignature,
		certificatesv1.UsageDigitalSignature:  x509.KeyUsageDigitalSignature,
		certificatesv1.UsageContentCommitment: x509.KeyUsageContentCommitment,
		certificatesv1.UsageKeyEncipherment:   x509.KeyUsageKeyEncipherment,
		certificatesv1.UsageKeyAgreement:      x509.KeyUsageKeyAgreement,
		certificatesv1.UsageDataEncipherment:  x509.KeyUsageDataEncipherment,
		certificatesv1.UsageCertSign:          x509.KeyUsageCertSign,
		certificatesv1.UsageCRLSign:           x509.KeyUsageCRLSign,
		certificatesv1.UsageEncipherOnly:      x509.KeyUsageEncipherOnly,
		certificatesv1.UsageDecipherOnly:      x509.KeyUsageDecipherOnly,
	}
	extKeyUsages = map[certificatesv1.KeyUsage]x509.ExtKeyUsage{
		certificatesv1.UsageAny:             x509.ExtKeyUsageAny,
		certificatesv1.UsageServerAuth:      x509.ExtKeyUsageServerAuth,
		certificatesv1.UsageClientAuth:      x509.ExtKeyUsageClientAuth,
		certificatesv1.UsageCodeSigning:     x509.ExtKeyUsageCodeSigning,
		certificatesv1.UsageEmailProtection: x509.ExtKeyUsageEmailProtection,
		certificatesv1.UsageSMIME:           x509.ExtKeyUsageEmailProtection,
		certificatesv1.UsageIPsecEndSystem:  x509.ExtKeyUsageIPSECEndSystem,
		certificatesv1.UsageIPsecTunnel:     x509.ExtKeyUsageIPSECTunnel,
		certificatesv1.UsageIPsecUser:       x509.ExtKeyUsageIPSECUser,
		certificatesv1.UsageTimestamping:    x509.ExtKeyUsageTimeStamping,
		certificatesv1.UsageOCSPSigning:     x509.ExtKeyUsageOCSPSigning,
		certificatesv1.UsageMicrosoftSGC:    x509.ExtKeyUsageMicrosoftServerGatedCrypto,
		certificatesv1.UsageNetscapeSGC:     x509.ExtKeyUsageNetscapeServerGatedCrypto,
	}
)

// X509Usages translates Kubernetes' usages into those of a certificate. Usages that mean the same appear once, in the order
// of their first mention. The error is a *Refusal that names the first unknown usage.
func X509Usages(usages []certificatesv1.KeyUsage) (x509.KeyUsage, []x509.ExtKeyUsage, error) {
	var bits x509.KeyUsage
	var extended []x509.ExtKeyUsage
	for i, usage := range usages {
		bit, isBit := keyUsages[usage]
		ext, isExt := extKeyUsages[usage]
		switch {
		case isBit:
			bits |= bit
		case !isExt:
			return 0, nil, refuse(ReasonUnknownUsage, fmt.Sprintf("usages[%d]", i),
				"%s is not a usage that Kubernetes knows, such as %q or %q", quote(string(usage)),
				certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth)
		case !slices.Contains(extended, ext):
			extended = append(extended, ext)
		}
	}
	return bits, extended, nil
}

// usageOrder holds each usage once, without second names, in the order in which people expect them.
var usageOrder = []certificatesv1.KeyUsage{
	certificatesv1.UsageDigitalSignature, certificatesv1.UsageContentCommitment, certificatesv1.UsageKeyEncipherment,
	certificatesv1.UsageDataEncipherment, certificatesv1.UsageKeyAgreement, certificatesv1.UsageCertSign, certificatesv1.UsageCRLSign,
	certificatesv1.UsageEncipherOnly, certificatesv1.UsageDecipherOnly,
	certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth, certificatesv1.UsageCodeSigning, certificatesv1.UsageEmailProtection,
	certificatesv1.UsageIPsecEndSystem, certificatesv1.UsageIPsecTunnel, certificatesv1.UsageIPsecUser, certificatesv1.UsageTimestamping,
	certificatesv1.UsageOCSPSigning, certificatesv1.UsageMicrosoftSGC, certificatesv1.UsageNetscapeSGC, certificatesv1.UsageAny,
}

// AllUsages returns each usage that Kubernetes knows once, without second names.
func AllUsages() []certificatesv1.KeyUsage { return slices.Clone(usageOrder) }

// UsageNames is the opposite of X509Usages: it names what a certificate may be used for as Kubernetes does. Extended usages
// that Kubernetes does not know are left out.
func UsageNames(bits x509.KeyUsage, extended []x509.ExtKeyUsage) []certificatesv1.KeyUsage {
	var names []certificatesv1.KeyUsage
	for _, name := range usageOrder {
		bit, isBit := keyUsages[name]
		if isBit && bits&bit != 0 || !isBit && slices.Contains(extended, extKeyUsages[name]) {
			names = append(names, name)
		}
	}
	return names
}

// specUsages checks and copies spec.usages. A certificate without usages would be good for every use, so none is refused.
func specUsages(usages []certificatesv1.KeyUsage) ([]certificatesv1.KeyUsage, error) {
	if len(usages) == 0 {
		return nil, refuse(ReasonNoUsages, "spec.usages", "is empty; at least one usage must be asked for, such as %q", certificatesv1.UsageServerAuth)
	}
	for i, usage := range usages {
		if slices.Contains(usages[:i], usage) {
			return nil, refuse(ReasonRepeatedUsage, fmt.Sprintf("spec.usages[%d]", i), "%s is there already; each usage may be asked for once", quote(string(usage)))
		}
		if _, _, err := X509Usages(usages[i : i+1]); err != nil {
			return nil, at(fmt.Sprintf("spec.usages[%d]", i), err)
		}
	}
	return slices.Clone(usages), nil
}
