// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

// Package harden keeps the private keys that a process holds in its memory from leaving it by way of the kernel.
package harden

// Process does nothing: on other systems than Linux, programs are built and tried, but hold no keys of anybody.
func Process() error { return nil }
