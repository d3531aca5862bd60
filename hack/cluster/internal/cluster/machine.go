// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// packages are the Debian packages with the programs that are not built from Go modules.
var packages = map[string][]string{
	"containerd": {"containerd", "ctr", "containerd-shim-runc-v2"},
	"runc":       {"runc"},
	"iptables":   {"iptables", "iptables-save", "iptables-restore"},
	"iproute2":   {"ip"},
}

// cniPackage is the Debian package with the CNI plugins, which are in no PATH.
const cniPackage = "containernetworking-plugins"

// cniDirs are where distributions put the CNI plugins.
var cniDirs = []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"}

// cniPlugins are the plugins that the cluster needs.
var cniPlugins = []string{"loopback", "ptp", "host-local"}

// checkMachine returns an error if this user cannot run a cluster here.
func checkMachine() error {
	if os.Geteuid() != 0 {
		return errors.New("running a cluster on this machine takes root: use sudo, or set KUBECONFIG to a cluster you have, such as kind")
	}
	return nil
}

// findCNIPlugins returns the folder with the CNI plugins.
func findCNIPlugins() (string, error) {
	for _, dir := range cniDirs {
		missing := slices.ContainsFunc(cniPlugins, func(plugin string) bool {
			_, err := os.Stat(filepath.Join(dir, plugin))
			return err != nil
		})
		if !missing {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no folder of %s holds the CNI plugins %s", strings.Join(cniDirs, ", "), strings.Join(cniPlugins, ", "))
}

// missingPackages returns the Debian packages whose programs are not on this machine, in order.
func missingPackages() []string {
	var missing []string
	for name, programs := range packages {
		if slices.ContainsFunc(programs, func(program string) bool {
			_, err := exec.LookPath(program)
			return err != nil
		}) {
			missing = append(missing, name)
		}
	}
	if _, err := findCNIPlugins(); err != nil {
		missing = append(missing, cniPackage)
	}
	slices.Sort(missing)
	return missing
}

// installPackages installs what is missing on Debian and its kin. Elsewhere it says what to install.
func installPackages(ctx context.Context, out io.Writer) error {
	missing := missingPackages()
	if len(missing) == 0 {
		return nil
	}
	list := strings.Join(missing, " ")
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("the programs of these packages, by their Debian names, are not installed: %s: install them, or set KUBECONFIG to a cluster you have, such as kind", list)
	}
	fmt.Fprintln(out, "installing Debian packages:", list)
	for _, args := range [][]string{
		{"update"},
		append([]string{"install", "--yes", "--no-install-recommends"}, missing...),
	} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if output, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("running apt-get %s: %w:\n%s", strings.Join(args, " "), err, strings.TrimSpace(string(output)))
		}
	}
	if missing := missingPackages(); len(missing) > 0 {
		return fmt.Errorf("after installing %s, these packages still lack a program: %s", list, strings.Join(missing, " "))
	}
	return nil
}
