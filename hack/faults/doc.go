// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package faults runs Certwright against real servers that fail, under a steady load, and reports what became of each request:
//
//	make faults DURATION=10m
//
// An API server, the approver and the signer run as processes of their own, without pods; so do the servers that sign. Each of
// those is stopped, paused, made slow, emptied, given another certificate, and its credentials are taken away. One Signer has that
// server alone, another one has a CA behind it. Every request must end with a certificate, or with a reason that is true; trouble
// is none.
package faults
