// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/certwright/certwright/hack/cluster/internal/build"
	"github.com/certwright/certwright/hack/cluster/internal/network"
	"github.com/certwright/certwright/hack/cluster/internal/process"
)

// upLimit is how long a cluster may take to come up once its programs are built. A slow machine takes 30 s.
const upLimit = 3 * time.Minute

// Up brings up a cluster of that version of Kubernetes. If one is up and healthy it says so; what is left of one that
// is not is taken down first.
func (c *Cluster) Up(ctx context.Context, version Version) error {
	if err := checkMachine(); err != nil {
		return err
	}
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if done, err := c.checkExisting(ctx, version); done || err != nil {
		return err
	}
	programs, err := c.buildAll(ctx, version)
	if err != nil {
		return err
	}
	if err := installPackages(ctx, c.Out); err != nil {
		return err
	}
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, upLimit, fmt.Errorf("the cluster did not come up in %s", upLimit))
	defer cancel()
	if err := c.prepare(ctx, version, programs); err != nil {
		return err
	}
	if err := c.start(ctx, version, programs); err != nil {
		return fmt.Errorf("%w\nThe logs are in %s; \"cluster down\" removes what is there of the cluster", err, c.Logs())
	}
	fmt.Fprintf(c.Out, "Kubernetes %s is up, %.1f s after its start.\n", version, time.Since(start).Seconds())
	c.printUse()
	return nil
}

// printUse says how to use the cluster, in a form to paste into a shell.
func (c *Cluster) printUse() {
	fmt.Fprintf(c.Out, "export KUBECONFIG=%s\nexport PATH=%s:$PATH   # kubectl of the cluster's release\n", c.Kubeconfig(), c.path("bin"))
}

// checkExisting returns whether a healthy cluster of the version is up. It takes down an unhealthy one.
func (c *Cluster) checkExisting(ctx context.Context, version Version) (bool, error) {
	existing, err := c.recorded()
	if err != nil || existing.Release == "" {
		return false, err
	}
	trouble := c.check(ctx)
	if trouble != nil {
		fmt.Fprintf(c.Out, "The cluster that is there is not healthy (%v): taking it down first.\n", trouble)
		return false, c.takeDown(ctx)
	}
	if existing.Version != version {
		return false, fmt.Errorf("a cluster of Kubernetes %s is up, not of %s: run \"cluster down\" first", existing.Version, version)
	}
	fmt.Fprintf(c.Out, "Kubernetes %s is up already.\n", version)
	c.printUse()
	return true, nil
}

// check says what is wrong with the cluster that is there, or nothing if it works.
func (c *Cluster) check(ctx context.Context) error {
	running, err := c.running()
	if err != nil {
		return err
	}
	for _, name := range components {
		if _, ok := running[name]; !ok {
			return fmt.Errorf("%s does not run", name)
		}
	}
	api, err := c.newClient()
	if err != nil {
		return err
	}
	for _, check := range []func(context.Context) error{api.checkReady, api.checkNode, checkDNS} {
		if err := check(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Build builds what the cache lacks of the programs of a version.
func (c *Cluster) Build(ctx context.Context, version Version) error {
	_, err := c.buildAll(ctx, version)
	return err
}

// programs are the folders of the built programs.
type programs struct {
	kubernetes, kubelet, coreDNS, pause string
}

// buildAll builds what the cache lacks.
func (c *Cluster) buildAll(ctx context.Context, version Version) (programs, error) {
	sources, err := build.Sources(c.Starts...)
	if err != nil {
		return programs{}, err
	}
	kubernetes, err := build.Kubernetes(sources, version.Release)
	if err != nil {
		return programs{}, err
	}
	kubelet, err := build.Kubelet(sources, cmp.Or(version.Kubelet, version.Release))
	if err != nil {
		return programs{}, err
	}
	builder := build.Builder{Cache: c.Cache, Progress: c.Out}
	var built programs
	for _, part := range []struct {
		module build.Module
		dir    *string
	}{{kubernetes, &built.kubernetes}, {kubelet, &built.kubelet}, {build.CoreDNS(sources), &built.coreDNS}, {build.Pause(sources), &built.pause}} {
		if *part.dir, err = builder.Build(ctx, part.module); err != nil {
			return programs{}, err
		}
	}
	return built, nil
}

// prepare writes down the state of the machine, and then everything that the components read.
func (c *Cluster) prepare(ctx context.Context, version Version, built programs) error {
	if err := checkPorts(ctx, ports); err != nil {
		return err
	}
	state, err := newRecord(version, built)
	if err != nil {
		return err
	}
	if err := c.save(state); err != nil {
		return err
	}
	for dir, mode := range map[string]os.FileMode{
		"pids": 0o755, "bin": 0o755, "config": 0o700, "config/cni": 0o700, "pki": 0o700, "run": 0o700,
		"logs": 0o755, "logs/pods": 0o755, "etcd": 0o700,
	} {
		if err := os.MkdirAll(c.path(dir), mode); err != nil {
			return err
		}
	}
	if err := os.Symlink(filepath.Join(built.kubernetes, "kubectl"), c.path("bin", "kubectl")); err != nil && !os.IsExist(err) {
		return err
	}
	if err := c.writeCertificates(time.Now()); err != nil {
		return err
	}
	return c.writeConfigs(version.kubelet())
}

// checkPorts returns an error if something listens where a component wants to.
func checkPorts(ctx context.Context, ports map[string]string) error {
	var config net.ListenConfig
	for address, component := range ports {
		listener, err := config.Listen(ctx, "tcp", address)
		if err != nil {
			return fmt.Errorf("%s cannot listen on %s: %w; end what is there, perhaps another Kubernetes", component, address, err)
		}
		listener.Close()
	}
	return nil
}

// start starts the components and returns when pods can run.
func (c *Cluster) start(ctx context.Context, version Version, built programs) error {
	if err := network.Up(ctx); err != nil {
		return err
	}
	specs, err := c.specs(version, built)
	if err != nil {
		return err
	}
	if err := c.startAll(specs, etcd, apiServer, containerd); err != nil {
		return err
	}
	if err := c.wait(ctx, "containerd", func(context.Context) error { return dial(c.containerdSocket()) }); err != nil {
		return err
	}
	if err := c.loadPause(ctx, built.pause); err != nil {
		return err
	}
	api, err := c.newClient()
	if err != nil {
		return err
	}
	if err := c.wait(ctx, "the API server", api.checkReady); err != nil {
		return err
	}
	if err := c.startAll(specs, controllerManager, scheduler, kubelet, kubeProxy); err != nil {
		return err
	}
	for path, value := range dnsObjects() {
		if err := c.wait(ctx, path, func(ctx context.Context) error { return api.apply(ctx, path, value) }); err != nil {
			return err
		}
	}
	if err := c.startAll(specs, coreDNS); err != nil {
		return err
	}
	return errors.Join(
		c.wait(ctx, "the node", api.checkNode),
		c.wait(ctx, "the service account of the namespace default", api.checkDefaults),
		c.wait(ctx, "DNS", checkDNS),
	)
}

// specs says how to start each component, with its files in the cluster's folder.
func (c *Cluster) specs(version Version, built programs) (map[string]process.Spec, error) {
	containerdProgram, err := exec.LookPath(containerd)
	if err != nil {
		return nil, err
	}
	kubernetes := func(name string) string { return filepath.Join(built.kubernetes, name) }
	specs := map[string]process.Spec{}
	for _, spec := range []process.Spec{
		{Name: etcd, Program: kubernetes(etcd), Args: c.etcdArgs()},
		{Name: apiServer, Program: kubernetes(apiServer), Args: c.apiServerArgs(version.controlPlane())},
		{Name: containerd, Program: containerdProgram, Args: []string{"--config", c.config("containerd.toml")}},
		{Name: controllerManager, Program: kubernetes(controllerManager), Args: c.controllerManagerArgs()},
		{Name: scheduler, Program: kubernetes(scheduler), Args: c.schedulerArgs()},
		{Name: kubelet, Program: filepath.Join(built.kubelet, kubelet), Args: c.kubeletArgs()},
		{Name: kubeProxy, Program: kubernetes(kubeProxy), Args: []string{"--config=" + c.config(kubeProxy+".yaml")}},
		{Name: coreDNS, Program: filepath.Join(built.coreDNS, "coredns"), Args: []string{"-conf", c.config("Corefile")}},
	} {
		spec.PIDs, spec.Logs = c.path("pids"), c.Logs()
		// Where programs look for their own folders, nothing of the user's is found.
		spec.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.path("run")}
		specs[spec.Name] = spec
	}
	return specs, nil
}

// startAll starts components.
func (c *Cluster) startAll(specs map[string]process.Spec, names ...string) error {
	for _, name := range names {
		if _, err := process.Start(specs[name]); err != nil {
			return err
		}
	}
	return nil
}

// dial says whether something listens on a socket.
func dial(socket string) error {
	connection, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	return connection.Close()
}
