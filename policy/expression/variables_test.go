// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package expression

import "testing"

// TestVariables reads every variable, and uses every library on what people use it for.
func TestVariables(t *testing.T) {
	nobody := Variables{Requester: Requester{Username: "admin"}}
	tests := map[string]struct {
		vars  Variables
		texts []string
	}{
		"request": {sample(), []string{
			"request.signerName == 'certwright.dev/workloads'",
			"request.dnsNames.size() <= 10 && request.dnsNames[1] == 'web.shop.svc.cluster.local'",
			"request.ipAddresses == ['10.1.2.3', 'fd00::1']",
			"request.uris == ['spiffe://example.com/ns/shop/sa/web']",
			"request.emailAddresses == ['web@example.com']",
			"request.key.algorithm == 'ECDSA' && request.key.size >= 256",
			"request.usages.all(u, u in ['digital signature', 'server auth'])",
			"request.duration == duration('36h') && request.duration <= duration('168h') && request.duration.getHours() == 36",
			"!request.isCA",
		}},
		"subject": {sample(), []string{
			"request.subject.commonName == 'web'",
			"request.subject.organizations == ['org'] && request.subject.organizationalUnits == ['unit']",
			"request.subject.countries == ['DE'] && request.subject.provinces == ['province'] && request.subject.localities == ['locality']",
			"request.subject.streetAddresses == ['street'] && request.subject.postalCodes == ['10115']",
			"request.subject.serialNumber == '7'",
		}},
		"requester": {sample(), []string{
			"requester.username == 'system:serviceaccount:shop:web' && requester.uid == '1234'",
			"'system:authenticated' in requester.groups",
			"requester.namespace == 'shop' && requester.serviceAccount == 'web'",
			"has(requester.pod) && requester.pod.name == 'web-0'",
			"requester.pod.labels['app'] == 'web' && 'app' in requester.pod.labels && !('x' in requester.pod.labels)",
			"requester.pod.annotations['example.com/tier'] == 'front' && requester.pod.labels.app == 'web'",
			"requester.pod.node == 'node-1' && requester.pod.ips == ['10.1.2.3']",
			"has(requester.pod.owner) && requester.pod.owner.kind == 'StatefulSet'",
			"requester.pod.owner.apiVersion == 'apps/v1' && requester.pod.owner.name == 'web'",
			"requester.pod.?owner.?name.orValue('') == 'web'",
		}},
		"namespace and services": {sample(), []string{
			"namespaceObject.name == 'shop' && namespaceObject.labels['env'] == 'prod' && namespaceObject != null",
			"services.exists(s, s.headless && s.name == 'web-peers') && services.size() == 2",
			"services.filter(s, !s.headless).map(s, s.name) == ['web']",
		}},
		"absent": {nobody, []string{
			"!has(requester.pod) && requester.namespace == '' && requester.serviceAccount == ''",
			"requester.?pod.?labels['x'].orValue('none') == 'none'",
			"namespaceObject == null && services.size() == 0 && services == []",
			"request.dnsNames.size() == 0 && request.subject.organizations == [] && request.duration == duration('0s')",
			"!(has(requester.pod) && requester.pod.labels['x'] == 'y')",
		}},
		"absent owner": {Variables{Requester: Requester{Pod: &Pod{Name: "a"}}}, []string{
			"has(requester.pod) && !has(requester.pod.owner) && !has(requester.pod.ips) && requester.pod.labels == {}",
		}},
		"libraries": {sample(), []string{
			"request.uris.all(u, url(u).getHost() == 'example.com' && url(u).getScheme() == 'spiffe')",
			"request.ipAddresses.all(i, isIP(i)) && cidr('10.0.0.0/8').containsIP(request.ipAddresses[0])",
			"ip(request.ipAddresses[1]).family() == 6 && !ip(request.ipAddresses[0]).isLoopback()",
			"quantity('1Gi').isGreaterThan(quantity('500Mi')) && isQuantity('1e6') && !isQuantity('x')",
			"request.dnsNames.all(n, n.matches('^[a-z0-9-]+([.][a-z0-9-]{1,63})*$'))",
			"'host-12'.find('[0-9]+') == '12' && 'a1b2'.findAll('[0-9]') == ['1', '2'] && 'a1b2'.findAll('[0-9]', 1) == ['1']",
			"sets.contains(['server auth', 'digital signature'], request.usages) && sets.intersects(request.usages, ['server auth'])",
			"!format.dns1123Label().validate(requester.serviceAccount).hasValue()",
			"'%s/%d'.format([requester.namespace, request.key.size]) == 'shop/256'",
			"'%.2f'.format([1.5]) == '1.50'",
			"request.dnsNames.join(', ').contains('web.shop.svc, ') && 'a.b'.split('.') == ['a', 'b'] && ['a', 'b'].join() == 'ab'",
			"request.dnsNames.all(n, n == requester.serviceAccount + '.' + requester.namespace + '.svc' || n.endsWith('.cluster.local'))",
			"'a-a'.replace('a', 'bc') == 'bc-bc' && 'aa'.replace('a', 'b', 1) == 'ba' && 'a'.lowerAscii() == 'a'",
			"'abcabc'.indexOf('c') == 2 && 'abcabc'.lastIndexOf('c') == 5 && 'abcabc'.indexOf('c', 3) == 5 && [1, 2].indexOf(2) == 1",
			"[3, 1, 1].sort() == [1, 1, 3] && [1, 1].distinct() == [1] && [[1], [2]].flatten() == [1, 2] && lists.range(3) == [0, 1, 2]",
			"semver('1.2.3').isGreaterThan(semver('1.0.0'))",
			"requester.pod.labels.all(k, v, k == 'app' && v == 'web') && {'a': 1}.transformMap(k, v, v + 1) == {'a': 2}",
			"request.dnsNames.isSorted() && [1, 2].sum() == 3",
			"[request.dnsNames].all(l, l == request.dnsNames) && [?optional.of(1), ?optional.none()] == [1] && {'a': request.uris} != {}",
		}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			a := NewActivation(tc.vars)
			for _, text := range tc.texts {
				program, err := CompileBool(text)
				if err != nil {
					t.Errorf("compiling %s: %v", text, err)
					continue
				}
				budget := NewBudget()
				if yes, err := program.Bool(a, budget); err != nil || !yes {
					t.Errorf("%s: got %t, %v", text, yes, err)
				}
				if cost := NewBudget().left - budget.left; cost > 2000 {
					t.Errorf("%s: costs %d", text, cost)
				}
			}
		})
	}
}
