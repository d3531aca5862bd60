#!/usr/bin/env bash
# Copyright The Certwright Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Sees that "cluster down" leaves nothing on this machine: after a cluster that ran pods, after an "up" that was cut short,
# and after components that died. It needs root, and no cluster may be up. The binary cache and Debian packages stay.
#
# Usage: leaves-nothing.sh [RELEASE]     such as 1.36
set -euo pipefail
cd "$(dirname "$0")"

release=${1:-${CERTWRIGHT_KUBERNETES:-1.37}}
dir=${CERTWRIGHT_CLUSTER_DIR:-/var/lib/certwright-cluster}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# snapshot FILE writes down all that a cluster touches outside of its own folder. Other work on the machine should not
# show in it.
snapshot() {
	{
		echo "# processes"
		ps -eo args= | grep -E "$dir|containerd-shim|certwright/(kubernetes|coredns|pause)-" | grep -vE 'grep|<defunct>' || true
		echo "# mounts"
		cat /proc/self/mounts
		echo "# network"
		ip -o link | sed -E 's/^[0-9]+: //'
		ip -o address | sed -E 's/^[0-9]+: //; s/valid_lft.*//'
		ip route show table all
		for family in iptables ip6tables; do
			echo "# $family"
			"$family-save" | sed -E '/^#/d; s/\[[0-9:]+\]//'
		done
		echo "# kernel settings"
		find /proc/sys/{net,vm,kernel} -type f ! -path '*/random/*' ! -name ns_last_pid ! -name nf_conntrack_count \
			! -name stat_refresh ! -name flush ! -path '*/pty/nr' -exec grep -H . {} + 2>/dev/null | sort || true
		echo "# cgroups"
		find /sys/fs/cgroup -type d | sort
		echo "# sockets"
		awk '{print $8}' /proc/net/unix | grep -E "containerd|$dir" | sort -u || true
		echo "# files"
		find /etc /opt /run /usr/libexec /usr/lib/cni /var -xdev ! -path '/var/cache/*' ! -path '/var/lib/apt/*' \
			! -path '/var/lib/dpkg/*' ! -path '/var/tmp/*' | sort
	} >"$1"
}

# check SCENARIO takes the cluster down and compares the machine with what it was.
check() {
	"$work/cluster" down
	snapshot "$work/after"
	if ! diff -u "$work/before" "$work/after" >"$work/diff"; then
		echo "FAIL: $1: what differs after \"cluster down\":"
		cat "$work/diff"
		exit 1
	fi
	echo "ok: $1: nothing is left"
}

# running says whether a component of the cluster has been started.
running() { [[ -e $dir/pids/$1.pid ]]; }

# process prints the number of a component's process.
process() { sed -E 's/.*"pid":([0-9]+).*/\1/' "$dir/pids/$1.pid"; }

CGO_ENABLED=0 go build -o "$work/cluster" .
if [[ -e $dir ]]; then
	echo "a cluster is up, or was: run \"cluster down\" first" >&2
	exit 1
fi
"$work/cluster" build --kubernetes "$release"
# Installs the packages, and lets the kernel load the modules, that stay.
"$work/cluster" up --kubernetes "$release"
"$work/cluster" down
snapshot "$work/before"

"$work/cluster" up --kubernetes "$release"
go test -tags smoke -count=1 -run TestCluster ./smoke
check "a cluster that ran pods"

# With its pods: the next "down" finds them running.
"$work/cluster" up --kubernetes "$release"
CERTWRIGHT_SMOKE_KEEP=yes go test -tags smoke -count=1 -run TestCluster ./smoke
for component in kubelet containerd kube-apiserver; do
	kill -KILL "$(process "$component")"
done
check "components that died, with pods running"

for component in etcd kubelet coredns; do
	"$work/cluster" up --kubernetes "$release" >/dev/null &
	up=$!
	until running "$component"; do
		kill -0 "$up"
		sleep 0.05
	done
	kill -KILL "$up"
	wait "$up" 2>/dev/null || true
	check "an up that was killed when it had started $component"
done

"$work/cluster" up --kubernetes "$release" >/dev/null &
up=$!
until running kube-apiserver; do
	kill -0 "$up"
	sleep 0.05
done
kill -INT "$up"
wait "$up" || true
"$work/cluster" up --kubernetes "$release"
check "an up that was interrupted, then another one"
