// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package crds holds the generated definitions of Certwright's kinds, so that programs can hold a file against the same
// schema as the API server does.
package crds

import _ "embed"

// CertificatePolicy is the CustomResourceDefinition of CertificatePolicies, in YAML.
//
//go:embed certwright.dev_certificatepolicies.yaml
var CertificatePolicy []byte
