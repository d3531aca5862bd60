// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package propose

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// maxRequesters is how many service accounts, or users, a CertificatePolicy may list.
const maxRequesters = 64

// group is requesters that asked for the same.
type group struct {
	signerName string
	// namespaces and serviceAccounts of service accounts: each of these in each of those has asked.
	namespaces, serviceAccounts []string
	users                       []string
	shape                       *shape
}

// requester is who asked: a service account, or a user, who is in no namespace.
type requester struct{ namespace, name string }

// alike is what requests of one policy have in common: the signerName, and the shape by its id.
type alike struct{ signerName, shape string }

// merge groups requests by signerName and requester, and then requesters who asked for the same.
func merge(seen []Seen) []group {
	var groups []group
	for key, shapes := range byShape(seen) {
		groups = append(groups, byNamespace(key.signerName, shapes)...)
	}
	slices.SortFunc(groups, func(a, b group) int {
		return cmp.Or(cmp.Compare(a.signerName, b.signerName), slices.Compare(a.namespaces, b.namespaces),
			slices.Compare(a.serviceAccounts, b.serviceAccounts), slices.Compare(a.users, b.users))
	})
	return groups
}

// byShape returns what each requester asked for, those together who asked for the same.
func byShape(seen []Seen) map[alike]map[requester]*shape {
	type asking struct {
		signerName string
		requester
	}
	asked := map[asking]*shape{}
	for _, s := range seen {
		namespace, name, ok := s.Request.Requester.ServiceAccount()
		if !ok {
			namespace, name = "", s.Request.Requester.Username
		}
		who := asking{s.Request.SignerName, requester{namespace, name}}
		if asked[who] == nil {
			asked[who] = newShape()
		}
		asked[who].add(s)
	}
	all := map[alike]map[requester]*shape{}
	for who, asks := range asked {
		key := alike{who.signerName, asks.id(who.namespace == "")}
		if all[key] == nil {
			all[key] = map[requester]*shape{}
		}
		all[key][who.requester] = asks
	}
	return all
}

// byNamespace puts namespaces together that have the same service accounts, and no others, so that nobody is selected who did
// not ask.
func byNamespace(signerName string, shapes map[requester]*shape) []group {
	names := map[string][]string{}
	for who := range shapes {
		names[who.namespace] = append(names[who.namespace], who.name)
	}
	same := map[string]*group{}
	for _, namespace := range slices.Sorted(maps.Keys(names)) {
		for chunk := range slices.Chunk(slices.Sorted(slices.Values(names[namespace])), maxRequesters) {
			id := strings.Join(chunk, " ")
			g := same[id]
			if g == nil {
				g = &group{signerName: signerName, shape: newShape()}
				same[id] = g
			}
			if namespace == "" {
				g.users = chunk
			} else {
				g.namespaces, g.serviceAccounts = append(g.namespaces, namespace), chunk
			}
			for _, name := range chunk {
				g.shape.join(shapes[requester{namespace, name}])
			}
		}
	}
	var groups []group
	for _, g := range same {
		groups = append(groups, *g)
	}
	return groups
}
