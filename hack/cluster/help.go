// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

// help is what a new user reads first.
const help = `cluster runs a Kubernetes on this machine, for trying Certwright and for its end-to-end tests: a control plane, one node
that runs real pods, and DNS. It needs Linux, root and Go; no container engine, and no image or binary is downloaded.
If you have a cluster already, such as kind, you don't need this: set KUBECONFIG to it.

Usage:
  cluster up [--kubernetes 1.37|1.36] [--kubelet 1.37|1.36|1.35]
                                        bring the cluster up; when it is up already, say so. The kubelet is of the same release
                                        unless another one is given; Kubernetes supports older ones, not newer ones
  cluster down                          take it away, with all that it left on the machine
  cluster status                        say what runs; fails unless the cluster is healthy
  cluster restart COMPONENT...          end components and start them again; with --kubelet-clock FILE, the kubelet's clock for
                                        pod certificates is ahead by the duration in FILE
  cluster load IMAGE.tar...             give images to the node, as "docker save" and hack/images write them
  cluster logs [-f] [COMPONENT...]      print logs, or list them all; -f goes on printing what comes
  cluster kubeconfig                    print the path of the administrator's kubeconfig
  cluster build [--kubernetes ...]      only build the programs, as "up" does when they are missing

For example, from the root of the checkout:
  go build -C hack/cluster -o ../../bin/cluster .
  sudo env PATH="$PATH" bin/cluster up
  export KUBECONFIG=$(bin/cluster kubeconfig)
  kubectl get nodes

What happens:
  - The programs of Kubernetes, etcd and CoreDNS are built from the Go modules in hack/cluster. That takes some minutes
    the first time; later an "up" takes seconds. Built programs are kept in ~/.cache/certwright.
  - On Debian and Ubuntu, "up" installs what is missing of the packages containerd, runc, containernetworking-plugins,
    iptables and iproute2, and leaves them there. On other systems it says what is missing.
  - Everything else is in /var/lib/certwright-cluster, logs in its folder logs. The containerd is the cluster's own; one
    that runs on the machine already is not touched.

The cluster:
  - Pods have addresses of 198.18.128.0/17, Services of 198.19.0.0/16, the node 198.18.0.1. These ranges are set aside for
    benchmarks and are in no real network. The API server is at https://127.0.0.1:6443, and in pods at
    kubernetes.default.svc. Service names end in .svc.cluster.local; names beyond the cluster do not exist in pods.
  - An image that is loaded as certwright/certwright:dev is found by pods as certwright/certwright:dev and as
    docker.io/certwright/certwright:dev. Use imagePullPolicy IfNotPresent or Never.
  - RBAC, the node authorizer, NodeRestriction, Pod Security admission and ValidatingAdmissionPolicies are on, and so are
    ClusterTrustBundles and PodCertificateRequests: v1 in 1.37, v1beta1 in 1.36 and with older kubelets. The kubernetes.io signers work.

Environment:
  CERTWRIGHT_KUBERNETES    the release of Kubernetes, when --kubernetes is not given
  CERTWRIGHT_KUBELET       the release of the kubelet, when --kubelet is not given
  CERTWRIGHT_CLUSTER_DIR   another folder for the cluster than /var/lib/certwright-cluster
  XDG_CACHE_HOME           another folder for built programs than ~/.cache
`
