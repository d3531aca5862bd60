// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"maps"
	"testing"
)

type object = map[string]any

const challengePath = "/.well-known/acme-challenge/tr-_9"

// signerWrites is what an admission policy is shown when the signer writes.
func signerWrites(operation, resource, in string, o object) map[string]any {
	shown := object{
		"object": o, "oldObject": nil,
		"request": object{
			"operation": operation, "namespace": in, "resource": object{"resource": resource},
			"userInfo": object{"username": "system:serviceaccount:" + namespace + ":" + serviceAccount("signer").Name},
		},
	}
	if operation == "DELETE" {
		shown["object"], shown["oldObject"] = nil, o
	}
	return shown
}

func with(o object, key string, value any) object {
	o = maps.Clone(o)
	o[key] = value
	return o
}

func named(name string, spec object) object {
	return object{"metadata": object{"name": name}, "spec": spec}
}

// TestSignerRoutesIngresses: an Ingress of the signer leads a challenge to the solver, and nothing else anywhere.
func TestSignerRoutesIngresses(t *testing.T) {
	backend := func(service string) object {
		return object{"service": object{"name": service, "port": object{"name": "http"}}}
	}
	path := object{"path": challengePath, "pathType": "Exact", "backend": backend("certwright-acme-solver")}
	ingress := func(host string, paths ...any) object {
		return object{"ingressClassName": "web", "rules": []any{object{"host": host, "http": object{"paths": paths}}}}
	}
	good := ingress("web.example.com", path)
	elsewhere := signerWrites("CREATE", "ingresses", "shop", named("certwright-acme-a", good))
	someone := signerWrites("CREATE", "ingresses", "shop", named("web", ingress("web.example.com")))
	someone["request"].(object)["userInfo"] = object{"username": "alice"}
	annotated := func(key string) object {
		o := named("certwright-acme-a", good)
		o["metadata"].(object)["annotations"] = object{key: "x"}
		return o
	}
	for name, c := range map[string]struct {
		shown   map[string]any
		refused bool
	}{
		"of a challenge":             {signerWrites("CREATE", "ingresses", namespace, named("certwright-acme-a", good)), false},
		"of an address":              {signerWrites("CREATE", "ingresses", namespace, named("certwright-acme-a", object{"rules": []any{object{"http": object{"paths": []any{path}}}}})), false},
		"of two challenges":          {signerWrites("CREATE", "ingresses", namespace, named("certwright-acme-a", ingress("web.example.com", path, path))), true},
		"taken away":                 {signerWrites("DELETE", "ingresses", namespace, named("certwright-acme-a", good)), false},
		"that is another's":          {signerWrites("CREATE", "ingresses", namespace, named("web", good)), true},
		"another's, taken away":      {signerWrites("DELETE", "ingresses", namespace, named("web", good)), true},
		"with a generated name":      {signerWrites("CREATE", "ingresses", namespace, object{"metadata": object{"generateName": "certwright-acme-"}, "spec": good}), true},
		"in another namespace":       {elsewhere, true},
		"of somebody else":           {someone, false},
		"for all paths of all hosts": {signerWrites("CREATE", "ingresses", namespace, named("certwright-acme-a", ingress("", with(path, "path", "/")))), true},
		"for a wildcard":             {signerWrites("CREATE", "ingresses", namespace, named("certwright-acme-a", ingress("*.example.com", path))), true},
		"for two hosts": {signerWrites("CREATE", "ingresses", namespace, named("certwright-acme-a",
			object{"rules": []any{good["rules"].([]any)[0], good["rules"].([]any)[0]}})), true},
		"without a rule":         {signerWrites("CREATE", "ingresses", namespace, named("certwright-acme-a", object{"ingressClassName": "web"})), true},
		"for a prefix":           {signerWrites("CREATE", "ingresses", namespace, named("certwright-acme-a", ingress("a.b", with(path, "pathType", "Prefix")))), true},
		"for all paths":          {signerWrites("CREATE", "ingresses", namespace, named("certwright-acme-a", ingress("a.b", with(path, "path", "/")))), true},
		"for a path in disguise": {signerWrites("CREATE", "ingresses", namespace, named("certwright-acme-a", ingress("a.b", with(path, "path", challengePath+"/../../login")))), true},
		"a second path":          {signerWrites("CREATE", "ingresses", namespace, named("certwright-acme-a", ingress("a.b", path, with(path, "path", "/login")))), true},
		"to another Service":     {signerWrites("CREATE", "ingresses", namespace, named("certwright-acme-a", ingress("a.b", with(path, "backend", backend("web"))))), true},
		"to no Service":          {signerWrites("CREATE", "ingresses", namespace, named("certwright-acme-a", ingress("a.b", with(path, "backend", object{"resource": object{}})))), true},
		"with a default":         {signerWrites("CREATE", "ingresses", namespace, named("certwright-acme-a", with(good, "defaultBackend", backend("web")))), true},
		"with TLS":               {signerWrites("CREATE", "ingresses", namespace, named("certwright-acme-a", with(good, "tls", []any{object{"secretName": "x"}}))), true},
		"changed into another":   {signerWrites("UPDATE", "ingresses", namespace, named("certwright-acme-a", ingress("a.b", with(path, "path", "/")))), true},
		"with an annotation":     {signerWrites("CREATE", "ingresses", namespace, annotated("example.com/priority")), false},
		"with a snippet":         {signerWrites("CREATE", "ingresses", namespace, annotated("nginx.ingress.kubernetes.io/server-snippet")), true},
	} {
		if got := refuses(t, "certwright-signer-routes", c.shown); got != c.refused {
			t.Errorf("an Ingress %s: refused %t, want %t", name, got, c.refused)
		}
	}
}

// TestSignerRoutesHTTPRoutes says the same of HTTPRoutes.
func TestSignerRoutesHTTPRoutes(t *testing.T) {
	ref := object{"name": "certwright-acme-solver", "port": 80, "kind": "Service", "group": ""}
	rule := func(match, ref object) object {
		return object{"matches": []any{object{"path": match}}, "backendRefs": []any{ref}}
	}
	exact := object{"type": "Exact", "value": challengePath}
	route := func(host string, rules ...any) object {
		return object{"parentRefs": []any{object{"name": "web", "namespace": "edge"}}, "hostnames": []any{host}, "rules": rules}
	}
	good := rule(exact, ref)
	for name, c := range map[string]struct {
		name    string
		spec    object
		refused bool
	}{
		"of a challenge":         {"certwright-acme-a", route("a.b", good), false},
		"that is another's":      {"web", route("a.b", good), true},
		"for a wildcard":         {"certwright-acme-a", route("*.a.b", good), true},
		"of an address":          {"certwright-acme-a", object{"rules": []any{good}}, false},
		"for two hosts":          {"certwright-acme-a", with(route("a.b", good), "hostnames", []any{"a.b", "c.d"}), true},
		"without a rule":         {"certwright-acme-a", object{"hostnames": []any{"a.b"}}, true},
		"with a second rule":     {"certwright-acme-a", route("a.b", good, rule(object{"type": "PathPrefix", "value": "/"}, ref)), true},
		"for a prefix":           {"certwright-acme-a", route("a.b", rule(with(exact, "type", "PathPrefix"), ref)), true},
		"for all paths":          {"certwright-acme-a", route("a.b", object{"backendRefs": []any{ref}}), true},
		"for a path in disguise": {"certwright-acme-a", route("a.b", rule(with(exact, "value", challengePath+"/../login"), ref)), true},
		"to another Service":     {"certwright-acme-a", route("a.b", rule(exact, with(ref, "name", "web"))), true},
		"to another namespace":   {"certwright-acme-a", route("a.b", rule(exact, with(ref, "namespace", "shop"))), true},
		"to another kind":        {"certwright-acme-a", route("a.b", rule(exact, with(ref, "kind", "TraefikService"))), true},
		"with a filter":          {"certwright-acme-a", route("a.b", with(good, "filters", []any{object{"type": "RequestMirror"}})), true},
		"with a backend's":       {"certwright-acme-a", route("a.b", rule(exact, with(ref, "filters", []any{object{"type": "RequestMirror"}}))), true},
	} {
		if got := refuses(t, "certwright-signer-routes", signerWrites("CREATE", "httproutes", namespace, named(c.name, c.spec))); got != c.refused {
			t.Errorf("an HTTPRoute %s: refused %t, want %t", name, got, c.refused)
		}
	}
	if refuses(t, "certwright-signer-routes", signerWrites("DELETE", "httproutes", namespace, named("certwright-acme-a", route("a.b", good)))) {
		t.Error("an HTTPRoute cannot be taken away")
	}
}

// TestSignerWritesSecrets: of Secrets, the signer writes those of its own, and deletes none but orders.
func TestSignerWritesSecrets(t *testing.T) {
	secret := func(name, kind string) object { return object{"metadata": object{"name": name}, "type": kind} }
	for name, c := range map[string]struct {
		operation, name, kind string
		refused               bool
	}{
		"a CA":                       {"CREATE", "certwright-ca-internal", "Opaque", false},
		"an account":                 {"CREATE", "certwright-acme-public.letsencrypt", "Opaque", false},
		"an order":                   {"UPDATE", "certwright-acme-order-0a1b", "Opaque", false},
		"a refresh token":            {"UPDATE", "certwright-venafi-public.tpp", "Opaque", false},
		"the webhook's certificate":  {"UPDATE", "certwright-webhook-tls", "Opaque", true},
		"another's":                  {"UPDATE", "registry", "Opaque", true},
		"a token":                    {"CREATE", "certwright-acme-a", "kubernetes.io/service-account-token", true},
		"an order that is finished":  {"DELETE", "certwright-acme-order-0a1b", "Opaque", false},
		"a CA, taken away":           {"DELETE", "certwright-ca-internal", "Opaque", true},
		"an account, taken away":     {"DELETE", "certwright-acme-public.letsencrypt", "Opaque", true},
		"that of a Signer order-a":   {"DELETE", "certwright-acme-order-a.letsencrypt", "Opaque", true},
		"a token of Venafi, deleted": {"DELETE", "certwright-venafi-public.tpp", "Opaque", true},
		"another's, taken away":      {"DELETE", "registry", "Opaque", true},
	} {
		shown := signerWrites(c.operation, "secrets", namespace, secret(c.name, c.kind))
		if got := refuses(t, "certwright-signer-writes", shown); got != c.refused {
			t.Errorf("%s: refused %t, want %t", name, got, c.refused)
		}
	}
}
