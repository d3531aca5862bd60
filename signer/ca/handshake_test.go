// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/signer/signertest"
)

// holder is somebody with a certificate.
type holder struct {
	key   crypto.Signer
	chain []*x509.Certificate
}

// enrol gives somebody a certificate for both ends of a connection.
func (s *story) enrol() holder {
	s.t.Helper()
	h := holder{key: signertest.Key(s.t, "ECDSA-P256")}
	req := signertest.Request(s.t, h.key, &x509.CertificateRequest{DNSNames: []string{"web.example.com"}},
		[]certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth}, lifetime)
	var err error
	if h.chain, err = s.process.Sign(s.t.Context(), req); err != nil {
		s.t.Fatal(err)
	}
	return h
}

// meeting is who may meet in a phase: with which certificates, and which bundles that are promised to verify each of them.
type meeting struct {
	clock   signertest.Subject
	holders map[string]holder
	bundles map[string][]*x509.Certificate
	// promised says which bundles verify which certificates.
	promised map[string][]string
}

// handshake is one connection with certificates on both ends, over a pipe.
func handshake(server, client holder, serverTrusts, clientTrusts []*x509.Certificate, now time.Time) error {
	config := func(h holder, trusts []*x509.Certificate) *tls.Config {
		pool := x509.NewCertPool()
		for _, c := range trusts {
			pool.AddCert(c)
		}
		pair := tls.Certificate{PrivateKey: h.key}
		for _, c := range h.chain {
			pair.Certificate = append(pair.Certificate, c.Raw)
		}
		return &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, Time: func() time.Time { return now },
			RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, ServerName: "web.example.com",
		}
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	served := make(chan error, 1)
	go func() {
		conn := tls.Server(a, config(server, serverTrusts))
		err := conn.Handshake()
		if err == nil {
			_, err = conn.Write([]byte("x"))
		} else {
			_ = a.Close() // the client waits for what never comes
		}
		served <- err
	}()
	conn := tls.Client(b, config(client, clientTrusts))
	_, err := conn.Read(make([]byte, 1)) // a server's refusal of the client comes after the handshake
	if err != nil {
		_ = b.Close()
	}
	return errors.Join(err, <-served)
}

// check has all meet who are promised to understand each other, and has other verifiers look at each certificate.
func (m meeting) check(t *testing.T) {
	t.Helper()
	handshakes := 0
	for server, serverBundles := range m.promised {
		for client, clientBundles := range m.promised {
			for _, clientTrusts := range serverBundles {
				for _, serverTrusts := range clientBundles {
					handshakes++
					if err := handshake(m.holders[server], m.holders[client], m.bundles[serverTrusts], m.bundles[clientTrusts], m.clock.Clock.Now()); err != nil {
						t.Errorf("a server with the certificate from %s and the bundle from %s, a client with the certificate from %s and the bundle from %s: %v", server, serverTrusts, client, clientTrusts, err)
					}
				}
			}
		}
	}
	verified := 0
	for name, h := range m.holders {
		for when, bundle := range m.bundles {
			promised := slices.Contains(m.promised[name], when)
			// What is not promised must fail where no chain leads to the bundle, or the test tests nothing.
			for who, verify := range signertest.Verifiers() {
				m.clock.Anchors = bundle
				err := verify(t.Context(), m.clock, h.chain)
				if promised && err != nil {
					t.Errorf("%s: the certificate from %s, the bundle from %s: %v", who, name, when, err)
				}
				if !promised && err == nil {
					t.Errorf("%s: the certificate from %s verifies with the bundle from %s, which was not to be expected", who, name, when)
				}
				verified++
			}
		}
	}
	t.Logf("%d handshakes, %d verifications", handshakes, verified)
}

// TestHandshakes has servers and clients meet in each phase, whatever each of them has learned.
func TestHandshakes(t *testing.T) {
	// GnuTLS cannot be told the time, so each phase is reached a little before the time that it is now.
	rehearsal := newStory(t, managed())
	reached := map[string]time.Duration{}
	pass(rehearsal, func(phase string) { reached[phase] = rehearsal.clock.Since(start) })

	for _, algorithm := range []string{"ECDSA-P256", "Ed25519", "RSA-3072"} {
		for _, phase := range []string{"Publishing", "Signing", "done", "emergency"} {
			t.Run(algorithm+"/"+phase, func(t *testing.T) {
				config := managed()
				config.Managed.KeyAlgorithm = algorithm
				s := newStory(t, config)
				back := reached[phase]
				if phase == "emergency" {
					back = reached["Publishing"]
				}
				s.clock.SetTime(time.Now().Add(-back - time.Minute))
				meetIn(t, s, phase)
			})
		}
	}
}

// pass goes through a rotation and says when a phase begins.
func pass(s *story, begins func(phase string)) {
	s.t.Helper()
	s.until("both roots are seen", s.begun("Publishing"))
	begins("Publishing")
	s.until("the new root signs", s.phase("Signing"))
	begins("Signing")
	s.until("the old root is gone", s.phase("idle"))
	begins("done")
}

// meetIn has everybody meet in a phase.
func meetIn(t *testing.T, s *story, phase string) {
	m := meeting{clock: signertest.Subject{Clock: s.clock}, holders: map[string]holder{}, bundles: map[string][]*x509.Certificate{}}
	s.until("a CA", func() bool { return s.known().Root != "" })
	m.holders["before"], m.bundles["before"] = s.enrol(), s.bundle.anchors
	var late holder // the last one who was given a chain with the old root in it
	s.until("both roots", s.begun("Publishing"))
	m.bundles["meanwhile"] = s.bundle.anchors
	switch phase {
	case "Publishing":
		m.holders["now"] = s.enrol()
		m.promised = map[string][]string{"before": {"before", "meanwhile"}, "now": {"before", "meanwhile"}}
		m.bundles["after"] = m.bundles["meanwhile"][1:]
	case "emergency":
		s.emergency = true
		s.say("certwright.dev/compromised-root", s.known().Root)
		s.until("a new root", func() bool { return s.known().Rotation == nil })
		m.holders["now"], m.bundles["after"] = s.enrol(), s.bundle.anchors
		m.promised = map[string][]string{"now": {"after"}}
		// What the old root signed is worth nothing with the new bundle; with the old one nobody can take it away.
		delete(m.bundles, "before")
		m.promised["before"] = []string{"meanwhile"}
	default:
		s.until("the new root signs", s.phase("Signing"))
		m.holders["now"], m.bundles["after"] = s.enrol(), m.bundles["meanwhile"][1:]
		// Whoever learns late, or early: all three bundles verify what is signed now.
		m.promised = map[string][]string{"before": {"before", "meanwhile"}, "now": {"before", "meanwhile", "after"}}
		if phase == "Signing" {
			break
		}
		s.until("the old root is gone", func() bool {
			if s.phase("Signing")() {
				late = s.enrol()
			}
			return s.phase("idle")()
		})
		m.holders = map[string]holder{"while both were trusted": late, "now": s.enrol()}
		m.bundles["after"] = s.bundle.anchors
		m.promised = map[string][]string{"while both were trusted": {"before", "meanwhile", "after"}, "now": {"meanwhile", "after"}}
	}
	m.check(t)
}
