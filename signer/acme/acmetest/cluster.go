// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acmetest

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/acme/challenge"
	"github.com/certwright/certwright/signer/acme/http01"
	"github.com/certwright/certwright/signer/acme/order"
)

// Namespace is Certwright's.
const Namespace = "certwright-system"

// Cluster is a Kubernetes API in memory, with a front door: an HTTP server on loopback that brings requests to the solver's
// handler where an Ingress or an HTTPRoute in the API says so, and answers 404 where none does.
type Cluster struct {
	client.Client
	// Door is the front door.
	Door *httptest.Server
	// Closed keeps the front door from knowing any route, as if routes took long to be known.
	Closed atomic.Bool
	// DNS makes solvers for DNS-01.
	DNS challenge.NewSolver
	// Answered counts the answers that the handler gave.
	Answered atomic.Int64
}

// NewCluster returns a cluster without any object. Its client has the index that the handler needs, and those of the functions.
func NewCluster(t testing.TB, indexes ...func(context.Context, client.FieldIndexer) error) *Cluster {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, gatewayv1.Install} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.Signer{}).WithInterceptorFuncs(interceptor.Funcs{Create: create})
	for _, index := range append(indexes, order.Index) {
		if err := index(t.Context(), indexer{builder}); err != nil {
			t.Fatal(err)
		}
	}
	c := &Cluster{Client: builder.Build()}
	handler := http01.Handler(order.Tokens{Reader: c.Client, Namespace: Namespace})
	c.Door = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.Closed.Load() || !c.routed(r) {
			http.NotFound(w, r)
			return
		}
		c.Answered.Add(1)
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(c.Door.Close)
	return c
}

// create creates an object, or says what time it is to who asks by creating a review.
func create(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
	if review, ok := o.(*authenticationv1.SelfSubjectReview); ok {
		review.CreationTimestamp = metav1.Now()
		return nil
	}
	return c.Create(ctx, o, opts...)
}

// indexer gives indexes to a client in memory.
type indexer struct{ *fake.ClientBuilder }

func (i indexer) IndexField(_ context.Context, object client.Object, field string, extract client.IndexerFunc) error {
	i.WithIndex(object, field, extract)
	return nil
}

// HTTPPort is where the front door is.
func (c *Cluster) HTTPPort(t testing.TB) int { return port(t, c.Door.Listener.Addr().String()) }

// Check is what looks for answers at the front door, whatever the name.
func (c *Cluster) Check() *http.Client {
	return http01.CheckVia(func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, c.Door.Listener.Addr().String())
	})
}

// NewSolver makes solvers.
func (c *Cluster) NewSolver(config v1alpha1.ACMESolver) (challenge.Solver, error) {
	if config.DNS01 != nil {
		return c.DNS(config)
	}
	return http01.New(http01.Options{Client: c.Client, Namespace: Namespace, Check: c.Check()}, *config.HTTP01)
}

// Routes returns the names of all Ingresses and HTTPRoutes, Orders those of all Secrets of orders.
func (c *Cluster) Routes(t testing.TB) (names []string) {
	t.Helper()
	var ingresses networkingv1.IngressList
	var routes gatewayv1.HTTPRouteList
	for _, list := range []client.ObjectList{&ingresses, &routes} {
		if err := c.List(t.Context(), list, client.InNamespace(Namespace)); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range ingresses.Items {
		names = append(names, i.Name)
	}
	for _, r := range routes.Items {
		names = append(names, r.Name)
	}
	return names
}

// Orders returns the Secrets of all orders.
func (c *Cluster) Orders(t testing.TB) []corev1.Secret {
	t.Helper()
	var list corev1.SecretList
	if err := c.List(t.Context(), &list, client.InNamespace(Namespace), client.HasLabels{order.Label}); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// routed reports whether a route brings the request to the solver's Service.
func (c *Cluster) routed(r *http.Request) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	var ingresses networkingv1.IngressList
	var routes gatewayv1.HTTPRouteList
	if c.List(r.Context(), &ingresses) != nil || c.List(r.Context(), &routes) != nil {
		return false
	}
	for _, i := range ingresses.Items {
		for _, rule := range i.Spec.Rules {
			path := rule.HTTP.Paths[0]
			if (rule.Host == "" || rule.Host == host) && path.Path == r.URL.Path && path.Backend.Service.Name == http01.Service {
				return true
			}
		}
	}
	for _, route := range routes.Items {
		rule := route.Spec.Rules[0]
		if (len(route.Spec.Hostnames) == 0 || string(route.Spec.Hostnames[0]) == host) && *rule.Matches[0].Path.Value == r.URL.Path && string(rule.BackendRefs[0].Name) == http01.Service {
			return true
		}
	}
	return false
}
