// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/certwright/certwright/ability"
	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/webhook/gate"
	"github.com/certwright/certwright/webhook/mutation"
	"github.com/certwright/certwright/webhook/servingcert"
)

// Names that the webhook shares with its manifests.
const (
	// Path is where the API server sends the pods.
	Path = "/mutate-pods"
	// ServiceName is the Service in front of the webhook.
	ServiceName = "certwright-webhook"
	// ConfigurationName is the MutatingWebhookConfiguration and the
	// ValidatingWebhookConfiguration, whose caBundle the webhook writes.
	ConfigurationName = "certwright-webhook"
	// SecretName is the Secret that holds the serving certificate.
	SecretName = "certwright-webhook-tls" //nolint:gosec // a name, not a secret
	// DefaultPort is where the webhook listens.
	DefaultPort = 8443
)

// drain is how long a replica that is told to stop goes on serving. By then every
// API server has heard that it goes, and has used its kept connections once more,
// which ended them.
const drain = 10 * time.Second

// Options say how to run the webhook.
type Options struct {
	Mutator mutation.Mutator
	// Namespace of the Service and of the Secret. Required.
	Namespace string
	// Host and Port to listen on; all addresses and DefaultPort if left out.
	Host string
	Port int
	// MetricsBindAddress and HealthProbeBindAddress are host:port; "0" for none.
	MetricsBindAddress, HealthProbeBindAddress string
	// Registerer of the metrics. Default: the one that MetricsBindAddress shows.
	Registerer prometheus.Registerer
	// Validators answer for kinds of Certwright's own, each at its path.
	Validators map[string]admission.Handler
	// Clock, by default the real one.
	Clock clock.WithTicker
	// Logger, by default controller-runtime's.
	Logger logr.Logger
}

// Server is the webhook as a process: it serves admission requests and keeps its
// own serving certificate. All replicas are active; there is no leader.
type Server struct {
	manager manager.Manager
	handler *mutation.Handler
	gate    *gate.Gate
	clock   clock.Clock
}

// New builds a Server for the cluster of cfg. Nothing runs before Run.
func New(cfg *rest.Config, opts Options) (*Server, error) {
	if opts.Namespace == "" {
		return nil, errors.New("namespace of the webhook: empty, set it to where the webhook's Service and Secret are")
	}
	if opts.Clock == nil {
		opts.Clock = clock.RealClock{}
	}
	if opts.Registerer == nil {
		opts.Registerer = metrics.Registry
	}
	// Requests come at the pace of the API server, which has its own priority and
	// fairness: a limit of ours would only time pods out.
	cfg = rest.CopyConfig(cfg)
	cfg.QPS = -1
	cfg.Wrap(mutation.BoundAnswers)

	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, admissionregistrationv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("building scheme: %w", err)
		}
	}
	uncached, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("building client: %w", err)
	}
	return newServer(cfg, uncached, opts)
}

func newServer(cfg *rest.Config, uncached client.Client, opts Options) (*Server, error) {
	keeper := servingcert.New(uncached, opts.Clock, servingcert.Options{
		Secret:        types.NamespacedName{Namespace: opts.Namespace, Name: SecretName},
		Configuration: ConfigurationName,
		DNSName:       ServiceName + "." + opts.Namespace + ".svc",
	})
	handler, err := mutation.NewHandler(opts.Mutator, uncached, opts.Clock, opts.Registerer)
	if err != nil {
		return nil, err
	}
	entrance := gate.New(opts.Clock)
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme:                 uncached.Scheme(),
		Logger:                 opts.Logger,
		Metrics:                metricsserver.Options{BindAddress: opts.MetricsBindAddress},
		HealthProbeBindAddress: opts.HealthProbeBindAddress,
		WebhookServer:          newListener(opts, entrance, keeper),
	})
	if err != nil {
		return nil, fmt.Errorf("building manager: %w", err)
	}
	s := &Server{manager: mgr, handler: handler, gate: entrance, clock: opts.Clock}
	s.register(Path, handler, s.gate.Wrap)
	for path, validator := range opts.Validators {
		s.register(path, validator, s.gate.WrapRare)
	}
	if err := mgr.Add(runnable{keeper}); err != nil {
		return nil, fmt.Errorf("adding serving certificate: %w", err)
	}
	return s, s.addChecks(keeper)
}

func (s *Server) register(path string, handler admission.Handler, gate func(http.Handler) http.Handler) {
	s.manager.GetWebhookServer().Register(path, gate(&admission.Webhook{Handler: handler, LogConstructor: mutation.RequestLogger}))
}

// SetPodCertificates is mutation.Handler.SetPodCertificates.
func (s *Server) SetPodCertificates(can ability.PodCertificates) { s.handler.SetPodCertificates(can) }

// Run serves until the context ends, and a little longer: until nobody calls any
// more.
func (s *Server) Run(ctx context.Context) error {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() {
		drained := s.clock.NewTimer(drain)
		defer drained.Stop()
		s.gate.Close()
		select {
		case <-drained.C():
			stop()
		case <-serving.Done():
		}
	})()
	return s.manager.Start(serving)
}

func (s *Server) addChecks(keeper *servingcert.Keeper) error {
	if err := s.manager.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("adding health check: %w", err)
	}
	for name, check := range map[string]healthz.Checker{
		"serving-certificate": keeper.Ready,
		"listener":            s.manager.GetWebhookServer().StartedChecker(),
		"stopping":            s.gate.Ready,
	} {
		if err := s.manager.AddReadyzCheck(name, check); err != nil {
			return fmt.Errorf("adding readiness check %s: %w", name, err)
		}
	}
	return nil
}

// runnable runs the Keeper on every replica.
type runnable struct{ keeper *servingcert.Keeper }

// Start implements manager.Runnable.
func (r runnable) Start(ctx context.Context) error { return r.keeper.Run(ctx) }

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (runnable) NeedLeaderElection() bool { return false }
