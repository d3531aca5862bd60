// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acme_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"strings"
	"testing"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/acme/acmetest"
	"github.com/certwright/certwright/signer/remote"
	"github.com/certwright/certwright/signer/signertest"
	"github.com/certwright/certwright/signer/signertest/faultproxy"
)

// domains has a backend prove the names of the suite, and no addresses: those cannot be reached from a test.
func domains(c *v1alpha1.ACME) {
	c.Solvers[0].Domains = []string{"example.com", "svc", "local", "web"}
}

// subject is a backend as the suite wants it, for which time passes fast.
func (r *rig) subject(t *testing.T, root string) signertest.Subject {
	t.Helper()
	anchors, err := remote.Certificates(root, "root")
	if err != nil {
		t.Fatal(err)
	}
	return signertest.Subject{
		Backend: &hasty{Backend: r.Backend, clock: r.clock, back: true}, Clock: r.clock, Anchors: anchors,
		Cannot: signertest.Cannot{
			Fields: []string{
				"uris", "emailAddresses", "organizations", "organizationalUnits", "countries", "provinces",
				"localities", "streetAddresses", "postalCodes", "serialNumbers", "ipAddresses",
			},
			MoreNames: 100, Wildcards: true, CommonNameAlone: true, OtherCommonNames: true, LongSerials: true,
			OtherUsages: tlsServer,
		},
	}
}

func TestConformancePebble(t *testing.T) {
	t.Parallel()
	signertest.Run(t, func(t *testing.T) signertest.Subject {
		r, pebble := start(t, acmetest.PebbleConfig{}, domains)
		s := r.subject(t, pebble.Root(t, 0))
		s.Cannot.Keys = []string{"Ed25519"}
		return s
	})
}

func TestConformanceStepCA(t *testing.T) {
	t.Parallel()
	signertest.Run(t, func(t *testing.T) signertest.Subject {
		cluster := acmetest.NewCluster(t)
		step := acmetest.StartStepCA(t, cluster.HTTPPort(t), acmetest.StartChalltestsrv(t).DNS)
		return newRig(t, cluster, step.Server, domains).subject(t, step.Root)
	})
}

func TestFaults(t *testing.T) {
	t.Parallel()
	signertest.Faults(t, func(t *testing.T) signertest.Front {
		cluster := acmetest.NewCluster(t)
		pebble := acmetest.StartPebble(t, acmetest.PebbleConfig{HTTPPort: cluster.HTTPPort(t), Env: []string{"PEBBLE_WFE_NONCEREJECT=0"}})
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM([]byte(pebble.Server.CABundle))
		proxy := faultproxy.Start(t, strings.TrimSuffix(pebble.Server.URL, "/dir"), &tls.Config{RootCAs: roots})
		r := newRig(t, cluster, v1alpha1.Server{URL: proxy.URL + "/dir", CABundle: proxy.CA}, domains)
		s := r.subject(t, pebble.Root(t, 0))
		s.Backend = &hasty{Backend: r.Backend, clock: r.clock}
		return signertest.Front{
			Subject: s, Proxy: proxy,
			Signs:  func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/certZ/") },
			Answer: func(_ []byte, chain []*x509.Certificate) []byte { return signer.EncodePEM(chain...) },
		}
	})
}
