// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package reload tells an application that its files have changed: by a signal, by
// a call of HTTP on the pod's loopback interface or by a command.
//
// What it promises: nothing that the application does delays who reports a change;
// what fails is tried again with backoff until it works or there is newer to tell;
// output is bounded; and no call leaves the pod.
package reload
