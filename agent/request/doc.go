// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package request obtains key pairs through the CertificateSigningRequest API.
//
// What it promises: the private key stays in memory and in the journal. A request
// that is open is found again after a restart, and at most one is open at a time,
// but for two cases: the pod came back with other addresses and asks for them, or its
// journal, which is in memory, was lost with its node. The agent may not delete what
// it asked for, so the former request stays until it is denied or Kubernetes deletes
// it; its key is gone, so whatever is issued for it is of use to nobody.
// Trouble is retried with backoff for as long as it lasts; only a verdict (denied,
// failed, an unusable certificate) is an error.
package request
