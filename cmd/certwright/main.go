// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command certwright runs one component of Certwright: the approver, the signer or the webhook.
package main

import "github.com/certwright/certwright/cmd/internal/component"

func main() { component.Main(nil) }
