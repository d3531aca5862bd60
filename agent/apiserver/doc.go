// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package apiserver speaks to Kubernetes' API server about
// CertificateSigningRequests, with net/http alone, and knows only the handful of
// JSON fields that the agent needs.
//
// What it promises: token and request go to the API server and nowhere else; what
// it answers is bounded before it is read; and an answer counts only for the
// request that was sent.
package apiserver
