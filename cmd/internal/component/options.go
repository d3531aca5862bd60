// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package component

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/event"
	"github.com/certwright/certwright/policy/judge"
)

// options are the flags that every component has.
type options struct {
	metricsAddress string
	healthAddress  string
	trustDomain    string
	clusterDomain  string
	namespace      string
}

func (o *options) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.metricsAddress, "metrics-bind-address", ":8080", "address that serves Prometheus metrics; 0 for none")
	flags.StringVar(&o.healthAddress, "health-probe-bind-address", ":8081", "address that serves /healthz and /readyz")
	flags.StringVar(&o.trustDomain, "trust-domain", "cluster.local", "SPIFFE trust domain, the value of {trustDomain} in policies")
	flags.StringVar(&o.clusterDomain, "cluster-domain", "cluster.local", "DNS domain of the cluster, the value of {clusterDomain} in policies")
	flags.StringVar(&o.namespace, "namespace", envOr("POD_NAMESPACE", "certwright-system"), "namespace that Certwright runs in (default: $POD_NAMESPACE)")
}

func (o *options) validate() error {
	if err := csr.CheckDNSName(o.trustDomain); err != nil {
		return fmt.Errorf("--trust-domain %q: %w", o.trustDomain, err)
	}
	if err := csr.CheckDNSName(o.clusterDomain); err != nil {
		return fmt.Errorf("--cluster-domain %q: %w", o.clusterDomain, err)
	}
	return nil
}

// controllerOptions are the flags of the components that elect a leader.
type controllerOptions struct {
	options
	leaderElect bool
	workers     int
}

func (o *controllerOptions) addFlags(flags *pflag.FlagSet) {
	o.options.addFlags(flags)
	flags.BoolVar(&o.leaderElect, "leader-elect", true, "let one replica at a time work")
	flags.IntVar(&o.workers, "workers", cmp.Or(o.workers, 8), "requests worked on at the same time")
}

func (o *controllerOptions) validate() error {
	if o.workers < 1 {
		return fmt.Errorf("--workers %d: must be at least 1", o.workers)
	}
	return o.options.validate()
}

// controller is what approver and signer are built on: a manager, and a judge that follows its cache.
type controller struct {
	ctrl.Manager
	judge  *judge.Judge
	teller event.Teller
}

// newController returns what a component that elects a leader is built on. Also is what its cache is to know about single kinds.
func (o *controllerOptions) newController(ctx context.Context, component string, also map[client.Object]cache.ByObject) (*controller, error) {
	config, err := clientConfig()
	if err != nil {
		return nil, err
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                        scheme(),
		Logger:                        logger(),
		Cache:                         cacheOptions(o.namespace, also),
		Metrics:                       metricsserver.Options{BindAddress: o.metricsAddress},
		HealthProbeBindAddress:        o.healthAddress,
		LeaderElection:                o.leaderElect,
		LeaderElectionID:              "certwright-" + component,
		LeaderElectionNamespace:       o.namespace,
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return nil, fmt.Errorf("setting up the %s: %w", component, err)
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, err
	}
	if err := mgr.AddReadyzCheck("ping", healthz.Ping); err != nil {
		return nil, err
	}
	if err := judge.Index(ctx, mgr.GetFieldIndexer()); err != nil {
		return nil, err
	}
	c := &controller{
		Manager: mgr,
		judge:   judge.New(mgr.GetClient(), mgr.GetAPIReader(), o.trustDomain, o.clusterDomain),
		teller: event.Teller{
			Client: mgr.GetClient(), Component: "certwright-" + component, Instance: envOr("POD_NAME", component), Clock: clock.RealClock{},
		},
	}
	return c, c.judge.Follow(ctx, mgr.GetCache())
}

// clientConfig returns how to reach the API server, with its own fairness as the only limit on our rate.
func clientConfig() (*rest.Config, error) {
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("finding the cluster: run in a pod, or set KUBECONFIG: %w", err)
	}
	config.QPS = -1
	config.UserAgent = "certwright"
	return config, nil
}

func scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, gatewayv1.Install} {
		if err := add(s); err != nil {
			panic(err) // a kind registered twice: a mistake in this program
		}
	}
	return s
}

func logger() logr.Logger {
	l := logr.FromSlogHandler(slog.NewTextHandler(os.Stderr, nil))
	ctrl.SetLogger(l)
	return l
}

func envOr(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
