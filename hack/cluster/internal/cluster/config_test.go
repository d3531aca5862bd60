// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// newCluster returns a cluster in a folder of the test.
func newCluster(t *testing.T) *Cluster {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"pids", "config/cni", "pki", "logs", "run"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return &Cluster{Dir: dir, Out: &strings.Builder{}}
}

func TestReleases(t *testing.T) {
	const gates = "ClusterTrustBundle=true,ClusterTrustBundleProjection=true,PodCertificateRequest=true"
	c := &Cluster{Dir: "/c"}
	const apis = "--runtime-config=certificates.k8s.io/v1beta1=true"
	for name, test := range map[string]struct {
		version     Version
		wantFlags   []string
		wantKubelet bool
	}{
		"1.36":                        {NewVersion("1.36", ""), []string{"--feature-gates=" + gates, apis}, true},
		"1.37":                        {NewVersion("1.37", "1.37"), nil, false},
		"1.36 with a kubelet of 1.35": {NewVersion("1.36", "1.35"), []string{"--feature-gates=" + gates, apis}, true},
		"1.37 with a kubelet of 1.35": {NewVersion("1.37", "1.35"), []string{apis}, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.version.String(); got != name {
				t.Errorf("it calls itself %s", got)
			}
			var flags []string
			for _, argument := range c.apiServerArgs(test.version.controlPlane()) {
				if strings.HasPrefix(argument, "--feature-gates") || strings.HasPrefix(argument, "--runtime-config") {
					flags = append(flags, argument)
				}
			}
			if !slices.Equal(flags, test.wantFlags) {
				t.Errorf("API server: %v, want %v", flags, test.wantFlags)
			}
			if _, got := c.kubeletConfig(test.version.kubelet())["featureGates"]; got != test.wantKubelet {
				t.Errorf("kubelet has feature gates: %v, want %v", got, test.wantKubelet)
			}
		})
	}
}

// paths finds the paths in a configuration.
var paths = regexp.MustCompile(`(?:[\s"]|unix://)(/[a-z][^\s"]*)`)

func TestEverythingIsInTheFolder(t *testing.T) {
	c := &Cluster{Dir: "/c"}
	toml, err := c.containerdConfig("/plugins")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`root = "/c/containerd"`, `state = "/c/run/containerd"`, `address = "/c/run/containerd.sock"`, `path = "/c/containerd-opt"`,
		`Root = "/c/run/runc"`, `conf_dir = "/c/config/cni"`, `bin_dir = "/plugins"`, `netns_mounts_under_state_dir = true`,
		`sandbox_image = "docker.io/certwright/pause:dev"`,
	} {
		if !strings.Contains(toml, want+"\n") {
			t.Errorf("containerd's configuration lacks %s", want)
		}
	}
	for _, config := range []object{c.kubeletConfig(release{}), c.kubeProxyConfig(), c.schedulerConfig(), c.cniConfig()} {
		raw, err := yaml.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths.FindAllStringSubmatch(string(raw), -1) {
			if !strings.HasPrefix(path[1], "/c/") {
				t.Errorf("%s is elsewhere, in:\n%s", path[1], raw)
			}
		}
	}
	const server = "in-addr.arpa:1053 ip6.arpa:1053 {\n    bind 198.18.0.1\n"
	if corefile := c.corefile(); !strings.Contains(corefile, server) || !strings.Contains(corefile, "kubeconfig /c/config/coredns.kubeconfig\n") {
		t.Errorf("Corefile:\n%s", corefile)
	}
}

func TestWriteCertificates(t *testing.T) {
	c := newCluster(t)
	if err := c.writeCertificates(time.Now()); err != nil {
		t.Fatal(err)
	}
	server, err := tls.LoadX509KeyPair(c.pki("apiserver.crt"), c.pki("apiserver.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "198.18.0.1", "198.19.0.1", "kubernetes.default.svc"} {
		if err := server.Leaf.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	node, err := os.ReadFile(c.config("kubelet.kubeconfig"))
	if err != nil || !strings.Contains(string(node), "system:node:certwright") {
		t.Errorf("the kubelet's kubeconfig: %v\n%s", err, node)
	}
	if info, err := os.Stat(c.Kubeconfig()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the administrator's kubeconfig: %v, %v", info, err)
	}
	if _, err := c.newClient(); err != nil {
		t.Error(err)
	}
}

func TestFormatGates(t *testing.T) {
	if got := formatGates(map[string]bool{"B": true, "A": false}); got != "A=false,B=true" {
		t.Errorf("got %s", got)
	}
}
