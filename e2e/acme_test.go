// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// pebble is an ACME server whose certificate is of this CA. It looks names up at this DNS server, or at the cluster's.
func (s *story) pebble(front pair, dns string) server {
	s.Helper()
	config, err := json.Marshal(data{"pebble": data{
		"listenAddress": ":14000", "managementListenAddress": ":15000", "certificate": "/config/tls.crt", "privateKey": "/config/tls.key",
		"httpPort": 80, "tlsPort": 443, "domainBlocklist": []string{s.host("blocked")}, "keyAlgorithm": "ecdsa", "retryAfter": data{"authz": 1, "order": 1},
		"profiles": data{"default": data{"description": "of half an hour", "validityPeriod": 1800}},
	}})
	s.must(err, "encoding pebble's configuration")
	v := server{
		name: "pebble", args: []string{"-config", "/config/pebble.json"}, files: s.servedBy(front, "pebble"),
		ports: []corev1.ServicePort{port(14000, 14000), port(15000, 15000)}, env: []corev1.EnvVar{{Name: "PEBBLE_VA_NOSLEEP", Value: "1"}},
	}
	if dns != "" {
		v.args = append(v.args, "-dnsserver", dns)
	}
	v.files["pebble.json"] = config
	return v
}

// byACME has a Signer order from the story's pebble, and prove names with this solver.
func (s *story) byACME(front pair, solver v1alpha1.ACMESolver) func(*v1alpha1.SignerSpec) {
	s.Helper()
	var root []byte
	s.until("pebble to tell its root", soon, func(ctx context.Context) (err error) {
		root, err = s.call(ctx, "GET", "pebble:15000", "roots/0", nil, nil)
		return err
	})
	return func(spec *v1alpha1.SignerSpec) {
		backend := v1alpha1.Backend{Name: "pebble", TrustAnchors: string(root), ACME: &v1alpha1.ACME{AcceptTerms: true, Solvers: []v1alpha1.ACMESolver{solver}}}
		backend.ACME.URL, backend.ACME.CABundle = "https://"+s.host("pebble")+":14000/dir", string(front.crt)
		spec.Backends = []v1alpha1.Backend{backend}
	}
}

// traefik is a controller for Ingresses and HTTPRoutes.
func (s *story) traefik() server {
	read, everything := []string{"get", "list", "watch"}, []string{"ingresses", "ingressclasses"}
	return server{
		name: "traefik", args: []string{"-ingress-class", s.name}, ports: []corev1.ServicePort{port(80, 8000)},
		rights: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"namespaces", "nodes", "services", "secrets", "configmaps"}, Verbs: read},
			{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: read},
			{APIGroups: []string{"networking.k8s.io"}, Resources: everything, Verbs: read},
			{APIGroups: []string{gatewayGroup}, Resources: []string{"gatewayclasses", "gateways", "httproutes", "grpcroutes", "tlsroutes", "referencegrants", "backendtlspolicies"}, Verbs: read},
			{APIGroups: []string{gatewayGroup}, Resources: []string{"gatewayclasses/status", "gateways/status", "httproutes/status"}, Verbs: []string{"update"}},
		},
	}
}

// atTheEdge lets the name of a Service lead to traefik, as a public name leads to the edge of a cluster.
func (s *story) atTheEdge(name string) string {
	s.Helper()
	o := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}
	o.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: s.host("traefik")}
	s.make(o)
	return s.host(name)
}

// asWebServers lets pods and people ask for server certificates for names that match.
func (s *story) asWebServers(patterns ...string) {
	s.Helper()
	serverOnly := func(p *v1alpha1.CertificatePolicySpec) {
		p.Allow.DNSNames, p.Allow.URIs, p.Allow.Wildcards = patterns, nil, true
		p.Allow.Usages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth}
	}
	s.policy(serverOnly)
}

// webServer makes a pod that asks for these names and nothing else, and checks what it gets.
func (s *story) webServer(names ...string) {
	s.Helper()
	s.makeServiceAccounts("web")
	pod := s.newPod("web", s.annotated("web", "dns-names", strings.Join(names, ","), "uris", "", "usages", "digital signature,server auth"),
		"web", demo("web", 1000, "look", "--follow"))
	s.make(pod)
	s.podReady(pod)
	var l look
	s.until("the view of the pod", soon, func(ctx context.Context) error { return lastLine(ctx, pod, "web", &l) })
	s.sameNames("the DNS names", l.Certificate.DNSNames, names...)
	s.contains("the issuer", l.Certificate.Issuer, "Pebble")

	// The server says when it would have the certificate renewed (RFC 9773).
	var requests certificatesv1.CertificateSigningRequestList
	s.must(admin.List(s.ctx, &requests, client.MatchingFields{"spec.signerName": s.signerName}), "listing requests")
	if len(requests.Items) != 1 {
		s.Fatalf("the pod made %d requests, want 1", len(requests.Items))
	}
	leaf, err := leafOf(&requests.Items[0])
	s.must(err, "reading the certificate")
	at, err := time.Parse(time.RFC3339, requests.Items[0].Annotations[v1alpha1.AnnotationRenewAt])
	s.must(err, "reading when to renew")
	if at.Before(leaf.NotBefore) {
		s.Errorf("the certificate is valid from %s, and is to be renewed at %s", leaf.NotBefore, at)
	}
}

// A pod gets a certificate from an ACME server that asks for the name over HTTP, by way of an Ingress which is there only
// meanwhile. What HTTP cannot prove, or the server does not want to sign, is refused for good.
func TestPodsGetCertificatesByACMEThroughAnIngress(t *testing.T) {
	t.Parallel()
	s := tell(t)
	front := s.newCA(nil)
	for _, v := range []server{s.pebble(front, ""), s.traefik()} {
		v.service(s)
		v.start(s)
	}
	s.make(&networkingv1.IngressClass{
		ObjectMeta: metav1.ObjectMeta{Name: s.name}, Spec: networkingv1.IngressClassSpec{Controller: "traefik.io/ingress-controller"},
	})
	routes := s.watchRoutes(&networkingv1.IngressList{})
	s.signer(s.byACME(front, v1alpha1.ACMESolver{HTTP01: &v1alpha1.HTTP01{Ingress: &v1alpha1.HTTP01Ingress{ClassName: s.name}}}))
	s.asWebServers("*."+s.namespace+".svc.cluster.local", "*."+s.host("web"))
	s.webServer(s.atTheEdge("web"))
	s.contains("kubectl get signers", s.signersAtAGlance(), "True", "pebble")
	routes.areGone(s, s.host("web"), "certwright-acme-solver", "/.well-known/acme-challenge/")

	pod := s.podUser(s.idlePod("another", "web"))
	for _, name := range []string{"*." + s.host("web"), s.host("blocked")} {
		refused := s.request(pod, commonName(""), dnsNames(name), usages(certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth))
		s.becomes(refused, certificatesv1.CertificateFailed, "BackendRefused", name)
		s.Logf("%s: %s", name, condition(refused, certificatesv1.CertificateFailed).Message)
	}
}

// The same by way of an HTTPRoute, which is attached to a Gateway of another namespace.
func TestPodsGetCertificatesByACMEThroughAGateway(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.gatewayAPI()
	front := s.newCA(nil)
	v := s.traefik()
	v.args = append(v.args, "-gateways")
	for _, v := range []server{s.pebble(front, ""), v} {
		v.service(s)
		v.start(s)
	}
	s.gateway()
	routes := s.watchRoutes(gatewayList("HTTPRoute"))
	gateway := v1alpha1.GatewayRef{Namespace: s.namespace, Name: "edge"}
	s.signer(s.byACME(front, v1alpha1.ACMESolver{HTTP01: &v1alpha1.HTTP01{HTTPRoute: &v1alpha1.HTTP01Route{Gateway: gateway}}}))
	s.asWebServers("*." + s.namespace + ".svc.cluster.local")
	s.webServer(s.atTheEdge("web"))
	routes.areGone(s, s.host("web"), "certwright-acme-solver", "/.well-known/acme-challenge/", `"namespace":"`+s.namespace+`"`)
}

// routes are those that the signer made, as they came and went.
type routes struct {
	mu   sync.Mutex
	made map[string]string // the names of those that are there, to what they are
	seen map[string]string // all that there ever were
}

// watchRoutes records from now until the story ends.
func (s *story) watchRoutes(list client.ObjectList) *routes {
	s.Helper()
	c, err := client.NewWithWatch(adminConfig, client.Options{Scheme: scheme, Mapper: admin.RESTMapper()})
	s.must(err, "logging in")
	s.must(c.List(s.ctx, list, client.InNamespace(systemNamespace)), "listing routes")
	watcher, err := keepWatching(s.ctx, list.GetResourceVersion(), func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		return c.Watch(ctx, list, client.InNamespace(systemNamespace), &client.ListOptions{Raw: &options})
	})
	s.must(err, "watching routes")
	s.Cleanup(watcher.Stop)
	r := &routes{made: map[string]string{}, seen: map[string]string{}}
	go r.record(watcher)
	return r
}

func (r *routes) record(watcher watch.Interface) {
	for event := range watcher.ResultChan() {
		o, ok := event.Object.(client.Object)
		if !ok {
			continue
		}
		text, err := json.Marshal(o)
		if err != nil {
			text = []byte(err.Error())
		}
		r.mu.Lock()
		r.seen[o.GetName()], r.made[o.GetName()] = string(text), string(text)
		if event.Type == watch.Deleted {
			delete(r.made, o.GetName())
		}
		r.mu.Unlock()
	}
}

// areGone waits until no route for the host is left, and checks that there was one with these parts.
func (r *routes) areGone(s *story, host string, parts ...string) {
	s.Helper()
	s.until("the routes of "+host+" to be gone", soon, func(context.Context) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		for name, text := range r.made {
			if strings.Contains(text, host) {
				return fmt.Errorf("%s is still there", name)
			}
		}
		return nil
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, text := range r.seen {
		if strings.Contains(text, host) {
			s.contains("route "+name, text, parts...)
			return
		}
	}
	s.Errorf("there never was a route for %s", host)
}

const gatewayGroup = "gateway.networking.k8s.io"

func gatewayObject(kind, namespace, name string, spec data) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: data{"apiVersion": gatewayGroup + "/v1", "kind": kind, "spec": spec}}
	o.SetNamespace(namespace)
	o.SetName(name)
	return o
}

func gatewayList(kind string) *unstructured.UnstructuredList {
	return &unstructured.UnstructuredList{Object: data{"apiVersion": gatewayGroup + "/v1", "kind": kind + "List"}}
}

// gatewayAPI installs the kinds of the Gateway API where they are missing.
func (s *story) gatewayAPI() {
	s.Helper()
	where := s.run("", "go", "list", "-C", "../hack/servers/traefik", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api")
	if where.code != 0 {
		s.Fatalf("looking for the Gateway API: %s", where.err)
	}
	for _, kind := range []string{"gatewayclasses", "gateways", "httproutes", "grpcroutes", "tlsroutes", "referencegrants", "backendtlspolicies"} {
		objects, err := manifest(strings.TrimSpace(where.out) + "/config/crd/standard/" + gatewayGroup + "_" + kind + ".yaml")
		s.must(err, "reading the Gateway API")
		for _, o := range objects {
			if err := admin.Get(s.ctx, client.ObjectKeyFromObject(o), o.DeepCopy()); err != nil {
				s.must(client.IgnoreNotFound(err), "looking for %s", o.GetName())
				s.make(o)
			}
		}
	}
	s.until("the API server to serve the Gateway API", soon, func(ctx context.Context) error {
		for _, kind := range []string{"GatewayClass", "Gateway", "HTTPRoute", "TLSRoute", "BackendTLSPolicy"} {
			if err := admin.List(ctx, gatewayList(kind)); err != nil {
				return err
			}
		}
		return nil
	})
}

// gateway makes a Gateway in the story's namespace that takes routes from all namespaces, and waits until traefik serves it.
func (s *story) gateway() {
	s.Helper()
	s.make(gatewayObject("GatewayClass", "", s.name, data{"controllerName": "traefik.io/gateway-controller"}))
	listener := data{"name": "http", "protocol": "HTTP", "port": int64(8000), "allowedRoutes": data{"namespaces": data{"from": "All"}}}
	o := gatewayObject("Gateway", s.namespace, "edge", data{"gatewayClassName": s.name, "listeners": []any{listener}})
	s.make(o)
	s.until("the Gateway to be served", soon, func(ctx context.Context) error {
		if err := admin.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		conditions, _, err := unstructured.NestedSlice(o.Object, "status", "conditions")
		for _, c := range conditions {
			if condition := c.(data); condition["type"] == "Accepted" && condition["status"] == "True" {
				return nil
			}
		}
		return fmt.Errorf("its conditions are %v, %w", conditions, err)
	})
}
