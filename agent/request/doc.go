// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package request obtains key pairs through the CertificateSigningRequest API.
//
// What it promises: the private key stays in memory and in the journal. A request
// that is open is found again after a restart, and at most one is open at a time.
// Trouble is retried with backoff for as long as it lasts; only a verdict (denied,
// failed, an unusable certificate) is an error.
package request
