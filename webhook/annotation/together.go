// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package annotation

import (
	"slices"
	"strings"
	"time"

	"github.com/certwright/certwright/agent"
)

const (
	// MinKubeletDuration is the shortest lifetime that kubelets may ask for and get (KEP-4317).
	MinKubeletDuration = time.Hour
	// maxKubeletDuration is the longest.
	maxKubeletDuration = 91 * 24 * time.Hour
	// maxKubeletNames is what the signer takes, without the keys: 16 KiB with them.
	maxKubeletNames = 16_000
)

var (
	// certificateOnly say something about a certificate or its key.
	certificateOnly = []string{DNSNames, URIs, IPAddresses, Duration, KeyAlgorithm, Usages, MountPath, SPIFFESocket}
	// staying need an agent that does not end.
	staying = []string{ReloadSignal, ReloadURL, ReloadCommand, SPIFFESocket, MetricsPort}
)

// checkTogether finds annotations that mean nothing beside or without others,
// whatever their values.
func checkTogether(annotations map[string]string) (refusal Refusal) {
	certificate, bundles := has(annotations, AutoTLS), has(annotations, Trust)
	if !certificate && !bundles {
		refusal.Addf("annotation %s: missing, set it to a signer name such as example.com/internal", AutoTLS)
		return refusal
	}
	if certificate && has(annotations, TrustMountPath) {
		refusal.Addf("annotation %s: is for pods without %s, leave it out: the trust anchors are in ca.crt beside the certificate", TrustMountPath, AutoTLS)
	}
	for _, key := range certificateOnly {
		if !certificate && has(annotations, key) {
			refusal.Addf("annotation %s: means nothing without %s, leave it out or set that to a signer name", key, AutoTLS)
		}
	}
	if has(annotations, ReloadVolume) && !has(annotations, ReloadCommand) {
		refusal.Addf("annotation %s: means nothing without %s, leave it out or set that to a program below /reload", ReloadVolume, ReloadCommand)
	}
	for _, key := range staying {
		if annotations[Delivery] == string(DeliveryInit) && has(annotations, key) {
			refusal.Addf("annotation %s: needs an agent that stays, set %s to %s", key, Delivery, DeliveryAgent)
		}
	}
	return refusal
}

// checkAsk finds values that do not go together.
func checkAsk(ask Ask) (refusal Refusal) {
	if ask.TrustOnly() && slices.Contains(ask.Formats, agent.FormatPEM) {
		refusal.Addf("annotation %s: %q is for a key and its certificate, use %s or %s without %s", Formats, agent.FormatPEM, agent.FormatPKCS12, agent.FormatJKS, AutoTLS)
	}
	// An X.509-SVID has exactly one URI (X509-SVID, section 2). The default is one.
	if ask.SPIFFESocket && ask.URIs != nil && (len(ask.URIs) != 1 || !strings.HasPrefix(ask.URIs[0], "spiffe://")) {
		refusal.Addf("annotation %s: needs exactly one URI in %s, which starts with spiffe://", SPIFFESocket, URIs)
	}
	return refusal
}

// NeedsAgent says what of it a kubelet cannot do, if anything: one sentence for
// each annotation, that tells to let the agent do it.
func (a Ask) NeedsAgent() (refusal Refusal) {
	need := func(needed bool, key, why string) {
		if needed {
			refusal.Addf("annotation %s: %s, set %s to %s", key, why, Delivery, DeliveryAgent)
		}
	}
	if a.TrustOnly() {
		need(len(a.Trust) > 1, Trust, "a kubelet does not merge bundles")
	} else {
		need(len(a.Trust) > 0, Trust, "a kubelet does not merge bundles")
		need(a.Duration < MinKubeletDuration || a.Duration > maxKubeletDuration, Duration, "a kubelet asks for 1h to 2184h")
		need(kubeletKeyTypes[a.KeyAlgorithm] == "", KeyAlgorithm, "a kubelet makes no such keys")
		need(slices.Contains(a.IPAddresses, agent.PodIP), IPAddresses, "a kubelet asks before the pod has an address")
	}
	need(size(a.DNSNames)+size(a.URIs)+size(a.IPAddresses)+size(a.Usages) > maxKubeletNames, DNSNames, "a kubelet asks for no more names than fit into 16000 bytes")
	const onlyAgent = "a kubelet does not do that"
	need(len(a.TrustEnv) > 0, TrustEnv, onlyAgent)
	need(len(a.Formats) > 0, Formats, onlyAgent)
	need(a.Reload.Process != "", ReloadSignal, onlyAgent)
	need(a.Reload.URL != "", ReloadURL, onlyAgent)
	need(a.Reload.Command != nil, ReloadCommand, onlyAgent)
	need(a.SPIFFESocket, SPIFFESocket, onlyAgent)
	need(a.MetricsPort != 0, MetricsPort, onlyAgent)
	return refusal
}

func size(list []string) (n int) {
	for _, value := range list {
		n += len(value) + 1
	}
	return n
}

// kubeletKeyTypes are what a podCertificate volume calls the algorithms that it
// has (core/v1, PodCertificateProjection).
var kubeletKeyTypes = map[string]string{
	"ECDSA-P256": "ECDSAP256", "ECDSA-P384": "ECDSAP384", "ECDSA-P521": "ECDSAP521",
	"Ed25519": "ED25519", "RSA-3072": "RSA3072", "RSA-4096": "RSA4096",
}

// KubeletKeyType is what a podCertificate volume calls the algorithm of the key.
func (a Ask) KubeletKeyType() string { return kubeletKeyTypes[a.KeyAlgorithm] }
