// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package credential is a private key, the chain that was issued for it, the names
// that it carries and the trust anchors to which it leads: how they are made, read,
// checked and compared.
//
// What it promises: nothing is read beyond a bound, and what is accepted can be
// written and read again without change.
package credential
