// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package http01_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/acme/acmetest"
	"github.com/certwright/certwright/signer/acme/challenge"
	"github.com/certwright/certwright/signer/acme/http01"
	"github.com/certwright/certwright/signer/acme/order"
)

var (
	byIngress = v1alpha1.HTTP01{Ingress: &v1alpha1.HTTP01Ingress{ClassName: "public", Annotations: map[string]string{"example.com/no-redirect": "true"}}}
	byRoute   = v1alpha1.HTTP01{HTTPRoute: &v1alpha1.HTTP01Route{Gateway: v1alpha1.GatewayRef{Namespace: "gateways", Name: "public", SectionName: "http"}}}
)

func of(domain, token string) challenge.Challenge {
	return challenge.Challenge{Type: challenge.HTTP01, Domain: domain, Token: token, KeyAuthorization: token + ".thumbprint"}
}

func newSolver(t *testing.T, c *acmetest.Cluster, config v1alpha1.HTTP01) *http01.Solver {
	t.Helper()
	s, err := http01.New(http01.Options{Client: c.Client, Namespace: acmetest.Namespace, Check: c.Check()}, config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRoutesComeAndGo(t *testing.T) {
	for name, config := range map[string]v1alpha1.HTTP01{"Ingress": byIngress, "HTTPRoute": byRoute} {
		t.Run(name, func(t *testing.T) {
			c := acmetest.NewCluster(t)
			s := newSolver(t, c, config)
			first, second := of("web.example.com", "first"), of("web.example.com", "second")
			for _, ch := range []challenge.Challenge{first, second, first} { // the same again is no error
				if err := s.Present(t.Context(), ch); err != nil {
					t.Fatal(err)
				}
			}
			if n := len(c.Routes(t)); n != 2 {
				t.Fatalf("%d routes for two challenges", n)
			}
			again := newSolver(t, c, config) // as after a restart
			for range 2 {
				if err := again.CleanUp(t.Context(), first); err != nil {
					t.Fatal(err)
				}
			}
			if n := len(c.Routes(t)); n != 1 {
				t.Errorf("%d routes are left, want that of the other challenge", n)
			}
		})
	}
}

func TestRoutes(t *testing.T) {
	c := acmetest.NewCluster(t)
	for _, domain := range []string{"web.example.com", "198.18.0.7"} {
		for _, config := range []v1alpha1.HTTP01{byIngress, byRoute} {
			if err := newSolver(t, c, config).Present(t.Context(), of(domain, "token")); err != nil {
				t.Fatal(err)
			}
		}
	}
	var ingresses networkingv1.IngressList
	var routes gatewayv1.HTTPRouteList
	if err := errors.Join(c.List(t.Context(), &ingresses), c.List(t.Context(), &routes)); err != nil {
		t.Fatal(err)
	}
	hosts := map[string]int{}
	for _, i := range ingresses.Items {
		rule := i.Spec.Rules[0]
		hosts[rule.Host]++
		path := rule.HTTP.Paths[0]
		if path.Path != "/.well-known/acme-challenge/token" || *path.PathType != networkingv1.PathTypeExact || path.Backend.Service.Name != http01.Service ||
			*i.Spec.IngressClassName != "public" || i.Annotations["example.com/no-redirect"] != "true" || !strings.HasPrefix(i.Name, "certwright-acme-") || len(i.Spec.Rules) != 1 || i.Spec.DefaultBackend != nil {
			t.Errorf("the Ingress is %+v", i)
		}
	}
	for _, r := range routes.Items {
		if len(r.Spec.Hostnames) == 1 {
			hosts[string(r.Spec.Hostnames[0])]++
		} else {
			hosts[""]++
		}
		parent := r.Spec.ParentRefs[0]
		if *parent.Namespace != "gateways" || parent.Name != "public" || *parent.SectionName != "http" || *r.Spec.Rules[0].Matches[0].Path.Type != gatewayv1.PathMatchExact {
			t.Errorf("the HTTPRoute is %+v", r)
		}
	}
	if hosts["web.example.com"] != 2 || hosts[""] != 2 {
		t.Errorf("the hosts are %v: an address cannot be one", hosts)
	}
}

func TestReady(t *testing.T) {
	secretive := "internal-database-password"
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    string // in the error; empty for none
	}{
		"the answer":              {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "token.thumbprint\n") }, ""},
		"not there":               {http.NotFound, "404"},
		"something else":          {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, secretive) }, "something else"},
		"more behind the answer":  {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "token.thumbprint", secretive) }, "something else"},
		"an endless answer":       {endless, "something else"},
		"the answer with a 500":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); fmt.Fprint(w, "token.thumbprint") }, "500"},
		"a redirect elsewhere":    {redirect("http://metadata.example.org/latest/" + secretive), "another host"},
		"a redirect to a port":    {redirect("http://web.example.com:6379" + prefix + "token"), "another port"},
		"a redirect to a scheme":  {redirect("file:///etc/" + secretive), "another"},
		"a redirect to itself":    {redirect(prefix + "token"), "again and again"},
		"a redirect to port 8443": {redirect("https://web.example.com:8443" + prefix + "token"), "another port"},
		"a redirect to a path":    {redirect("/admin/delete"), "another path"},
		"a redirect to a query":   {redirect(prefix + "token?delete=" + secretive), "another path"},
		"a redirect with a login": {redirect("http://admin:" + secretive + "@web.example.com" + prefix + "token"), "another path"},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = append(asked, r.Host+r.RequestURI)
				for header := range r.Header {
					if header != "User-Agent" && header != "Accept-Encoding" && header != "Connection" && header != "Referer" {
						t.Errorf("the header %s was sent", header)
					}
				}
				c.handler(w, r)
			}))
			defer server.Close()
			check := http01.CheckVia(func(ctx context.Context, network, address string) (net.Conn, error) {
				if address != "web.example.com:80" {
					t.Errorf("%s was dialled", address)
				}
				return (&net.Dialer{}).DialContext(ctx, network, server.Listener.Addr().String())
			})
			s, err := http01.New(http01.Options{Client: acmetest.NewCluster(t).Client, Namespace: acmetest.Namespace, Check: check}, byIngress)
			if err != nil {
				t.Fatal(err)
			}
			err = s.Ready(t.Context(), of("web.example.com", "token"))
			switch {
			case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("the error is %v, want %q", err, c.want)
			case err != nil && (strings.Contains(err.Error(), secretive) || strings.Contains(err.Error(), "thumbprint") || len(err.Error()) > 400):
				t.Errorf("the error tells what was found there: %v", err)
			}
			if len(asked) == 0 {
				t.Error("nothing was asked")
			}
			for _, what := range asked {
				if what != "web.example.com"+prefix+"token" {
					t.Errorf("asked for %q", what)
				}
			}
		})
	}
}

func redirect(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
}

func endless(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		if _, err := io.WriteString(w, strings.Repeat("x", 1<<16)); err != nil {
			return
		}
	}
}

// Ingress controllers like to lead all to https, with a certificate that is not there yet.
func TestReadyFollowsToHTTPS(t *testing.T) {
	tell := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, strings.TrimPrefix(r.RequestURI, prefix)+".thumbprint")
	}
	secure := httptest.NewTLSServer(http.HandlerFunc(tell))
	defer secure.Close()
	plain := httptest.NewServer(redirect("https://web.example.com" + prefix + "token"))
	defer plain.Close()
	check := http01.CheckVia(func(ctx context.Context, network, address string) (net.Conn, error) {
		servers := map[string]*httptest.Server{"web.example.com:80": plain, "web.example.com:443": secure}
		return (&net.Dialer{}).DialContext(ctx, network, servers[address].Listener.Addr().String())
	})
	s, err := http01.New(http01.Options{Client: acmetest.NewCluster(t).Client, Namespace: acmetest.Namespace, Check: check}, byIngress)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(t.Context(), of("web.example.com", "token")); err != nil {
		t.Error(err)
	}
}

// The name to check is the requester's choice.
func TestReadyNeverAsksThisMachine(t *testing.T) {
	reached := false
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer server.Close()
	for _, host := range []string{"127.0.0.1", "[::1]", "localhost", "169.254.169.254", "[fe80::1]", "0.0.0.0", "[::ffff:127.0.0.1]", "[fd00:ec2::254]", "168.63.129.16", "100.100.100.200"} {
		_, port, err := net.SplitHostPort(server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+host+":"+port, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http01.NewCheck().Do(request)
		if err == nil {
			_ = response.Body.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "never asked") {
			t.Errorf("%s: %v", host, err)
		}
	}
	if reached {
		t.Error("this machine was asked")
	}
}

func TestNew(t *testing.T) {
	c := acmetest.NewCluster(t)
	for name, c2 := range map[string]struct {
		config v1alpha1.HTTP01
		words  string
	}{
		"nothing":    {v1alpha1.HTTP01{}, "exactly one"},
		"both":       {v1alpha1.HTTP01{Ingress: byIngress.Ingress, HTTPRoute: byRoute.HTTPRoute}, "exactly one"},
		"class":      {v1alpha1.HTTP01{Ingress: &v1alpha1.HTTP01Ingress{ClassName: "no/class"}}, `http01.ingress.className: "no/class"`},
		"no gateway": {v1alpha1.HTTP01{HTTPRoute: &v1alpha1.HTTP01Route{}}, "http01.httpRoute.gateway"},
	} {
		if _, err := http01.New(http01.Options{Client: c.Client, Namespace: "x"}, c2.config); err == nil || !strings.Contains(err.Error(), c2.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// answers knows one challenge.
type answers struct{ t testing.TB }

func (a answers) KeyAuthorization(_ context.Context, host, token string) (string, error) {
	if !challenge.LegalToken(token) || host == "" || host != strings.ToLower(host) {
		a.t.Errorf("asked for %q at %q", token, host)
	}
	switch {
	case token == "broken":
		return "", errors.New("the cache is broken")
	case token == "token" && (host == "web.example.com" || host == "2001:db8::7"):
		return "token.thumbprint", nil
	}
	return "", order.ErrUnknownToken
}

const prefix = "/.well-known/acme-challenge/"

func TestHandler(t *testing.T) {
	for name, c := range map[string]struct {
		method, host, path string
		status             int
		body               string
	}{
		"the answer":           {"GET", "web.example.com", prefix + "token", 200, "token.thumbprint"},
		"with a port":          {"GET", "web.example.com:80", prefix + "token", 200, "token.thumbprint"},
		"in capitals":          {"GET", "WEB.Example.COM.", prefix + "token", 200, "token.thumbprint"},
		"IPv6":                 {"GET", "[2001:DB8:0::7]:80", prefix + "token", 200, "token.thumbprint"},
		"another host":         {"GET", "shop.example.com", prefix + "token", 404, ""},
		"another token":        {"GET", "web.example.com", prefix + "other", 404, ""},
		"no token":             {"GET", "web.example.com", prefix, 404, ""},
		"a path in the token":  {"GET", "web.example.com", prefix + "../../token", 404, ""},
		"a longer path":        {"GET", "web.example.com", prefix + "token/x", 404, ""},
		"a line in the token":  {"GET", "web.example.com", prefix + "token%0a", 404, ""},
		"a very long token":    {"GET", "web.example.com", prefix + strings.Repeat("t", 300), 404, ""},
		"another path":         {"GET", "web.example.com", "/metrics", 404, ""},
		"posted":               {"POST", "web.example.com", prefix + "token", 405, ""},
		"a cache that is away": {"GET", "web.example.com", prefix + "broken", 503, ""},
		"an empty host":        {"GET", "", prefix + "token", 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), c.method, "http://x"+c.path, nil)
			r.Host = c.host
			w := httptest.NewRecorder()
			http01.Handler(answers{t}).ServeHTTP(w, r)
			if w.Code != c.status || w.Body.String() != c.body {
				t.Errorf("%d %q, want %d %q", w.Code, w.Body, c.status, c.body)
			}
		})
	}
}

func FuzzHandler(f *testing.F) {
	f.Add("GET", "web.example.com", prefix+"token")
	f.Add("HEAD", "[::1]:80", prefix+"..%2f")
	f.Fuzz(func(t *testing.T, method, host, path string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://x/", nil)
		r.Method, r.Host, r.URL.Path = method, host, path
		w := httptest.NewRecorder()
		http01.Handler(answers{t}).ServeHTTP(w, r)
		if w.Code == http.StatusOK && path != prefix+"token" {
			t.Errorf("answered to %q", path)
		}
	})
}
