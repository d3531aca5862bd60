// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package keeper keeps one key pair, or trust anchors alone, in a directory fresh,
// as an agent.Config says. It runs inside the pods of workloads, so it and all that
// it stands on are small on purpose.
//
// What it promises:
//
//   - The private key is made in memory, is written to the directory and goes
//     nowhere else. Neither it nor a token nor a request body is ever logged.
//   - tls.crt, tls.key, ca.crt and their other formats appear together and change together. A crash at
//     any point leaves the previous contents or the next, never a mixture.
//   - Good is never replaced by broken: a certificate is written only when it
//     belongs to the key, carries every requested name, is valid now and leads to
//     the trust bundle beside it; a trust bundle only when it parses and can anchor
//     a chain.
//   - A new trust bundle waits for nothing but the first key pair: it is written
//     beside the pair that is there, even one that it does not trust or that has
//     expired.
//   - Trouble is retried with backoff for as long as it lasts. Only a verdict
//     (denied, failed, unusable certificate) ends Run, and only when there is no
//     valid pair left to keep.
package keeper
