// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package annotation

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certwright/certwright/agent/reload"
)

const (
	minDuration = 10 * time.Minute // spec.expirationSeconds is at least 600
	maxDuration = math.MaxInt32 * time.Second

	// maxTrust leaves room for the signer's own bundle among those that an agent takes.
	maxTrust = 15
	// minPort is the first that needs no privilege anywhere.
	minPort = 1024
)

// Variable is an environment variable by which programs find trust anchors.
type Variable struct {
	Name string
	// Replaces is whether the file takes the place of the roots that the program
	// trusts otherwise, so that it has to hold the public ones too.
	Replaces bool
}

// variables are those that programs and libraries document.
var variables = []Variable{
	{"SSL_CERT_FILE", true},                    // OpenSSL and what is built on it, Go, Ruby, rustls-native-certs
	{"REQUESTS_CA_BUNDLE", true},               // requests for Python
	{"CURL_CA_BUNDLE", true},                   // curl, requests for Python
	{"AWS_CA_BUNDLE", true},                    // SDKs and command line of AWS
	{"GIT_SSL_CAINFO", true},                   // git
	{"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", true}, // gRPC in C++, Python, Ruby, PHP, C#
	{"NODE_EXTRA_CA_CERTS", false},             // Node.js
}

// parsers read the value of one annotation each. What they return is empty, or
// one line for each wrong part of the value.
var parsers = map[string]func(value string, ask *Ask) []string{
	AutoTLS:     func(value string, ask *Ask) []string { return one(value, checkSignerName, &ask.SignerName) },
	DNSNames:    func(value string, ask *Ask) []string { return list(value, checkDNSName, &ask.DNSNames) },
	URIs:        func(value string, ask *Ask) []string { return list(value, checkURI, &ask.URIs) },
	IPAddresses: func(value string, ask *Ask) []string { return list(value, checkIPAddress, &ask.IPAddresses) },
	Duration:    parseDuration,
	KeyAlgorithm: func(value string, ask *Ask) []string {
		return one(value, checkKeyAlgorithm, &ask.KeyAlgorithm)
	},
	Usages: func(value string, ask *Ask) []string {
		return some(value, checkUsage, &ask.Usages, "at least one of "+strings.Join(usages, ", "))
	},
	MountPath: func(value string, ask *Ask) []string { return one(value, checkMountPath, &ask.MountPath) },

	Trust:          parseTrust,
	TrustEnv:       parseTrustEnv,
	TrustMountPath: func(value string, ask *Ask) []string { return one(value, checkMountPath, &ask.MountPath) },
	Formats: func(value string, ask *Ask) []string {
		return some(value, checkFormat, &ask.Formats, "one or more of "+strings.Join(formats, ", "))
	},

	Delivery: parseDelivery,
	Containers: func(value string, ask *Ask) []string {
		return some(value, checkContainerName, &ask.Containers, "the names of one or more containers of the pod, or leave the annotation out for all of them")
	},
	ReloadSignal:  parseReloadSignal,
	ReloadURL:     func(value string, ask *Ask) []string { return one(value, reload.CheckURL, &ask.Reload.URL) },
	ReloadCommand: parseReloadCommand,
	ReloadVolume:  func(value string, ask *Ask) []string { return one(value, checkVolumeName, &ask.ReloadVolume) },
	SPIFFESocket:  parseSPIFFESocket,
	MetricsPort:   parseMetricsPort,
	Renew:         func(value string, _ *Ask) []string { return one(value, checkTime, new(string)) },
	DeliveredBy:   func(string, *Ask) []string { return nil },
}

func parseDelivery(value string, ask *Ask) []string {
	ask.Delivery = Way(value)
	if !slices.Contains([]Way{DeliveryAuto, DeliveryAgent, DeliveryInit, DeliveryKubelet}, ask.Delivery) {
		return []string{NotAllowed(value, "auto, agent, init or kubelet")}
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

func parseTrust(value string, ask *Ask) []string {
	const allowed = "1 to 15 signer names such as example.com/internal, separated by commas"
	problems := some(value, checkSignerName, &ask.Trust, allowed)
	if len(ask.Trust) > maxTrust {
		return []string{NotAllowed(value, allowed)}
	}
	return problems
}

func parseTrustEnv(value string, ask *Ask) []string {
	names := make([]string, len(variables))
	for i, v := range variables {
		names[i] = v.Name
	}
	var chosen []string
	allowed := "true for all, or one or more of " + strings.Join(names, ", ")
	problems := some(value, func(name string) string {
		if name == "true" || slices.Contains(names, name) {
			return ""
		}
		return allowed
	}, &chosen, allowed)
	if slices.Contains(chosen, "true") {
		if len(chosen) > 1 {
			return append(problems, NotAllowed(value, allowed))
		}
		chosen = names
	}
	for _, v := range variables {
		if slices.Contains(chosen, v.Name) {
			ask.TrustEnv = append(ask.TrustEnv, v)
		}
	}
	return problems
}

func parseReloadSignal(value string, ask *Ask) (problems []string) {
	allowed := "PROCESS=SIGNAL such as nginx=HUP, SIGNAL one of " + strings.Join(reload.SignalNames(), ", ")
	process, signal, found := strings.Cut(value, "=")
	if !found || !slices.Contains(reload.SignalNames(), signal) {
		return []string{NotAllowed(value, allowed)}
	}
	ask.Reload.Signal = signal
	return one(process, reload.CheckProcess, &ask.Reload.Process)
}

func parseReloadCommand(value string, ask *Ask) []string {
	if err := json.Unmarshal([]byte(value), &ask.Reload.Command); err != nil {
		return []string{NotAllowed(value, `a JSON array of strings, such as ["/reload/notify", "--now"]`)}
	}
	if allowed := reload.CheckCommand(ask.Reload.Command); allowed != "" {
		return []string{NotAllowed(value, allowed)}
	}
	return nil
}

func parseSPIFFESocket(value string, ask *Ask) []string {
	if ask.SPIFFESocket = value == "true"; !ask.SPIFFESocket {
		return []string{NotAllowed(value, "true, or leave the annotation out")}
	}
	return nil
}

func parseMetricsPort(value string, ask *Ask) []string {
	port, err := strconv.ParseUint(value, 10, 16)
	if err != nil || port < minPort {
		return []string{NotAllowed(value, "a port from 1024 to 65535")}
	}
	ask.MetricsPort = int32(port)
	return nil
}
