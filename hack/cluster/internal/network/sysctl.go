// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// sysctls are the kernel settings that Up, the kubelet or kube-proxy change.
var sysctls = []string{
	"kernel/keys/root_maxbytes",
	"kernel/keys/root_maxkeys",
	"kernel/panic",
	"kernel/panic_on_oops",
	"net/ipv4/conf/all/route_localnet",
	"net/ipv4/ip_forward",
	"net/netfilter/nf_conntrack_max",
	"net/netfilter/nf_conntrack_tcp_be_liberal",
	"net/netfilter/nf_conntrack_tcp_timeout_close_wait",
	"net/netfilter/nf_conntrack_tcp_timeout_established",
	"vm/overcommit_memory",
	"vm/panic_on_oom",
}

// Sysctls returns the settings that the cluster will change, as they are now. Those that this kernel lacks are left out.
func Sysctls() (map[string]string, error) {
	values := map[string]string{}
	for _, name := range sysctls {
		value, err := sysctl(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		values[name] = value
	}
	return values, nil
}

// RestoreSysctls sets those settings that differ from values.
func RestoreSysctls(values map[string]string) error {
	var errs []error
	for name, value := range values {
		if now, err := sysctl(name); err == nil && now != value {
			errs = append(errs, setSysctl(name, value))
		}
	}
	return errors.Join(errs...)
}

// sysctl reads a kernel setting.
func sysctl(name string) (string, error) {
	raw, err := os.ReadFile(filepath.Join("/proc/sys", name))
	if err != nil {
		return "", fmt.Errorf("reading kernel setting %s: %w", name, err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// setSysctl changes a kernel setting.
func setSysctl(name, value string) error {
	if err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0o644); err != nil {
		return fmt.Errorf("setting kernel setting %s to %s: %w", name, value, err)
	}
	return nil
}
