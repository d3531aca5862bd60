// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package webhook is the server that the API server asks about pods, Signers and
// CertificatePolicies before it stores them. What it answers is in the packages
// mutation and validation.
//
// What it promises:
//
//   - It has a serving certificate, and the API server trusts it, with nobody's help.
//   - How much it works on at once is bounded: package gate.
//   - A replica that is told to stop answers every request that still reaches it.
package webhook
