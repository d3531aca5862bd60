// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package network

import "testing"

func TestRemoval(t *testing.T) {
	for name, test := range map[string]struct{ saved, want string }{
		"nothing": {"", ""},
		"only foreign rules": {
			"*filter\n:INPUT ACCEPT [3:200]\n:DOCKER - [0:0]\n-A INPUT -p tcp -m comment --comment \"not -j KUBE\" -j DOCKER\nCOMMIT\n", "",
		},
		"a foreign comment that begins like ours": {
			"*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m comment --comment certwright-cluster-2 -j ACCEPT\nCOMMIT\n", "",
		},
		"chains, rules that lead there, rules of ours": {
			`# Generated
*filter
:INPUT ACCEPT [3:200]
:FORWARD DROP [0:0]
:CNI-FORWARD - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
-A INPUT -j KUBE-FIREWALL
-A INPUT -i lo -j ACCEPT
-A FORWARD -d 198.18.0.0/15 -m comment --comment certwright-cluster -j ACCEPT
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -j CNI-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
COMMIT
# Completed
*nat
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE
COMMIT
*mangle
:KUBE-KUBELET-CANARY - [0:0]
COMMIT
`,
			`*filter
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
-D INPUT -j KUBE-FIREWALL
-D FORWARD -d 198.18.0.0/15 -m comment --comment certwright-cluster -j ACCEPT
-D FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-X KUBE-FIREWALL
-X KUBE-FORWARD
COMMIT
*mangle
:KUBE-KUBELET-CANARY - [0:0]
-X KUBE-KUBELET-CANARY
COMMIT
`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := removal(test.saved); got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

func TestSysctls(t *testing.T) {
	values, err := Sysctls()
	if err != nil {
		t.Fatal(err)
	}
	if got := values["net/ipv4/ip_forward"]; got != "0" && got != "1" {
		t.Errorf("net/ipv4/ip_forward: %q in %v", got, values)
	}
	if err := RestoreSysctls(values); err != nil {
		t.Errorf("restoring what is so already: %v", err)
	}
}
