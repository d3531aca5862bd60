// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package annotation reads what a pod asks for by its annotations, such as certwright.dev/auto-tls: the form of every value is
// checked, and everything that is wrong is told at once. Whether a pod may have what it asks for is not decided here.
package annotation

import (
	"time"

	"github.com/certwright/certwright/agent/reload"
	"github.com/certwright/certwright/api/v1alpha1"
)

// Prefix starts the key of every annotation that is addressed to Certwright.
const Prefix = "certwright.dev/"

// The keys of the annotations by which a pod asks. AutoTLS and Trust are those
// that count; without either the pod is left alone and the others mean nothing.
const (
	AutoTLS        = Prefix + "auto-tls"
	DNSNames       = Prefix + "dns-names"
	URIs           = Prefix + "uris"
	IPAddresses    = Prefix + "ip-addresses"
	Duration       = Prefix + "duration"
	KeyAlgorithm   = Prefix + "key-algorithm"
	Usages         = Prefix + "usages"
	MountPath      = Prefix + "mount-path"
	Trust          = Prefix + "trust"
	TrustEnv       = Prefix + "trust-env"
	TrustMountPath = Prefix + "trust-mount-path"
	Formats        = Prefix + "formats"
	Delivery       = Prefix + "delivery"
	Containers     = Prefix + "containers"
	ReloadSignal   = Prefix + "reload-signal"
	ReloadURL      = Prefix + "reload-url"
	ReloadCommand  = Prefix + "reload-command"
	ReloadVolume   = Prefix + "reload-volume"
	SPIFFESocket   = Prefix + "spiffe-socket"
	MetricsPort    = Prefix + "metrics-port"
	Renew          = v1alpha1.AnnotationRenew
	// DeliveredBy is written by the webhook. What a pod says there is replaced.
	DeliveredBy = v1alpha1.AnnotationDeliveredBy
)

// Way is how the files reach the pod.
type Way string

const (
	// DeliveryAuto is the kubelet where the cluster, the Signer and what is asked
	// for allow it, and the agent elsewhere.
	DeliveryAuto Way = "auto"
	// DeliveryAgent is a native sidecar that also renews.
	DeliveryAgent Way = "agent"
	// DeliveryInit is an init container that ends once the files are there.
	DeliveryInit Way = "init"
	// DeliveryKubelet is a projected volume: the kubelet asks, and renews.
	DeliveryKubelet Way = "kubelet"
)

const (
	// DefaultMountPath is where the containers find the certificate.
	DefaultMountPath = "/var/run/secrets/certwright.dev/tls"
	// DefaultTrustMountPath is where the containers of a pod that asks for trust
	// bundles alone find them.
	DefaultTrustMountPath = "/var/run/secrets/certwright.dev/trust"
	// DefaultDuration is the lifetime that is asked for.
	DefaultDuration = 24 * time.Hour
	// DefaultKeyAlgorithm is the kind of key that is made.
	DefaultKeyAlgorithm = "ECDSA-P256"
)

// Ask is what a pod asks for by its annotations, with the defaults that do not
// depend on the pod.
type Ask struct {
	// SignerName is whom to ask for a certificate. It is empty for trust bundles
	// alone; then the fields about a certificate mean nothing.
	SignerName string
	// DNSNames, URIs and IPAddresses are nil where the annotation is absent, so
	// that the default applies, and empty where it is there and asks for none.
	DNSNames, URIs, IPAddresses []string
	// Usages is nil where the annotation is absent; DefaultUsages are for the agent.
	Usages       []string
	Duration     time.Duration
	KeyAlgorithm string

	// Trust holds the signerNames of more bundles, or, without a SignerName, of all.
	Trust []string
	// TrustEnv are the variables to set in the selected containers.
	TrustEnv []Variable
	// Formats of keystores and truststores, as agent.Config has them.
	Formats []string

	Delivery Way
	// MountPath is where the selected containers see the files.
	MountPath string
	// Containers are the names of the containers that see them; nil means all.
	Containers []string
	// Reload is how the application learns of new files.
	Reload reload.Actions
	// ReloadVolume of the pod holds the program of Reload.Command; empty for none.
	ReloadVolume string
	// SPIFFESocket is whether the agent serves the SPIFFE Workload API.
	SPIFFESocket bool
	// MetricsPort is where the agent serves metrics; 0 for nowhere.
	MetricsPort int32
}

// TrustOnly tells a pod that asks for trust bundles without a certificate.
func (a Ask) TrustOnly() bool { return a.SignerName == "" }

// Reloads tells whether the application is told of new files.
func (a Ask) Reloads() bool {
	return a.Reload.Process != "" || a.Reload.URL != "" || a.Reload.Command != nil
}
