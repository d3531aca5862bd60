// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package footprint measures what certwright-agent costs a pod, beside an agent that
// does the same job with client-go: real processes, against a real API server.
package footprint
