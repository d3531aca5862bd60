// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/certwright/certwright/hack/cluster/internal/network"
)

// outside are the folders beyond the cluster's own that its programs make, since these paths are fixed in them. Parents
// come before what is in them.
var outside = []string{
	"/run/containerd",
	"/run/containerd/s",
	"/var/lib/cni",
	"/var/lib/cni/results",
	"/var/lib/kubelet",
	"/var/lib/kubelet/device-plugins",
	"/var/log/containers",
}

// record is what Up writes down before it changes the machine.
type record struct {
	Version
	// Binaries is the folder of the release's programs.
	Binaries string `json:"binaries"`
	// KubeletBinaries is the folder of the kubelet where it is of another release.
	KubeletBinaries string `json:"kubeletBinaries,omitempty"`
	// Sysctls are the kernel settings as they were.
	Sysctls map[string]string `json:"sysctls"`
	// Absent are those of the outside folders that were not there.
	Absent []string `json:"absent"`
}

// newRecord looks at the machine as it is.
func newRecord(version Version, built programs) (record, error) {
	r := record{Version: version, Binaries: built.kubernetes}
	if version.Kubelet != "" {
		r.KubeletBinaries = built.kubelet
	}
	var err error
	if r.Sysctls, err = network.Sysctls(); err != nil {
		return record{}, err
	}
	for _, dir := range outside {
		if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
			r.Absent = append(r.Absent, dir)
		}
	}
	return r, nil
}

// save keeps the record. It is on disk as a whole or not at all.
func (c *Cluster) save(r record) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	// Beside the folder, in which nothing is before the record.
	temporary := c.Dir + ".partial"
	if err := os.WriteFile(temporary, append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing down the state of the machine: %w", err)
	}
	return os.Rename(temporary, c.path("cluster.json"))
}

// recorded returns the record of the cluster that is up. Without one, Up has not changed anything yet.
func (c *Cluster) recorded() (record, error) {
	raw, err := os.ReadFile(c.path("cluster.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil
	}
	if err != nil {
		return record{}, err
	}
	var r record
	if err := json.Unmarshal(raw, &r); err != nil {
		return record{}, fmt.Errorf("reading %s: %w", c.path("cluster.json"), err)
	}
	return r, nil
}
