// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
)

func TestRunRefuses(t *testing.T) {
	t.Setenv("CERTWRIGHT_CLUSTER_DIR", filepath.Join(t.TempDir(), "none"))
	for arguments, want := range map[string]string{
		"begin":                                 `no command "begin"`,
		"status now":                            `status takes no argument "now"`,
		"down --kubernetes 1.37":                "not defined: -kubernetes",
		"load":                                  "at least one image file",
		"load image.tar":                        "no cluster is up",
		"status":                                "no cluster is up",
		"logs":                                  "no cluster is up",
		"logs kubelet":                          "no cluster is up",
		"restart":                               "at least one component",
		"restart api":                           `no component "api": components are etcd, `,
		"restart etcd":                          "no cluster is up",
		"restart --kubelet-clock clock kubelet": `the clock "clock" is no absolute path`,
	} {
		t.Run(arguments, func(t *testing.T) {
			err := run(context.Background(), strings.Fields(arguments))
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want an error with %q", err, want)
			}
		})
	}
}

func TestHelpNamesAllCommands(t *testing.T) {
	for _, command := range []string{"up", "down", "status", "restart", "load", "logs", "kubeconfig", "build"} {
		if !strings.Contains(help, "\n  cluster "+command+" ") {
			t.Errorf("no word about %s", command)
		}
	}
}
