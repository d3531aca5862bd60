// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command traefik routes HTTP by Ingresses and HTTPRoutes, for the end-to-end tests. What they mean, which Gateway they are
// attached to, and their status is Traefik's own work, as is the matching of requests; the proxying is that of Go's library.
// Middlewares, TLS and weights are left out.
package main

import (
	"context"
	"flag"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/traefik/traefik/v3/pkg/config/dynamic"
	"github.com/traefik/traefik/v3/pkg/middlewares/requestdecorator"
	httpmuxer "github.com/traefik/traefik/v3/pkg/muxer/http"
	"github.com/traefik/traefik/v3/pkg/provider/kubernetes/gateway"
	"github.com/traefik/traefik/v3/pkg/provider/kubernetes/ingress"
	"github.com/traefik/traefik/v3/pkg/safe"
)

func main() {
	address := flag.String("address", ":8000", "where to serve; the port is also that of the listeners of Gateways that are served")
	class := flag.String("ingress-class", "", "the IngressClass to serve")
	gateways := flag.Bool("gateways", false, "serve the Gateway API too, whose kinds must be there")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, *address, *class, *gateways); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, address, class string, withGateways bool) error {
	pool := safe.NewPool(ctx)
	defer pool.Stop()
	changes := make(chan dynamic.Message)
	ingresses := &ingress.Provider{IngressClass: class}
	if err := ingresses.Provide(changes, pool); err != nil {
		return err
	}
	if withGateways {
		gateways := &gateway.Provider{EntryPoints: map[string]gateway.Entrypoint{"web": {Address: address}}}
		gateways.SetDefaults()
		if err := gateways.Init(); err != nil {
			return err
		}
		if err := gateways.Provide(changes, pool); err != nil {
			return err
		}
	}
	var routes atomic.Pointer[httpmuxer.Muxer]
	pool.GoCtx(func(ctx context.Context) { follow(ctx, changes, &routes) })

	decorator := requestdecorator.New(nil)
	server := &http.Server{Addr: address, ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if muxer := routes.Load(); muxer != nil {
			decorator.ServeHTTP(w, r, muxer.ServeHTTP)
			return
		}
		http.NotFound(w, r)
	})}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.ListenAndServe(); ctx.Err() == nil {
		return err
	}
	return nil
}

// follow makes new routes of each change that a provider sees.
func follow(ctx context.Context, changes <-chan dynamic.Message, routes *atomic.Pointer[httpmuxer.Muxer]) {
	newest := map[string]*dynamic.HTTPConfiguration{}
	for {
		select {
		case <-ctx.Done():
			return
		case change := <-changes:
			newest[change.ProviderName] = change.Configuration.HTTP
			muxer, err := build(newest)
			if err != nil {
				log.Printf("routes stay as they are: %v", err)
				continue
			}
			routes.Store(muxer)
		}
	}
}

func build(configurations map[string]*dynamic.HTTPConfiguration) (*httpmuxer.Muxer, error) {
	parser, err := httpmuxer.NewSyntaxParser()
	if err != nil {
		return nil, err
	}
	muxer := httpmuxer.NewMuxer(parser, nil)
	for provider, configuration := range configurations {
		for name, router := range configuration.Routers {
			priority := router.Priority
			if priority == 0 {
				priority = httpmuxer.GetRulePriority(router.Rule)
			}
			log.Printf("%s: %s to %s", name, router.Rule, router.Service)
			if err := muxer.AddRoute(router.Rule, router.RuleSyntax, priority, provider, to(configuration.Services, router.Service)); err != nil {
				return nil, err
			}
		}
	}
	return muxer, nil
}

// to hands each request to one of the servers of a service, in turn.
func to(services map[string]*dynamic.Service, name string) http.Handler {
	service := services[name]
	switch {
	case service == nil:
	case service.Weighted != nil && len(service.Weighted.Services) > 0:
		return to(services, service.Weighted.Services[0].Name)
	case service.LoadBalancer != nil && len(service.LoadBalancer.Servers) > 0:
		var targets []*url.URL
		for _, server := range service.LoadBalancer.Servers {
			target, err := url.Parse(server.URL)
			if err != nil {
				log.Fatalf("%s: %v", name, err)
			}
			targets = append(targets, target)
		}
		var turn atomic.Uint32
		return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(targets[int(turn.Add(1))%len(targets)])
			r.Out.Host = r.In.Host
		}}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no server of this service is there", http.StatusServiceUnavailable)
	})
}
