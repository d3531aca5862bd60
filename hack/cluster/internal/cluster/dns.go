// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/certwright/certwright/hack/cluster/internal/network"
)

const (
	// dnsPort is where CoreDNS listens on the node's address; pods reach it at port 53 of the Service.
	dnsPort = 1053
	// dnsUser is who CoreDNS is for the API server.
	dnsUser = "system:coredns"
)

// corefile returns the configuration of CoreDNS. It answers from the API server's latest word, without a cache, and
// says of all other names that they do not exist: nothing in the tests depends on what is beyond the machine.
func (c *Cluster) corefile() string {
	zones := []string{domain, "in-addr.arpa", "ip6.arpa"}
	var keys []string
	for _, zone := range zones {
		keys = append(keys, fmt.Sprintf("%s:%d", zone, dnsPort))
	}
	return fmt.Sprintf(`%s {
    bind %[3]s
    errors
    kubernetes %[4]s {
        kubeconfig %[5]s
        pods insecure
        ttl 0
    }
}

.:%[2]d {
    bind %[3]s
    errors
    template ANY ANY {
        rcode NXDOMAIN
    }
}
`, strings.Join(keys, " "), dnsPort, network.NodeIP, strings.Join(zones, " "), c.config(coreDNS+".kubeconfig"))
}

// dnsObjects returns what lets CoreDNS, a process on the node, read names from the API server and serve pods through
// the Service that they expect, by the path of each object in the API.
func dnsObjects() map[string]object {
	const (
		service = "kube-dns"
		rbac    = "rbac.authorization.k8s.io"
	)
	return map[string]object{
		"/apis/" + rbac + "/v1/clusterroles/" + dnsUser: {
			"apiVersion": rbac + "/v1", "kind": "ClusterRole", "metadata": object{"name": dnsUser},
			"rules": []object{
				{"apiGroups": []string{""}, "resources": []string{"namespaces", "pods", "services"}, "verbs": []string{"list", "watch"}},
				{"apiGroups": []string{"discovery.k8s.io"}, "resources": []string{"endpointslices"}, "verbs": []string{"list", "watch"}},
			},
		},
		"/apis/" + rbac + "/v1/clusterrolebindings/" + dnsUser: {
			"apiVersion": rbac + "/v1", "kind": "ClusterRoleBinding", "metadata": object{"name": dnsUser},
			"roleRef":  object{"apiGroup": rbac, "kind": "ClusterRole", "name": dnsUser},
			"subjects": []object{{"apiGroup": rbac, "kind": "User", "name": dnsUser}},
		},
		"/api/v1/namespaces/kube-system/services/" + service: {
			"apiVersion": "v1", "kind": "Service",
			"metadata": object{"name": service, "namespace": "kube-system", "labels": object{"k8s-app": service}},
			"spec": object{
				"clusterIP": network.DNSServiceIP,
				"ports": []object{
					{"name": "dns", "protocol": "UDP", "port": 53, "targetPort": dnsPort},
					{"name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": dnsPort},
				},
			},
		},
		"/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/" + service: {
			"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
			"metadata": object{"name": service, "namespace": "kube-system", "labels": object{
				"kubernetes.io/service-name":             service,
				"endpointslice.kubernetes.io/managed-by": fieldManager,
			}},
			"addressType": "IPv4",
			"endpoints":   []object{{"addresses": []string{network.NodeIP}, "conditions": object{"ready": true}}},
			"ports": []object{
				{"name": "dns", "protocol": "UDP", "port": dnsPort},
				{"name": "dns-tcp", "protocol": "TCP", "port": dnsPort},
			},
		},
	}
}

// checkDNS asks the cluster's DNS, by its Service, for the address of the API server's.
func checkDNS(ctx context.Context) error {
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, protocol, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, protocol, net.JoinHostPort(network.DNSServiceIP, "53"))
	}}
	addresses, err := resolver.LookupHost(ctx, "kubernetes.default.svc."+domain+".")
	if err != nil {
		return fmt.Errorf("asking the cluster's DNS: %w", err)
	}
	if got := strings.Join(addresses, " "); got != network.APIServerServiceIP {
		return fmt.Errorf("the cluster's DNS says that kubernetes.default.svc is at %s, want %s", got, network.APIServerServiceIP)
	}
	return nil
}
