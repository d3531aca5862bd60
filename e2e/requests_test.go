// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// wish is what somebody asks for.
type wish struct {
	template x509.CertificateRequest
	key      crypto.Signer
	spec     certificatesv1.CertificateSigningRequestSpec
	// after is put behind the PEM block of the request.
	after string
}

type option func(*wish)

func dnsNames(names ...string) option { return func(w *wish) { w.template.DNSNames = names } }

func commonName(name string) option {
	return func(w *wish) { w.template.Subject = pkix.Name{CommonName: name} }
}

func uris(texts ...string) option {
	return func(w *wish) {
		for _, text := range texts {
			u, err := url.Parse(text)
			if err != nil {
				panic(err) // a mistake in a test
			}
			w.template.URIs = append(w.template.URIs, u)
		}
	}
}

func emailAddresses(addresses ...string) option {
	return func(w *wish) { w.template.EmailAddresses = addresses }
}

func ipAddresses(addresses ...string) option {
	return func(w *wish) {
		for _, text := range addresses {
			w.template.IPAddresses = append(w.template.IPAddresses, net.ParseIP(text))
		}
	}
}

func key(key crypto.Signer) option { return func(w *wish) { w.key = key } }

func usages(usages ...certificatesv1.KeyUsage) option {
	return func(w *wish) { w.spec.Usages = usages }
}

func seconds(n int32) option { return func(w *wish) { w.spec.ExpirationSeconds = &n } }

func signerName(name string) option { return func(w *wish) { w.spec.SignerName = name } }

// spiffeID is the one that a service account may have by the story's policies.
func (s *story) spiffeID(serviceAccount string) string {
	return "spiffe://cluster.local/ns/" + s.namespace + "/sa/" + serviceAccount
}

func newCSR() *certificatesv1.CertificateSigningRequest {
	return &certificatesv1.CertificateSigningRequest{}
}

// newRequest makes a key and an object that is not created yet; by default it asks the story's signerName for a client
// certificate in the name of "someone".
func (s *story) newRequest(options ...option) (*certificatesv1.CertificateSigningRequest, error) {
	w := wish{spec: certificatesv1.CertificateSigningRequestSpec{
		SignerName: s.signerName,
		Usages:     []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth},
	}}
	w.template.Subject.CommonName = "someone"
	for _, o := range options {
		o(&w)
	}
	if w.key == nil {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		w.key = key
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &w.template, w.key)
	if err != nil {
		return nil, err
	}
	w.spec.Request = append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), w.after...)
	o := newCSR()
	o.GenerateName, o.Spec = s.name+"-", w.spec
	return o, nil
}

// request creates a request as this user.
func (s *story) request(as user, options ...option) *certificatesv1.CertificateSigningRequest {
	s.Helper()
	o, err := s.newRequest(options...)
	s.must(err, "making a request")
	s.must(as.Create(s.ctx, o), "requesting a certificate as %s", as.name)
	s.made = append(s.made, o)
	return o
}

// decide writes a condition as kubectl certificate approve and deny do: again when somebody else, such as the approver with its
// annotation, wrote to the request in between.
func (s *story) decide(as user, o *certificatesv1.CertificateSigningRequest, condition certificatesv1.RequestConditionType, message string) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		var fresh certificatesv1.CertificateSigningRequest
		if err := as.Get(s.ctx, client.ObjectKeyFromObject(o), &fresh); err != nil {
			return err
		}
		fresh.Status.Conditions = append(fresh.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: condition, Status: corev1.ConditionTrue, Reason: "PersonDecides", Message: message, LastUpdateTime: metav1.Now(),
		})
		return as.SubResource("approval").Update(s.ctx, &fresh)
	})
}

// approve approves as this person, who may.
func (s *story) approve(as user, o *certificatesv1.CertificateSigningRequest) {
	s.Helper()
	s.must(s.decide(as, o, certificatesv1.CertificateApproved, "approved by hand"), "approving %s as %s", o.Name, as.name)
}

// condition returns the condition of that type, or nil.
func condition(o *certificatesv1.CertificateSigningRequest, kind certificatesv1.RequestConditionType) *certificatesv1.CertificateSigningRequestCondition {
	for i := range o.Status.Conditions {
		if o.Status.Conditions[i].Type == kind {
			return &o.Status.Conditions[i]
		}
	}
	return nil
}

// becomes waits until the request has the condition, and checks its reason and that the message has all these parts.
func (s *story) becomes(o *certificatesv1.CertificateSigningRequest, kind certificatesv1.RequestConditionType, reason string, parts ...string) {
	s.Helper()
	s.until(fmt.Sprintf("request %s to be %s", o.Name, kind), soon, func(ctx context.Context) error {
		if err := admin.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		if condition(o, kind) == nil {
			return fmt.Errorf("its conditions are %+v", o.Status.Conditions)
		}
		return nil
	})
	c := condition(o, kind)
	if c.Reason != reason {
		s.Errorf("request %s is %s with reason %q, want %q; message: %s", o.Name, kind, c.Reason, reason, c.Message)
	}
	for _, part := range parts {
		if !strings.Contains(c.Message, part) {
			s.Errorf("request %s is %s with a message without %q: %s", o.Name, kind, part, c.Message)
		}
	}
	if kind != certificatesv1.CertificateApproved && len(o.Status.Certificate) > 0 {
		s.Errorf("request %s is %s and yet has a certificate", o.Name, kind)
	}
}

// issued waits for the certificate and returns it.
func (s *story) issued(o *certificatesv1.CertificateSigningRequest) *x509.Certificate {
	s.Helper()
	s.until("the certificate of request "+o.Name, soon, func(ctx context.Context) error {
		if err := admin.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		if len(o.Status.Certificate) == 0 {
			return fmt.Errorf("its conditions are %+v", o.Status.Conditions)
		}
		return nil
	})
	leaf, err := leafOf(o)
	s.must(err, "reading the certificate of request %s", o.Name)
	return leaf
}

// leafOf returns the first certificate that was issued for the request.
func leafOf(o *certificatesv1.CertificateSigningRequest) (*x509.Certificate, error) {
	block, _ := pem.Decode(o.Status.Certificate)
	if block == nil {
		return nil, fmt.Errorf("request %s has no certificate", o.Name)
	}
	return x509.ParseCertificate(block.Bytes)
}

// warned waits for the event of that reason about the request, and returns what it says.
func (s *story) warned(o *certificatesv1.CertificateSigningRequest, reason string) string {
	s.Helper()
	var note string
	s.until(fmt.Sprintf("the event %s about request %s", reason, o.Name), soon, func(ctx context.Context) error {
		events, err := eventsAbout(ctx, o)
		if err != nil {
			return err
		}
		var others []string
		for _, e := range events {
			if e.Reason == reason {
				note = e.Message
				return nil
			}
			others = append(others, e.Reason)
		}
		return fmt.Errorf("its events are %q", others)
	})
	return note
}

// eventsAbout returns the events about a request.
func eventsAbout(ctx context.Context, o *certificatesv1.CertificateSigningRequest) ([]corev1.Event, error) {
	list, err := kube.CoreV1().Events(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(o.UID)})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// untouched checks that nobody wrote to the request since it was created, and that no event speaks of it.
func (s *story) untouched(o *certificatesv1.CertificateSigningRequest) {
	s.Helper()
	var now certificatesv1.CertificateSigningRequest
	s.must(admin.Get(s.ctx, client.ObjectKeyFromObject(o), &now), "reading request %s", o.Name)
	if now.ResourceVersion != o.ResourceVersion {
		s.Errorf("request %s for %s was changed: %+v", o.Name, o.Spec.SignerName, now.Status)
	}
	events, err := eventsAbout(s.ctx, o)
	s.must(err, "listing events")
	for _, e := range events {
		s.Errorf("request %s for %s has an event: %s: %s", o.Name, o.Spec.SignerName, e.Reason, e.Message)
	}
}
