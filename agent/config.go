// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/certwright/certwright/agent/credential"
	"github.com/certwright/certwright/agent/reload"
)

const (
	// ConfigEnv is the environment variable that carries the Config as JSON.
	ConfigEnv = "CERTWRIGHT_AGENT_CONFIG"
	// PodIPsEnv is the environment variable that carries every IP address of the
	// pod, separated by commas: the downward API's status.podIPs. It is needed
	// only when Config.IPAddresses contains PodIP.
	PodIPsEnv = "CERTWRIGHT_POD_IPS"
	// PodIP in Config.IPAddresses stands for every IP address of the pod.
	PodIP = "pod"

	// DefaultKeyAlgorithm is used when Config.KeyAlgorithm is empty.
	DefaultKeyAlgorithm = "ECDSA-P256"
	// DefaultDuration is asked for when Config.Duration is zero.
	DefaultDuration = Duration(24 * time.Hour)
	// MinDuration is the shortest lifetime that the Kubernetes API accepts
	// (spec.expirationSeconds is at least 600).
	MinDuration = Duration(10 * time.Minute)
)

// DefaultUsages returns the usages asked for when Config.Usages is empty.
func DefaultUsages() []string {
	return []string{"digital signature", "server auth", "client auth"}
}

// Config says which certificate to keep, and where. The webhook renders it as
// JSON into the agent's container; the field names are a contract between them.
type Config struct {
	// SignerName is the spec.signerName of the requests, domain/name.
	SignerName string `json:"signerName,omitempty"`
	// DNSNames, URIs and IPAddresses are the subject alternative names to ask
	// for; at least one is needed.
	DNSNames []string `json:"dnsNames,omitempty"`
	URIs     []string `json:"uris,omitempty"`
	// IPAddresses holds literal addresses, or PodIP for every address of the pod.
	IPAddresses []string `json:"ipAddresses,omitempty"`
	// Usages are Kubernetes key usage names; empty means DefaultUsages.
	Usages []string `json:"usages,omitempty"`
	// Duration is the lifetime to ask for, in whole seconds and at least
	// MinDuration; zero means DefaultDuration.
	Duration Duration `json:"duration,omitempty"`
	// KeyAlgorithm is one of ECDSA-P256, ECDSA-P384, ECDSA-P521, Ed25519,
	// RSA-2048, RSA-3072 and RSA-4096; empty means DefaultKeyAlgorithm.
	KeyAlgorithm string `json:"keyAlgorithm,omitempty"`
	// Directory is where the files appear. It must exist.
	Directory string `json:"directory"`
	// TrustBundleFiles hold trust anchors, usually mounted by the kubelet; they may
	// appear later and change at any time. The first is the signer's own, to which
	// certificates must lead; ca.crt holds the anchors of all.
	TrustBundleFiles []string `json:"trustBundleFiles,omitempty"`
	// TrustOnly keeps the files of trust anchors fresh and asks for no certificate:
	// what concerns one must be empty.
	TrustOnly bool `json:"trustOnly,omitempty"`
	// PublicRoots adds ca-bundle.crt: the anchors of ca.crt and the roots that the
	// public Web trusts, for programs whose own roots the file replaces.
	PublicRoots bool `json:"publicRoots,omitempty"`
	// Formats are those to write beside PEM files: FormatPKCS12, FormatJKS, FormatPEM.
	Formats []string `json:"formats,omitempty"`
	// RenewFile holds a time (RFC 3339), or nothing: a certificate that was
	// requested before it is renewed. It may be missing and change at any time.
	RenewFile string `json:"renewFile,omitempty"`
	// Reload is how the application learns of new files; nil: it looks by itself.
	Reload *Reload `json:"reload,omitempty"`
	// SPIFFESocket is where the SPIFFE Workload API is served; empty: nowhere.
	SPIFFESocket string `json:"spiffeSocket,omitempty"`
	// MetricsAddress is host:port or :port where /metrics is served; empty: nowhere.
	MetricsAddress string `json:"metricsAddress,omitempty"`
	// Once ends Run as soon as the directory holds what is fresh.
	Once bool `json:"once,omitempty"`
}

// Reload is how the application learns of new files.
type Reload = reload.Actions

// Values of Config.Formats.
const (
	// FormatPKCS12 adds keystore.p12 and truststore.p12.
	FormatPKCS12 = "PKCS12"
	// FormatJKS adds keystore.jks and truststore.jks.
	FormatJKS = "JKS"
	// FormatPEM adds tls-combined.pem: the key, then the chain.
	FormatPEM = "PEM"
)

// ParseConfig reads a Config from JSON, sets the defaults and validates it.
// Unknown fields and anything after the object are errors.
func ParseConfig(data []byte) (Config, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var config Config
	if err := decoder.Decode(&config); err != nil {
		return Config{}, fmt.Errorf("decoding agent config: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Config{}, errors.New("decoding agent config: there is more after the JSON object; exactly one object is allowed")
	}
	if err := config.Validate(); err != nil {
		return Config{}, err
	}
	return config.WithDefaults(), nil
}

// WithDefaults fills in what is empty and has a default.
func (c Config) WithDefaults() Config {
	if c.TrustOnly {
		return c
	}
	if len(c.Usages) == 0 {
		c.Usages = DefaultUsages()
	}
	if c.Duration == 0 {
		c.Duration = DefaultDuration
	}
	if c.KeyAlgorithm == "" {
		c.KeyAlgorithm = DefaultKeyAlgorithm
	}
	return c
}

// Fingerprint identifies what is asked for, so that a restarted agent can tell
// whether the pair on disk answers its configuration. It holds nothing secret.
func (c Config) Fingerprint(n credential.Names) string {
	usages := slices.Sorted(slices.Values(c.Usages))
	data, err := json.Marshal(struct {
		Signer, Algorithm string
		Duration          Duration
		Names, Usages     []string
	}{c.SignerName, c.KeyAlgorithm, c.Duration, n.Strings(), usages})
	if err != nil {
		panic(fmt.Sprintf("encoding strings as JSON: %v", err)) // unreachable: Duration and strings always encode
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Names are those to ask for, with the pod's addresses filled in. podIPs is the
// value of PodIPsEnv.
func (c Config) Names(podIPs string) (credential.Names, error) {
	var ips []netip.Addr
	for _, text := range c.IPAddresses {
		if text == PodIP {
			pod, err := parsePodIPs(podIPs)
			if err != nil {
				return credential.Names{}, err
			}
			ips = append(ips, pod...)
			continue
		}
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return credential.Names{}, fmt.Errorf("ipAddresses: %w", err)
		}
		ips = append(ips, ip.Unmap())
	}
	return credential.NewNames(c.DNSNames, c.URIs, ips), nil
}

func parsePodIPs(list string) ([]netip.Addr, error) {
	var ips []netip.Addr
	for text := range strings.SplitSeq(list, ",") {
		ip, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("ipAddresses contains %q, which needs %s, but its value %q is not a comma-separated list of IP addresses: set it from the downward API's status.podIPs", PodIP, PodIPsEnv, list)
		}
		ips = append(ips, ip.Unmap())
	}
	return ips, nil
}

// Duration is a time.Duration that is written in JSON as Go writes it: "24h0m0s".
type Duration time.Duration

// MarshalJSON writes the duration as a string such as "24h0m0s".
func (d Duration) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(d).String())
}

// UnmarshalJSON reads a string such as "24h" or "90m"; numbers are refused,
// since their unit would be a guess.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("duration: %s is not a string; write a Go duration such as \"24h\"", data)
	}
	parsed, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("duration: %q is not a duration; write a Go duration such as \"24h\"", text)
	}
	*d = Duration(parsed)
	return nil
}
