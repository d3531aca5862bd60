// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/certwright/certwright/hack/images/image"
)

// containerdTemplate is a configuration of version 2, which containerd 1.6 and all later ones read.
var containerdTemplate = template.Must(template.New("containerd").Parse(`version = 2
root = {{printf "%q" .Root}}
state = {{printf "%q" .State}}
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]

[grpc]
  address = {{printf "%q" .Socket}}

[plugins."io.containerd.internal.v1.opt"]
  path = {{printf "%q" .Opt}}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {{printf "%q" .Pause}}
  stream_server_address = "127.0.0.1"
  # Without CAP_SYS_RESOURCE a score cannot be lowered, and runc gives up.
  restrict_oom_score_adj = true
  disable_apparmor = true
  # Not in /run/netns, where others keep theirs.
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {{printf "%q" .CNIPlugins}}
    conf_dir = {{printf "%q" .CNIConfig}}

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    SystemdCgroup = false
    Root = {{printf "%q" .Runc}}
`))

// containerdConfig returns the configuration of a containerd that shares nothing with another one on this machine.
func (c *Cluster) containerdConfig(cniPlugins string) (string, error) {
	var out strings.Builder
	err := containerdTemplate.Execute(&out, map[string]string{
		"Root":       c.path("containerd"),
		"State":      c.path("run", "containerd"),
		"Socket":     c.containerdSocket(),
		"Opt":        c.path("containerd-opt"),
		"Pause":      pauseImage,
		"CNIPlugins": cniPlugins,
		"CNIConfig":  c.path("config", "cni"),
		"Runc":       c.path("run", "runc"),
	})
	return out.String(), err
}

// Load gives images, in files as "docker save" writes them, to the node. An image of the same name is replaced; pods
// that run keep the old one.
func (c *Cluster) Load(ctx context.Context, files []string) error {
	if err := checkMachine(); err != nil {
		return err
	}
	if running, err := c.running(); err != nil {
		return err
	} else if _, ok := running[containerd]; !ok {
		return ErrDown
	}
	for _, file := range files {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("loading an image: %w", err)
		}
		output, err := c.importImage(ctx, file)
		if err != nil {
			return err
		}
		for line := range strings.Lines(output) {
			if name, ok := strings.CutPrefix(line, "unpacking "); ok {
				name, _, _ = strings.Cut(name, " ")
				fmt.Fprintln(c.Out, "loaded", name)
			}
		}
	}
	return nil
}

// importImage gives one image to containerd and returns what ctr said.
func (c *Cluster) importImage(ctx context.Context, file string) (string, error) {
	cmd := exec.CommandContext(ctx, "ctr", "--address", c.containerdSocket(), "--namespace", "k8s.io", "images", "import", file)
	output, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("loading image %s: %w: %s", file, err, strings.TrimSpace(string(output)))
	}
	return string(output), nil
}

// loadPause makes the pause image of the program in that folder and loads it.
func (c *Cluster) loadPause(ctx context.Context, binaries string) error {
	file := c.path("run", "pause.tar")
	spec := image.Spec{Reference: pauseImage, Programs: []string{filepath.Join(binaries, "pause")}}
	if err := image.Write(spec, file); err != nil {
		return fmt.Errorf("making the pause image: %w", err)
	}
	_, err := c.importImage(ctx, file)
	return errors.Join(err, os.Remove(file))
}
