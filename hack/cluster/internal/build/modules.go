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
	dir := filepath.Join(sources, "kubernetes-"+release)
	requirements, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if errors.Is(err, fs.ErrNotExist) {
		there, err := Releases(sources)
		return Module{}, errors.Join(err, fmt.Errorf("no Kubernetes release %q: choose one of %s", release, strings.Join(there, ", ")))
	}
	if err != nil {
		return Module{}, fmt.Errorf("reading the pinned versions of Kubernetes %s: %w", release, err)
	}
	version := kubernetesRequirement.FindStringSubmatch(string(requirements))
	etcd := etcdRequirement.FindStringSubmatch(string(requirements))
	if version == nil || etcd == nil {
		return Module{}, fmt.Errorf("%s/go.mod does not require both k8s.io/kubernetes and go.etcd.io/etcd/server/v3", dir)
	}
	full := version[1] + "." + version[2] + "." + version[3]
	programs := []Program{{Name: "etcd", Package: "go.etcd.io/etcd/server/v3", Version: etcd[1]}}
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"} {
		programs = append(programs, Program{Name: name, Package: "k8s.io/kubernetes/cmd/" + name, Version: full})
	}
	return Module{
		Name:     "kubernetes-" + release,
		Dir:      dir,
		Programs: programs,
		// What a release of Kubernetes has in it, and without which the API server reports no version.
		Variables: map[string]string{
			"k8s.io/component-base/version.gitVersion": "v" + full,
			"k8s.io/component-base/version.gitMajor":   version[1],
			"k8s.io/component-base/version.gitMinor":   version[2],
		},
	}, nil
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

// Releases returns the releases of Kubernetes that sources can build, the newest first.
func Releases(sources string) ([]string, error) {
	dirs, err := filepath.Glob(filepath.Join(sources, "kubernetes-1.*"))
	if err != nil {
		return nil, err
	}
	releases := make([]string, 0, len(dirs))
	for _, dir := range dirs {
		releases = append(releases, strings.TrimPrefix(filepath.Base(dir), "kubernetes-"))
	}
	slices.Sort(releases)
	slices.Reverse(releases)
	return releases, nil
}

// sortedKeys returns the keys of a map in order.
func sortedKeys(m map[string]string) []string {
	return slices.Sorted(maps.Keys(m))
}
