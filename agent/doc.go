// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package agent is what the agent in a pod is told: its configuration, which the
// webhook writes and the agent reads. What it then does is in package keeper.
package agent
