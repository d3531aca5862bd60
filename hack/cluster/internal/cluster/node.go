// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"github.com/certwright/certwright/hack/cluster/internal/network"
)

// object is a part of a configuration that is written as YAML or JSON.
type object = map[string]any

// kubeletArgs returns the arguments of the kubelet; the rest is in its configuration.
func (c *Cluster) kubeletArgs() []string {
	return []string{
		"--config=" + c.config(kubelet+".yaml"),
		"--kubeconfig=" + c.config(kubelet+".kubeconfig"),
		"--hostname-override=" + nodeName,
		"--node-ip=" + network.NodeIP,
		"--root-dir=" + c.path("kubelet"),
		"--cert-dir=" + c.path("kubelet", "pki"),
	}
}

// kubeletConfig returns the configuration of the kubelet.
func (c *Cluster) kubeletConfig(r release) object {
	config := object{
		"apiVersion":               "kubelet.config.k8s.io/v1beta1",
		"kind":                     "KubeletConfiguration",
		"address":                  network.NodeIP,
		"healthzBindAddress":       "127.0.0.1",
		"containerRuntimeEndpoint": "unix://" + c.containerdSocket(),
		"authentication": object{
			"anonymous": object{"enabled": false},
			"webhook":   object{"enabled": true},
			"x509":      object{"clientCAFile": c.pki("ca.crt")},
		},
		"authorization":     object{"mode": "Webhook"},
		"tlsCertFile":       c.pki("kubelet-server.crt"),
		"tlsPrivateKeyFile": c.pki("kubelet-server.key"),
		"clusterDNS":        []string{network.DNSServiceIP},
		"clusterDomain":     domain,
		"resolvConf":        c.config("resolv.conf"),
		"podLogsDir":        c.path("logs", "pods"),
		"volumePluginDir":   c.path("kubelet", "volume-plugins"),
		"maxPods":           250,

		// It runs on machines without systemd, with old and new cgroups, with swap, and next to other work.
		"cgroupDriver":           "cgroupfs",
		"failCgroupV1":           false,
		"failSwapOn":             false,
		"enforceNodeAllocatable": []string{},
		"oomScoreAdj":            0,

		// A developer's disk is often nearly full, and a loaded image cannot be pulled again once it is collected.
		"evictionHard":                object{"memory.available": "50Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%", "imagefs.available": "1%"},
		"imageGCHighThresholdPercent": 100,

		// Tests should wait for nothing but what they test.
		"kubeAPIQPS":          500,
		"kubeAPIBurst":        1000,
		"eventRecordQPS":      0,
		"registryPullQPS":     0,
		"serializeImagePulls": false,
		"syncFrequency":       "15s", // a minute by default: how soon a pod gets a trust bundle that has changed
		"configMapAndSecretChangeDetectionStrategy": "Watch",
	}
	if len(r.gates) > 0 {
		config["featureGates"] = r.gates
	}
	return config
}

// kubeProxyConfig returns the configuration of kube-proxy. It changes none of the machine's connection tracking limits.
func (c *Cluster) kubeProxyConfig() object {
	return object{
		"apiVersion":         "kubeproxy.config.k8s.io/v1alpha1",
		"kind":               "KubeProxyConfiguration",
		"clientConnection":   clientConnection(c.config(kubeProxy + ".kubeconfig")),
		"hostnameOverride":   nodeName,
		"bindAddress":        network.NodeIP,
		"healthzBindAddress": "127.0.0.1:10256",
		"metricsBindAddress": "127.0.0.1:10249",
		"mode":               "iptables",
		"clusterCIDR":        network.ClusterRange,
		"nodePortAddresses":  []string{network.NodeIP + "/32"},
		"oomScoreAdj":        0,
		"iptables":           object{"localhostNodePorts": false, "minSyncPeriod": "0s"},
		"conntrack":          object{"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
	}
}

// cniConfig returns how pods are attached to the network: each by a link of its own, so that the packets between two
// pods, too, are routed by the machine and pass the rules of kube-proxy.
func (c *Cluster) cniConfig() object {
	return object{
		"cniVersion": "0.4.0",
		"name":       cniNetwork,
		"plugins": []object{{
			"type": "ptp",
			"ipam": object{
				"type":    "host-local",
				"dataDir": c.path("cni"),
				"ranges":  [][]object{{{"subnet": network.PodRange}}},
				"routes":  []object{{"dst": "0.0.0.0/0"}},
			},
		}},
	}
}

// cniNetwork is the name of the pods' network; it is in the names of the files that CNI caches.
const cniNetwork = "certwright-cluster"

// ports are the ports that have to be free on this machine.
var ports = map[string]string{
	"0.0.0.0:" + apiPort: apiServer,
	"127.0.0.1:10257":    controllerManager,
	"127.0.0.1:10259":    scheduler,
	"127.0.0.1:10248":    kubelet,
	"0.0.0.0:10250":      kubelet,
	"127.0.0.1:10249":    kubeProxy,
	"127.0.0.1:10256":    kubeProxy,
}
