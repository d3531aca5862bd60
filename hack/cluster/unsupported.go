// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

// Command cluster runs a Kubernetes on a Linux machine. Here it only says what to do instead.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "cluster: running a cluster on this machine takes Linux: set KUBECONFIG to a cluster you have, such as kind")
	os.Exit(1)
}
