// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package annotation reads what a pod asks for by its annotations, such as certwright.dev/auto-tls: the form of every value is
// checked, and everything that is wrong is told at once. Whether a pod may have what it asks for is not decided here.
package annotation

import (
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/certwright/certwright/excerpt"
)

// Prefix starts the key of every annotation that is addressed to Certwright.
const Prefix = "certwright.dev/"

// The keys of the annotations by which a pod asks. AutoTLS is the one that
// counts; without it the pod is left alone and the others mean nothing.
const (
	AutoTLS      = Prefix + "auto-tls"
	DNSNames     = Prefix + "dns-names"
	URIs         = Prefix + "uris"
	IPAddresses  = Prefix + "ip-addresses"
	Delivery     = Prefix + "delivery"
	Duration     = Prefix + "duration"
	KeyAlgorithm = Prefix + "key-algorithm"
	Usages       = Prefix + "usages"
	MountPath    = Prefix + "mount-path"
	Containers   = Prefix + "containers"
)

// Way is how the certificate reaches the pod.
type Way string

const (
	// DeliveryAgent is a native sidecar that also renews.
	DeliveryAgent Way = "agent"
	// DeliveryInit is an init container that ends once the certificate is there.
	DeliveryInit Way = "init"
)

const (
	// DefaultMountPath is where the containers find the certificate.
	DefaultMountPath = "/var/run/secrets/certwright.dev/tls"
	// DefaultDuration is the lifetime that is asked for.
	DefaultDuration = 24 * time.Hour
	// DefaultKeyAlgorithm is the kind of key that the agent makes.
	DefaultKeyAlgorithm = "ECDSA-P256"

	minDuration = 10 * time.Minute // spec.expirationSeconds is at least 600
	maxDuration = math.MaxInt32 * time.Second
)

// Ask is what a pod asks for by its annotations, with the defaults that do not
// depend on the pod.
type Ask struct {
	SignerName string
	// DNSNames, URIs and IPAddresses are nil where the annotation is absent, so
	// that the default applies, and empty where it is there and asks for none.
	DNSNames, URIs, IPAddresses []string
	Delivery                    Way
	Duration                    time.Duration
	KeyAlgorithm                string
	Usages                      []string
	// MountPath is where the selected containers see the certificate.
	MountPath string
	// Containers are the names of the containers that see it; nil means all.
	Containers []string
}

// Refusal says why a pod cannot get what it asks for: every reason at once, each
// a sentence for the author of the pod.
type Refusal []string

const (
	// maxReasons bounds the length of a refusal, which ends up in events.
	maxReasons = 20
	// MaxBytes bounds the value of an annotation in bytes. What it asks for has to
	// fit into a request, which is no longer.
	MaxBytes = 16 << 10
)

// Error joins the reasons in one line.
func (r Refusal) Error() string {
	shown, rest := []string(r), ""
	if len(shown) > maxReasons {
		rest = fmt.Sprintf("; and %d more", len(shown)-maxReasons)
		shown = shown[:maxReasons]
	}
	return "this pod cannot get a certificate: " + strings.Join(shown, "; ") + rest
}

// Addf adds a reason. Those that nobody will read are only counted.
func (r *Refusal) Addf(format string, args ...any) {
	reason := ""
	if len(*r) < maxReasons {
		reason = fmt.Sprintf(format, args...)
	}
	*r = append(*r, reason)
}

// parsers read the value of one annotation each. What they return is empty, or
// one line for each wrong part of the value.
var parsers = map[string]func(value string, ask *Ask) []string{
	AutoTLS: func(value string, ask *Ask) []string {
		ask.SignerName = value
		return one(value, checkSignerName)
	},
	DNSNames:    func(value string, ask *Ask) []string { return list(value, checkDNSName, &ask.DNSNames) },
	URIs:        func(value string, ask *Ask) []string { return list(value, checkURI, &ask.URIs) },
	IPAddresses: func(value string, ask *Ask) []string { return list(value, checkIPAddress, &ask.IPAddresses) },
	Delivery:    parseDelivery,
	Duration:    parseDuration,
	KeyAlgorithm: func(value string, ask *Ask) []string {
		ask.KeyAlgorithm = value
		return one(value, checkKeyAlgorithm)
	},
	Usages: func(value string, ask *Ask) []string {
		problems := list(value, checkUsage, &ask.Usages)
		if len(ask.Usages) == 0 && problems == nil {
			return []string{NotAllowed(value, "at least one of "+strings.Join(usages, ", "))}
		}
		return problems
	},
	MountPath: func(value string, ask *Ask) []string {
		ask.MountPath = value
		return one(value, checkMountPath)
	},
	Containers: func(value string, ask *Ask) []string {
		problems := list(value, checkContainerName, &ask.Containers)
		if len(ask.Containers) == 0 && problems == nil {
			return []string{NotAllowed(value, "the names of one or more containers of the pod, or leave the annotation out for all of them")}
		}
		return problems
	},
}

// Parse reads the annotations of a pod. The error, if any, is a Refusal.
func Parse(annotations map[string]string) (Ask, error) {
	ask := Ask{
		Delivery:     DeliveryAgent,
		Duration:     DefaultDuration,
		KeyAlgorithm: DefaultKeyAlgorithm,
		MountPath:    DefaultMountPath,
	}
	var refusal Refusal
	known := strings.Join(slices.Sorted(maps.Keys(parsers)), ", ")
	if _, asked := annotations[AutoTLS]; !asked {
		refusal.Addf("annotation %s: missing, set it to a signer name such as example.com/internal", AutoTLS)
	}
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if !strings.HasPrefix(key, Prefix) {
			continue
		}
		parse := parsers[key]
		if parse == nil {
			refusal.Addf("annotation %s: unknown, use one of %s", Shorten(key), known)
			continue
		}
		if n := len(annotations[key]); n > MaxBytes {
			refusal.Addf("annotation %s: %d bytes long, the most is %d", key, n, MaxBytes)
			continue
		}
		for _, problem := range parse(annotations[key], &ask) {
			refusal.Addf("annotation %s: %s", key, problem)
		}
	}
	if refusal != nil {
		return Ask{}, refusal
	}
	if ask.Usages == nil {
		ask.Usages = defaultUsages(ask.KeyAlgorithm)
	}
	return ask, nil
}

func parseDelivery(value string, ask *Ask) []string {
	switch value {
	case "auto", string(DeliveryAgent):
		ask.Delivery = DeliveryAgent
	case string(DeliveryInit):
		ask.Delivery = DeliveryInit
	case "kubelet":
		return []string{`"kubelet" is not supported yet, use agent (a sidecar that renews) or init (an init container, no renewal)`}
	default:
		return []string{NotAllowed(value, "auto, agent or init")}
	}
	return nil
}

func parseDuration(value string, ask *Ask) []string {
	duration, err := time.ParseDuration(value)
	if err != nil || duration < minDuration || duration > maxDuration || duration%time.Second != 0 {
		return []string{NotAllowed(value, "a duration of whole seconds, at least 10m, such as 24h or 90m")}
	}
	ask.Duration = duration
	return nil
}

func checkMountPath(value string) string {
	if !path.IsAbs(value) || path.Clean(value) != value || value == "/" || strings.ContainsAny(value, ":\x00") {
		return "a clean absolute path other than / and without colons, such as " + DefaultMountPath
	}
	return ""
}

// one checks a value that is a whole; check returns what is allowed if it is not.
func one(value string, check func(string) string) []string {
	if allowed := check(value); allowed != "" {
		return []string{NotAllowed(value, allowed)}
	}
	return nil
}

// list splits a value at its commas, checks each part and keeps the good ones,
// once each. A blank value is a list of none.
func list(value string, check func(string) string, into *[]string) []string {
	good, problems := []string{}, []string(nil)
	if strings.TrimSpace(value) != "" {
		for part := range strings.SplitSeq(value, ",") {
			part = strings.TrimSpace(part)
			if allowed := check(part); allowed != "" {
				problems = append(problems, NotAllowed(part, allowed))
			} else if !slices.Contains(good, part) {
				good = append(good, part)
			}
		}
	}
	*into = good
	return problems
}

// NotAllowed is the reason to give for a value where something else is allowed.
func NotAllowed(value, allowed string) string {
	return fmt.Sprintf("%q is not allowed, use %s", Shorten(value), allowed)
}

// Shorten keeps a refusal readable when the value is not.
func Shorten(value string) string {
	const most = 100
	return excerpt.Of(value, most)
}
