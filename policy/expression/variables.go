// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package expression compiles and evaluates the CEL expressions of CertificatePolicies, with the language and the libraries
// that Kubernetes itself uses. It promises that an expression always ends: what takes more work or memory than its budget is
// stopped, whoever wrote it and whatever was asked, and that no expression can crash the program.
package expression

import "time"

// Variables is what expressions see. The names and types in CEL are those of the tags and the Go types. Texts and lists are
// always there, empty where there is nothing to say; pointers that are nil are absent: has() is false, reading them fails.
type Variables struct {
	// Request is what was asked for.
	Request Request `cel:"request"`
	// Requester is who asked.
	Requester Requester `cel:"requester"`
	// Namespace is that of the requester; null without one. CEL reserves the word namespace, so its name is the one that it
	// has in a ValidatingAdmissionPolicy.
	Namespace *Namespace `cel:"namespaceObject"`
	// Services are those that select the requester's pod.
	Services []Service `cel:"services"`
}

// Request is the certificate request.
type Request struct {
	SignerName     string        `cel:"signerName"`
	DNSNames       []string      `cel:"dnsNames"`
	IPAddresses    []string      `cel:"ipAddresses"`
	URIs           []string      `cel:"uris"`
	EmailAddresses []string      `cel:"emailAddresses"`
	Subject        Subject       `cel:"subject"`
	Key            Key           `cel:"key"`
	Usages         []string      `cel:"usages"`
	Duration       time.Duration `cel:"duration"`
	IsCA           bool          `cel:"isCA"`
}

// Subject is the distinguished name asked for.
type Subject struct {
	CommonName          string   `cel:"commonName"`
	Organizations       []string `cel:"organizations"`
	OrganizationalUnits []string `cel:"organizationalUnits"`
	Countries           []string `cel:"countries"`
	Provinces           []string `cel:"provinces"`
	Localities          []string `cel:"localities"`
	StreetAddresses     []string `cel:"streetAddresses"`
	PostalCodes         []string `cel:"postalCodes"`
	SerialNumber        string   `cel:"serialNumber"`
}

// Key is the public key to certify. Size is in bits.
type Key struct {
	Algorithm string `cel:"algorithm"`
	Size      int    `cel:"size"`
}

// Requester is who made the request, as the API server recorded it. Namespace and ServiceAccount are empty for other users.
type Requester struct {
	Username       string   `cel:"username"`
	UID            string   `cel:"uid"`
	Groups         []string `cel:"groups"`
	Namespace      string   `cel:"namespace"`
	ServiceAccount string   `cel:"serviceAccount"`
	Pod            *Pod     `cel:"pod"`
}

// Pod is the pod that the requester's token is bound to.
type Pod struct {
	Name        string            `cel:"name"`
	Labels      map[string]string `cel:"labels"`
	Annotations map[string]string `cel:"annotations"`
	Node        string            `cel:"node"`
	Owner       *Owner            `cel:"owner"`
	// IPs are absent while the pod waits for its addresses, so that no expression takes it for a pod without any.
	IPs *[]string `cel:"ips"`
}

// Owner is the controller that made the pod.
type Owner struct {
	APIVersion string `cel:"apiVersion"`
	Kind       string `cel:"kind"`
	Name       string `cel:"name"`
}

// Namespace is the namespace of the requester.
type Namespace struct {
	Name   string            `cel:"name"`
	Labels map[string]string `cel:"labels"`
}

// Service is a Service that selects the requester's pod.
type Service struct {
	Name     string `cel:"name"`
	Headless bool   `cel:"headless"`
}
