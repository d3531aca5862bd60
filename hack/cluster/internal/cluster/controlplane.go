// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/certwright/certwright/hack/cluster/internal/network"
)

// Version says of which releases of Kubernetes a cluster is, such as 1.37.
type Version struct {
	// Release is that of all programs but perhaps the kubelet.
	Release string `json:"release"`
	// Kubelet is that of the kubelet where it is another one. A kubelet may be up to three minor releases older than the API server.
	Kubelet string `json:"kubelet,omitempty"`
}

// NewVersion returns the version of a cluster with a kubelet of that release; empty is the same as of the rest.
func NewVersion(release, kubelet string) Version {
	if kubelet == release {
		kubelet = ""
	}
	return Version{Release: release, Kubelet: kubelet}
}

func (v Version) String() string {
	if v.Kubelet == "" {
		return v.Release
	}
	return v.Release + " with a kubelet of " + v.Kubelet
}

// controlPlane is what the API server needs, with the API versions that its kubelet asks for.
func (v Version) controlPlane() release {
	r := releases[v.Release]
	r.apis = cmp.Or(r.apis, v.kubelet().apis)
	return r
}

// kubelet is what the kubelet needs.
func (v Version) kubelet() release { return releases[cmp.Or(v.Kubelet, v.Release)] }

// release is what differs between releases of Kubernetes.
type release struct {
	// gates are the features to switch on in the API server and the kubelet.
	gates map[string]bool
	// apis are the API versions to serve beyond the default ones, for this release and its kubelets.
	apis string
}

// releases holds the releases that need more than the defaults. Since 1.37, ClusterTrustBundles and
// PodCertificateRequests are v1 and on by default (KEP-3257, KEP-4317).
var releases = map[string]release{"1.35": beta, "1.36": beta}

var beta = release{
	gates: map[string]bool{"ClusterTrustBundle": true, "ClusterTrustBundleProjection": true, "PodCertificateRequest": true},
	apis:  "certificates.k8s.io/v1beta1=true",
}

// etcdArgs returns the arguments of etcd. It listens on sockets in a folder that only root can enter.
func (c *Cluster) etcdArgs() []string {
	// What it would tell clients and peers that it does not have. It insists on a host and a port; nothing listens there.
	const advertised = "http://localhost:2380"
	return []string{
		"--name=" + nodeName,
		"--data-dir=" + c.path("etcd"),
		"--listen-client-urls=" + c.etcdSocket(),
		"--advertise-client-urls=" + advertised,
		"--listen-peer-urls=unix://" + c.path("run", "etcd-peers.sock"),
		"--initial-advertise-peer-urls=" + advertised,
		"--initial-cluster=" + nodeName + "=" + advertised,
		// The data of this cluster need not survive a power cut.
		"--unsafe-no-fsync",
		"--log-level=warn",
	}
}

// apiServerArgs returns the arguments of the API server.
func (c *Cluster) apiServerArgs(r release) []string {
	args := []string{
		"--advertise-address=" + network.NodeIP,
		// One listener for the node's address and 127.0.0.1; who comes from elsewhere needs a certificate too.
		"--bind-address=0.0.0.0",
		"--secure-port=" + apiPort,
		"--etcd-servers=" + c.etcdSocket(),
		"--allow-privileged",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--client-ca-file=" + c.pki("ca.crt"),
		"--tls-cert-file=" + c.pki("apiserver.crt"),
		"--tls-private-key-file=" + c.pki("apiserver.key"),
		"--kubelet-certificate-authority=" + c.pki("ca.crt"),
		"--kubelet-client-certificate=" + c.pki("apiserver-kubelet.crt"),
		"--kubelet-client-key=" + c.pki("apiserver-kubelet.key"),
		// The node's name is in no DNS that the API server asks.
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc." + domain,
		"--service-account-key-file=" + c.pki("service-accounts.crt"),
		"--service-account-signing-key-file=" + c.pki("service-accounts.key"),
		"--service-cluster-ip-range=" + network.ServiceRange,
		"--requestheader-client-ca-file=" + c.pki("front-proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + c.pki("front-proxy.crt"),
		"--proxy-client-key-file=" + c.pki("front-proxy.key"),
	}
	if len(r.gates) > 0 {
		args = append(args, "--feature-gates="+formatGates(r.gates))
	}
	if r.apis != "" {
		args = append(args, "--runtime-config="+r.apis)
	}
	return args
}

// controllerManagerArgs returns the arguments of kube-controller-manager. It signs for the kubernetes.io signers with
// the cluster's CA and is not slowed down by client-side limits.
func (c *Cluster) controllerManagerArgs() []string {
	kubeconfig := c.config(controllerManager + ".kubeconfig")
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
		"--use-service-account-credentials",
		"--allocate-node-cidrs=false",
		"--root-ca-file=" + c.pki("ca.crt"),
		"--service-account-private-key-file=" + c.pki("service-accounts.key"),
		"--cluster-signing-cert-file=" + c.pki("ca.crt"),
		"--cluster-signing-key-file=" + c.pki("ca.key"),
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
	}
}

// schedulerArgs returns the arguments of kube-scheduler.
func (c *Cluster) schedulerArgs() []string {
	kubeconfig := c.config(scheduler + ".kubeconfig")
	return []string{
		"--config=" + c.config(scheduler+".yaml"),
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1",
	}
}

// schedulerConfig returns the configuration of kube-scheduler.
func (c *Cluster) schedulerConfig() object {
	return object{
		"apiVersion":       "kubescheduler.config.k8s.io/v1",
		"kind":             "KubeSchedulerConfiguration",
		"clientConnection": clientConnection(c.config(scheduler + ".kubeconfig")),
		"leaderElection":   object{"leaderElect": false},
	}
}

// clientConnection is how a component that reads its configuration from a file reaches the API server.
func clientConnection(kubeconfig string) object {
	return object{"kubeconfig": kubeconfig, "qps": 500, "burst": 1000}
}

// formatGates returns feature gates in the form of a flag, in order.
func formatGates(gates map[string]bool) string {
	var formatted []string
	for _, name := range slices.Sorted(maps.Keys(gates)) {
		formatted = append(formatted, name+"="+strconv.FormatBool(gates[name]))
	}
	return strings.Join(formatted, ",")
}
