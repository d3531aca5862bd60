// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package network gives the node of the local cluster an address on the machine, and takes away all that a cluster
// leaves in the machine's network: a device, routes, packet filter rules and kernel settings.
//
// The addresses are of 198.18.0.0/15, which is set aside for benchmarks (RFC 2544), so that they are nobody's.
package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
)

const (
	// Device is the network device that holds the node's address. It is a bridge without ports, since that is the one
	// kind of virtual device that kernels always have.
	Device = "certwright0"
	// NodeIP is the node's address. A kubelet takes no loopback address.
	NodeIP = "198.18.0.1"
	// Range holds the addresses of the node, the pods and the Services.
	Range = "198.18.0.0/15"
	// PodRange holds the addresses of the pods.
	PodRange = "198.18.128.0/17"
	// ClusterRange holds the addresses of the node and the pods.
	ClusterRange = "198.18.0.0/16"
	// ServiceRange holds the addresses of the Services.
	ServiceRange = "198.19.0.0/16"
	// APIServerServiceIP is the address of the Service default/kubernetes: the first one of ServiceRange.
	APIServerServiceIP = "198.19.0.1"
	// DNSServiceIP is the address of the Service kube-system/kube-dns.
	DNSServiceIP = "198.19.0.10"
)

// comment marks the packet filter rules made here.
const comment = "certwright-cluster"

// Up makes the device and lets packets pass between pods, Services, the machine and what lies beyond.
func Up(ctx context.Context) error {
	if err := checkUnused(); err != nil {
		return err
	}
	for _, command := range [][]string{
		{"ip", "link", "add", Device, "type", "bridge"},
		{"ip", "address", "add", NodeIP + "/24", "dev", Device},
		{"ip", "link", "set", Device, "up"},
		// Gives the machine's own connections to Services the node's address, also where there is no default route.
		{"ip", "route", "add", ServiceRange, "dev", Device, "src", NodeIP},
		// Other software, such as Docker, drops forwarded packets that no rule accepts.
		{"iptables", "-w", "-t", "filter", "-I", "FORWARD", "-s", Range, "-m", "comment", "--comment", comment, "-j", "ACCEPT"},
		{"iptables", "-w", "-t", "filter", "-I", "FORWARD", "-d", Range, "-m", "comment", "--comment", comment, "-j", "ACCEPT"},
		{"iptables", "-w", "-t", "nat", "-A", "POSTROUTING", "-s", PodRange, "!", "-d", Range, "-m", "comment", "--comment", comment, "-j", "MASQUERADE"},
	} {
		if _, err := run(ctx, "", command...); err != nil {
			return err
		}
	}
	return setSysctl("net/ipv4/ip_forward", "1")
}

// Down removes the device with its addresses and routes, those of pods that are gone included, and the packet filter
// rules. What is not there is fine.
func Down(ctx context.Context) error {
	var errs []error
	for _, device := range append(podDevices(), Device) {
		if _, err := net.InterfaceByName(device); err != nil {
			continue
		}
		_, err := run(ctx, "", "ip", "link", "delete", device)
		errs = append(errs, err)
	}
	return errors.Join(append(errs, removeRules(ctx))...)
}

// checkUnused returns an error if another device has an address of the cluster's range.
func checkUnused() error {
	_, ours, err := net.ParseCIDR(Range)
	if err != nil {
		return err
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("listing the machine's addresses: %w", err)
	}
	for _, address := range addresses {
		if network, ok := address.(*net.IPNet); ok && ours.Contains(network.IP) {
			return fmt.Errorf("address %s is in use on this machine: the cluster needs %s for itself", network.IP, Range)
		}
	}
	return nil
}

// podDevices returns the machine's ends of the devices that lead to pods: those that hold the pods' gateway.
func podDevices() []string {
	gateway, _, err := net.ParseCIDR(PodRange)
	if err != nil {
		return nil
	}
	gateway = gateway.To4()
	gateway[3]++
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var found []string
	for _, device := range interfaces {
		addresses, err := device.Addrs()
		if err != nil || !strings.HasPrefix(device.Name, "veth") {
			continue
		}
		for _, address := range addresses {
			if network, ok := address.(*net.IPNet); ok && network.IP.Equal(gateway) {
				found = append(found, device.Name)
			}
		}
	}
	return found
}

// run runs a command with that input and returns what it printed.
func run(ctx context.Context, input string, command ...string) (string, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin = strings.NewReader(input)
	var out, problems strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("running %s: %w: %s", strings.Join(command, " "), err, strings.TrimSpace(problems.String()))
	}
	return out.String(), nil
}
