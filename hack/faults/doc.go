// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package faults runs Certwright against real servers that fail, under a steady load, and reports what became of each request:
//
//	make faults DURATION=10m
//	go test -tags faults -v ./hack/faults -run TestVault -duration 20s -rate 5
//
// An API server, the approver and the signer run as processes of their own, without pods; so do the servers that sign. Each of
// those is stopped, paused, made slow, emptied, given another certificate, and Certwright's credentials are taken away. Three
// Signers are under load: one has that server alone, one has a CA behind it, and one has nothing to do with it, which shows what
// the machine is busy with. Every request must end with a certificate; trouble is no reason to give one up. A server that keeps
// count must have issued as many certificates as reached their requests: what it issued beyond them are answers that the fault cut
// off.
//
// It needs the programs of "bin/cluster build" and, for ACME, the Debian package bind9 and root, as BIND listens on port 53 of
// loopback. Latencies mean something only on a machine that does nothing else.
package faults
