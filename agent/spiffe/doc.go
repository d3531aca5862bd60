// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package spiffe serves a pod's certificate on a Unix socket, as SPIFFE's Workload
// API and as Envoy's secret discovery service.
//
// What it promises:
//
//   - The socket appears with its mode, so nobody connects before, and is gone when
//     Run returns. It can be used by the group that can read the files of the agent.
//   - A client gets the newest certificate and bundle as a whole, at once or when
//     there is one, and then each change. One that reads slowly skips what is
//     outdated: it delays nobody and costs no more memory.
//   - Only a certificate that is an X509-SVID is handed out as one.
//   - Private keys are in answers to clients and nowhere else, least of all in logs.
package spiffe
