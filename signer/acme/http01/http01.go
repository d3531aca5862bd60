// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package http01 answers HTTP-01 challenges (RFC 8555, section 8.3): a route in the cluster, there only while a challenge is,
// brings what asks for the answer to a handler that every replica of the signer serves.
package http01

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/acme/challenge"
)

const (
	// Service is the name of the Service, in Certwright's namespace, that routes lead to, and its port.
	Service     = "certwright-acme-solver"
	servicePort = 80

	// pathPrefix is what the path of every answer begins with.
	pathPrefix = "/.well-known/acme-challenge/"
	namePrefix = "certwright-acme-"
)

// Options are what New needs.
type Options struct {
	// Client creates and deletes routes. It never reads them, so that nothing need be cached or even be installed but what is used.
	Client client.Client
	// Namespace that the routes and the Service are in: Certwright's own.
	Namespace string
	// Check is what looks at http://NAME/ for an answer. Default: NewCheck().
	Check *http.Client
}

// Solver makes a route for each challenge. It is safe for concurrent use.
type Solver struct {
	options Options
	config  v1alpha1.HTTP01
}

var _ challenge.Solver = (*Solver)(nil)

// New returns a solver. It does no I/O; the error is about the configuration.
func New(o Options, config v1alpha1.HTTP01) (*Solver, error) {
	if o.Client == nil || o.Namespace == "" {
		return nil, errors.New("http01: a client and a namespace are needed")
	}
	switch {
	case (config.Ingress == nil) == (config.HTTPRoute == nil):
		return nil, errors.New("http01: exactly one of ingress and httpRoute must be set")
	case config.Ingress != nil && config.Ingress.ClassName != "":
		if problems := validation.IsDNS1123Subdomain(config.Ingress.ClassName); len(problems) > 0 {
			return nil, fmt.Errorf("http01.ingress.className: %q: %s", config.Ingress.ClassName, problems[0])
		}
	case config.HTTPRoute != nil && (config.HTTPRoute.Gateway.Name == "" || config.HTTPRoute.Gateway.Namespace == ""):
		return nil, errors.New("http01.httpRoute.gateway: namespace and name must be set")
	}
	if o.Check == nil {
		o.Check = NewCheck()
	}
	return &Solver{options: o, config: config}, nil
}

// Present implements challenge.Solver: it makes the route.
func (s *Solver) Present(ctx context.Context, c challenge.Challenge) error {
	route := s.route(c)
	if err := s.options.Client.Create(ctx, route); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("making the route %s/%s: %w", s.options.Namespace, route.GetName(), err)
	}
	return nil
}

// CleanUp implements challenge.Solver: it deletes the route.
func (s *Solver) CleanUp(ctx context.Context, c challenge.Challenge) error {
	route := s.route(c)
	if err := client.IgnoreNotFound(s.options.Client.Delete(ctx, route)); err != nil {
		return fmt.Errorf("deleting the route %s/%s: %w", s.options.Namespace, route.GetName(), err)
	}
	return nil
}

// route is the Ingress or HTTPRoute of a challenge. Its name tells it from those of all other challenges and configurations.
func (s *Solver) route(c challenge.Challenge) client.Object {
	meta := metav1.ObjectMeta{
		Namespace: s.options.Namespace,
		Name:      s.name(c),
		Labels:    map[string]string{"app.kubernetes.io/managed-by": "certwright"},
	}
	if s.config.Ingress != nil {
		return s.ingress(meta, c)
	}
	return s.httpRoute(meta, c)
}

func (s *Solver) name(c challenge.Challenge) string {
	kind := "HTTPRoute"
	if s.config.Ingress != nil {
		kind = "Ingress " + s.config.Ingress.ClassName
	} else {
		g := s.config.HTTPRoute.Gateway
		kind += " " + g.Namespace + " " + g.Name + " " + g.SectionName
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{kind, c.Domain, c.Token}, "\n")))
	return namePrefix + hex.EncodeToString(sum[:16])
}

func (s *Solver) ingress(meta metav1.ObjectMeta, c challenge.Challenge) *networkingv1.Ingress {
	meta.Annotations = s.config.Ingress.Annotations
	i := &networkingv1.Ingress{ObjectMeta: meta}
	if class := s.config.Ingress.ClassName; class != "" {
		i.Spec.IngressClassName = &class
	}
	i.Spec.Rules = []networkingv1.IngressRule{{
		Host: hostOf(c),
		IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
			Path:     pathPrefix + c.Token,
			PathType: ptr.To(networkingv1.PathTypeExact),
			Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
				Name: Service, Port: networkingv1.ServiceBackendPort{Number: servicePort},
			}},
		}}}},
	}}
	return i
}

func (s *Solver) httpRoute(meta metav1.ObjectMeta, c challenge.Challenge) *gatewayv1.HTTPRoute {
	gateway := s.config.HTTPRoute.Gateway
	parent := gatewayv1.ParentReference{Namespace: ptr.To(gatewayv1.Namespace(gateway.Namespace)), Name: gatewayv1.ObjectName(gateway.Name)}
	if gateway.SectionName != "" {
		parent.SectionName = ptr.To(gatewayv1.SectionName(gateway.SectionName))
	}
	r := &gatewayv1.HTTPRoute{ObjectMeta: meta}
	r.Spec.ParentRefs = []gatewayv1.ParentReference{parent}
	if host := hostOf(c); host != "" {
		r.Spec.Hostnames = []gatewayv1.Hostname{gatewayv1.Hostname(host)}
	}
	r.Spec.Rules = []gatewayv1.HTTPRouteRule{{
		Matches: []gatewayv1.HTTPRouteMatch{{Path: &gatewayv1.HTTPPathMatch{
			Type: ptr.To(gatewayv1.PathMatchExact), Value: ptr.To(pathPrefix + c.Token),
		}}},
		BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{
			Name: Service, Port: ptr.To(gatewayv1.PortNumber(servicePort)),
		}}}},
	}}
	return r
}

// hostOf is the host that a route is for. An IP address cannot be one there: then the token alone tells the route.
func hostOf(c challenge.Challenge) string {
	if _, err := netip.ParseAddr(c.Domain); err == nil {
		return ""
	}
	return c.Domain
}
