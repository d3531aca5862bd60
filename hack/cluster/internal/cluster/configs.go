// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/certwright/certwright/hack/cluster/internal/network"
	"github.com/certwright/certwright/hack/cluster/internal/pki"
	"sigs.k8s.io/yaml"
)

// masters is the group that may do everything.
const masters = "system:masters"

// writeCertificates makes the cluster's CAs, all certificates that they issue, and the kubeconfigs that hold them.
func (c *Cluster) writeCertificates(now time.Time) error {
	authority, err := pki.NewAuthority("certwright-cluster", now)
	if err != nil {
		return err
	}
	frontProxy, err := pki.NewAuthority("certwright-cluster-front-proxy", now)
	if err != nil {
		return err
	}
	files := []struct {
		name string
		make func() (pki.Pair, error)
	}{
		{"ca", func() (pki.Pair, error) { return authority.Pair, nil }},
		{"front-proxy-ca", func() (pki.Pair, error) { return frontProxy.Pair, nil }},
		{"front-proxy", func() (pki.Pair, error) { return frontProxy.Client("front-proxy") }},
		{"service-accounts", pki.ServiceAccountKey},
		{"admin", func() (pki.Pair, error) { return authority.Client("kubernetes-admin", masters) }},
		{"apiserver-kubelet", func() (pki.Pair, error) { return authority.Client("kube-apiserver-kubelet-client", masters) }},
		{"apiserver", func() (pki.Pair, error) {
			return authority.Server(apiServer, "localhost", "127.0.0.1", network.NodeIP, network.APIServerServiceIP,
				"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc."+domain)
		}},
		{"kubelet-server", func() (pki.Pair, error) { return authority.Server(nodeName, nodeName, network.NodeIP) }},
	}
	for _, file := range files {
		pair, err := file.make()
		if err != nil {
			return err
		}
		if err := pair.Save(c.path("pki"), file.name); err != nil {
			return err
		}
		if file.name == "admin" {
			if err := c.writeAdminKubeconfig(authority, pair); err != nil {
				return err
			}
		}
	}
	return c.writeKubeconfigs(authority)
}

// writeKubeconfigs writes who each component is for the API server.
func (c *Cluster) writeKubeconfigs(authority *pki.Authority) error {
	for component, identity := range map[string]struct{ user, group string }{
		controllerManager: {"system:kube-controller-manager", ""},
		scheduler:         {"system:kube-scheduler", ""},
		kubelet:           {"system:node:" + nodeName, "system:nodes"},
		kubeProxy:         {"system:kube-proxy", ""},
		coreDNS:           {dnsUser, ""},
	} {
		var groups []string
		if identity.group != "" {
			groups = append(groups, identity.group)
		}
		pair, err := authority.Client(identity.user, groups...)
		if err != nil {
			return err
		}
		contents, err := pki.Kubeconfig(apiURL, authority.Certificate, identity.user, pair)
		if err != nil {
			return err
		}
		if err := os.WriteFile(c.config(component+".kubeconfig"), contents, 0o600); err != nil {
			return fmt.Errorf("writing the kubeconfig of %s: %w", component, err)
		}
	}
	return nil
}

// writeAdminKubeconfig writes the user's kubeconfig. It belongs to who called sudo, if anyone did.
func (c *Cluster) writeAdminKubeconfig(authority *pki.Authority, admin pki.Pair) error {
	contents, err := pki.Kubeconfig(apiURL, authority.Certificate, "kubernetes-admin", admin)
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.Kubeconfig(), contents, 0o600); err != nil {
		return fmt.Errorf("writing the kubeconfig: %w", err)
	}
	uid, err := strconv.Atoi(os.Getenv("SUDO_UID"))
	if err != nil {
		return nil
	}
	gid, err := strconv.Atoi(os.Getenv("SUDO_GID"))
	if err != nil {
		return nil
	}
	return os.Chown(c.Kubeconfig(), uid, gid)
}

// writeConfigs writes the configurations of the components.
func (c *Cluster) writeConfigs(r release) error {
	cniPlugins, err := findCNIPlugins()
	if err != nil {
		return err
	}
	containerdConfig, err := c.containerdConfig(cniPlugins)
	if err != nil {
		return err
	}
	files := map[string]string{
		"containerd.toml": containerdConfig,
		"Corefile":        c.corefile(),
		// Pods ask the cluster's DNS; what the machine itself asks is not theirs to know.
		"resolv.conf": "",
	}
	for name, config := range map[string]object{
		"cni/10-" + cniNetwork + ".conflist": c.cniConfig(),
		kubelet + ".yaml":                    c.kubeletConfig(r),
		kubeProxy + ".yaml":                  c.kubeProxyConfig(),
		scheduler + ".yaml":                  c.schedulerConfig(),
	} {
		contents, err := yaml.Marshal(config)
		if err == nil && name[:4] == "cni/" {
			contents, err = yaml.YAMLToJSON(contents)
		}
		if err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
		files[name] = string(contents)
	}
	var errs []error
	for name, contents := range files {
		errs = append(errs, os.WriteFile(c.config(name), []byte(contents), 0o600))
	}
	return errors.Join(errs...)
}
