// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster runs a whole Kubernetes on this machine as plain processes: a control plane, one node that runs real
// pods, and DNS.
//
// It promises that Up brings a cluster that works or says why not, that a second Up changes nothing, and that Down takes
// away all that Up and the cluster left on the machine, also after a crash at any point. To that end everything lives in
// one folder, and what has to be elsewhere is written down there before it is changed.
package cluster

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/certwright/certwright/hack/cluster/internal/network"
	"github.com/certwright/certwright/hack/cluster/internal/process"
	"golang.org/x/sys/unix"
)

const (
	// nodeName is what the one node is called.
	nodeName = "certwright"
	// domain is the DNS domain of the cluster.
	domain = "cluster.local"
	// pauseImage holds the namespaces of every pod.
	pauseImage = "docker.io/certwright/pause:dev"
)

// The components, in the order in which they start.
const (
	etcd              = "etcd"
	apiServer         = "kube-apiserver"
	containerd        = "containerd"
	controllerManager = "kube-controller-manager"
	scheduler         = "kube-scheduler"
	kubelet           = "kubelet"
	kubeProxy         = "kube-proxy"
	coreDNS           = "coredns"
)

// components lists all components in the order in which they start.
var components = []string{etcd, apiServer, containerd, controllerManager, scheduler, kubelet, kubeProxy, coreDNS}

// Cluster is the cluster of one folder, whether it is up or not.
type Cluster struct {
	// Dir is the folder that holds all of it.
	Dir string
	// Cache is the folder for built programs.
	Cache string
	// Starts are folders that the checkout with the cluster's sources is looked for from.
	Starts []string
	// Out is told what is being done.
	Out io.Writer
}

// ErrDown says that there is no cluster.
var ErrDown = errors.New("no cluster is up: run \"cluster up\"")

// path returns the path of something in the cluster's folder.
func (c *Cluster) path(elements ...string) string {
	return filepath.Join(append([]string{c.Dir}, elements...)...)
}

// Kubeconfig is the path of the file that makes its reader an administrator of the cluster.
func (c *Cluster) Kubeconfig() string { return c.path("kubeconfig") }

// Logs is the folder with the logs of all components; those of pods are in its folder pods.
func (c *Cluster) Logs() string { return c.path("logs") }

// pki is the path of a file with a certificate or a key.
func (c *Cluster) pki(file string) string { return c.path("pki", file) }

// config is the path of a component's configuration.
func (c *Cluster) config(file string) string { return c.path("config", file) }

// etcdSocket is the address that only etcd and the API server know.
func (c *Cluster) etcdSocket() string { return "unix://" + c.path("run", "etcd.sock") }

// containerdSocket is the path of the socket of our own containerd.
func (c *Cluster) containerdSocket() string { return c.path("run", "containerd.sock") }

// exists says whether a cluster, or what is left of one, is there.
func (c *Cluster) exists() (bool, error) {
	_, err := os.Stat(c.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// lock keeps two commands from changing the cluster at once. The folder is made if it is not there, and removed by
// unlock if nothing is in it. The kernel drops the lock when the process ends, however it ends.
func (c *Cluster) lock() (unlock func(), err error) {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the cluster's folder: %w", err)
	}
	dir, err := os.Open(c.Dir)
	if err != nil {
		return nil, err
	}
	if err := flock(dir); err != nil {
		dir.Close()
		return nil, fmt.Errorf("another \"cluster up\" or \"cluster down\" is at work in %s: wait for it to end", c.Dir)
	}
	if err := c.checkFolder(); err != nil {
		dir.Close()
		return nil, err
	}
	return func() {
		_ = os.Remove(c.Dir) // Does nothing to a folder that is not empty.
		dir.Close()
	}, nil
}

// flock locks an open file. It tries for a moment: a child that a killed command was just starting may hold on to the
// command's lock until it runs its own program.
func flock(file *os.File) error {
	for deadline := time.Now().Add(lockLimit); ; time.Sleep(pollEvery) {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// lockLimit is how long a lock is tried for.
const lockLimit = time.Second / 2

// checkFolder returns an error if the folder holds something else than a cluster: down removes all that is in it.
func (c *Cluster) checkFolder() error {
	entries, err := os.ReadDir(c.Dir)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return nil
	}
	if state, err := c.recorded(); err != nil || state.Release == "" {
		return fmt.Errorf("%s holds something, but not a cluster: set CERTWRIGHT_CLUSTER_DIR to a folder that is empty or not there", c.Dir)
	}
	return nil
}

// running returns the identities of the components that run, by name.
func (c *Cluster) running() (map[string]process.Identity, error) {
	saved, err := process.Load(c.path("pids"))
	if err != nil {
		return nil, fmt.Errorf("reading which processes were started: %w", err)
	}
	for name, id := range saved {
		if !id.Alive() {
			delete(saved, name)
		}
	}
	return saved, nil
}

// apiURL is where the API server is reached from this machine; nodeAPIURL from pods too.
const (
	apiPort    = "6443"
	apiURL     = "https://127.0.0.1:" + apiPort
	nodeAPIURL = "https://" + network.NodeIP + ":" + apiPort
)
