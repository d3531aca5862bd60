// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"fmt"

	"sigs.k8s.io/yaml"
)

// Kubeconfig returns a kubeconfig that holds all it needs: who reads it acts as the owner of the pair.
func Kubeconfig(server string, authority []byte, user string, pair Pair) ([]byte, error) {
	const name = "certwright-cluster"
	type object = map[string]any
	out, err := yaml.Marshal(object{
		"apiVersion": "v1",
		"kind":       "Config",
		"clusters": []object{{
			"name":    name,
			"cluster": object{"server": server, "certificate-authority-data": authority},
		}},
		"users": []object{{
			"name": user,
			"user": object{"client-certificate-data": pair.Certificate, "client-key-data": pair.Key},
		}},
		"contexts":        []object{{"name": name, "context": object{"cluster": name, "user": user}}},
		"current-context": name,
	})
	if err != nil {
		return nil, fmt.Errorf("writing the kubeconfig of %s: %w", user, err)
	}
	return out, nil
}
