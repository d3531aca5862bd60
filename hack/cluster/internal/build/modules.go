// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// These find the pinned versions in a go.mod.
var (
	kubernetesRequirement = regexp.MustCompile(`(?m)^\s*(?:require )?k8s\.io/kubernetes v(\d+)\.(\d+)\.(\S+)`)
	etcdRequirement       = regexp.MustCompile(`(?m)^\s*(?:require )?go\.etcd\.io/etcd/server/v3 v(\S+)`)
)

// Kubernetes returns the module in the folder kubernetes-RELEASE of sources, where RELEASE is like 1.37.
func Kubernetes(sources, release string) (Module, error) {
	module, requirements, err := pinned(sources, "kubernetes-"+release,
		"kube-apiserver", "kube-controller-manager", "kube-scheduler", kubelet, "kube-proxy", "kubectl")
	if errors.Is(err, fs.ErrNotExist) {
		there, err := releases(sources, "kubernetes")
		return Module{}, errors.Join(err, fmt.Errorf("no Kubernetes release %q: choose one of %s", release, strings.Join(there, ", ")))
	}
	if err != nil {
		return Module{}, err
	}
	etcd := etcdRequirement.FindStringSubmatch(requirements)
	if etcd == nil {
		return Module{}, fmt.Errorf("%s/go.mod does not require go.etcd.io/etcd/server/v3", module.Dir)
	}
	module.Programs = slices.Insert(module.Programs, 0, Program{Name: "etcd", Package: "go.etcd.io/etcd/server/v3", Version: etcd[1]})
	return module, nil
}

// Kubelet returns the kubelet of a release: that of Kubernetes, or of the folder kubelet-RELEASE of sources for a release of which
// there is nothing else.
func Kubelet(sources, release string) (Module, error) {
	module, _, err := pinned(sources, "kubelet-"+release, kubelet)
	if !errors.Is(err, fs.ErrNotExist) {
		return module, err
	}
	module, _, err = pinned(sources, "kubernetes-"+release, kubelet)
	if errors.Is(err, fs.ErrNotExist) {
		there, err := releases(sources, "kube*")
		return Module{}, errors.Join(err, fmt.Errorf("no kubelet of release %q: choose one of %s", release, strings.Join(there, ", ")))
	}
	return module, err
}

// kubelet is the program that runs pods.
const kubelet = "kubelet"

// pinned returns the module in a folder of sources with programs of Kubernetes, and its go.mod.
func pinned(sources, folder string, names ...string) (module Module, requirements string, err error) {
	dir := filepath.Join(sources, folder)
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return Module{}, "", fmt.Errorf("reading the pinned version of Kubernetes: %w", err)
	}
	version := kubernetesRequirement.FindStringSubmatch(string(text))
	if version == nil {
		return Module{}, "", fmt.Errorf("%s/go.mod does not require k8s.io/kubernetes", dir)
	}
	full := version[1] + "." + version[2] + "." + version[3]
	module = Module{
		Name: folder,
		Dir:  dir,
		// What a release of Kubernetes has in it, and without which the API server reports no version.
		Variables: map[string]string{
			"k8s.io/component-base/version.gitVersion": "v" + full,
			"k8s.io/component-base/version.gitMajor":   version[1],
			"k8s.io/component-base/version.gitMinor":   version[2],
		},
	}
	for _, name := range names {
		module.Programs = append(module.Programs, Program{Name: name, Package: "k8s.io/kubernetes/cmd/" + name, Version: full})
	}
	return module, string(text), nil
}

// CoreDNS returns the module of the cluster's DNS server.
func CoreDNS(sources string) Module {
	return Module{
		Name:     "coredns",
		Dir:      filepath.Join(sources, "coredns"),
		Programs: []Program{{Name: "coredns", Package: "."}},
	}
}

// Pause returns the program that holds a pod's namespaces. It needs nothing but the standard library.
func Pause(sources string) Module {
	return Module{
		Name:     "pause",
		Dir:      filepath.Join(sources, "pause"),
		Programs: []Program{{Name: "pause", Package: "."}},
	}
}

// Sources finds the folder that holds the modules: hack/cluster of a checkout that one of the starting folders is in.
func Sources(starts ...string) (string, error) {
	for _, start := range starts {
		dir, err := filepath.Abs(start)
		if err != nil {
			return "", err
		}
		for ; ; dir = filepath.Dir(dir) {
			for _, candidate := range []string{dir, filepath.Join(dir, "hack", "cluster")} {
				if _, err := os.Stat(filepath.Join(candidate, "coredns", "go.mod")); err == nil {
					return candidate, nil
				}
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", errors.New("not inside a checkout of Certwright: the cluster's programs are built from its folder hack/cluster; change into the checkout")
}

// Cache returns the folder for built programs, from the XDG_CACHE_HOME and the home folder of the user.
func Cache(xdg, home string) (string, error) {
	if xdg == "" {
		if home == "" {
			return "", errors.New("neither XDG_CACHE_HOME nor HOME is set: set one, the built programs are kept below it")
		}
		xdg = filepath.Join(home, ".cache")
	}
	return filepath.Join(xdg, "certwright"), nil
}

// releases returns the releases that sources have folders of, the newest first.
func releases(sources, folders string) ([]string, error) {
	dirs, err := filepath.Glob(filepath.Join(sources, folders+"-1.*"))
	if err != nil {
		return nil, err
	}
	there := make([]string, 0, len(dirs))
	for _, dir := range dirs {
		_, release, _ := strings.Cut(filepath.Base(dir), "-")
		there = append(there, release)
	}
	slices.Sort(there)
	slices.Reverse(there)
	return slices.Compact(there), nil
}

// sortedKeys returns the keys of a map in order.
func sortedKeys(m map[string]string) []string {
	return slices.Sorted(maps.Keys(m))
}
