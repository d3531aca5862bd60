// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/certwright/certwright/api/v1alpha1"
)

// Pod a asks for what belongs to pod b, of its own namespace and of another: denied, with every field that is wrong at once.
func TestInvariant11_APodThatAsksForAnothersNamesIsDeniedWithEveryField(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	policy := s.policy()
	s.makeServiceAccounts("a", "b")
	s.service("a", false)
	s.service("b", false)
	a := s.podUser(s.idlePod("a", "a"))

	own := "a." + s.namespace + ".svc"
	s.issued(s.request(a, commonName(""), dnsNames(own), uris(s.spiffeID("a"))))

	neighbour := s.request(a, commonName("admin"), dnsNames(own, "b."+s.namespace+".svc"), uris(s.spiffeID("b")),
		usages(certificatesv1.UsageServerAuth, certificatesv1.UsageCodeSigning))
	s.becomes(neighbour, certificatesv1.CertificateDenied, "PolicyDenies", policy.Name,
		`commonNames: "admin"`, `dnsNames: "b.`+s.namespace+`.svc"`, `uris: "`+s.spiffeID("b")+`"`, `usages: "code signing"`)
	s.warned(neighbour, "PolicyDenies")

	stranger := s.request(a, commonName(""), dnsNames("a.kube-system.svc"), uris("spiffe://cluster.local/ns/kube-system/sa/a"))
	s.becomes(stranger, certificatesv1.CertificateDenied, "PolicyDenies", `"a.kube-system.svc"`, `"spiffe://cluster.local/ns/kube-system/sa/a"`)
}

// Names that belong to pods are for those who prove to be one: not for a person, and not for a token bound to no pod.
func TestInvariant4_ARequesterWithoutAPodGetsNoNameOfAPod(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	someone := s.requester()
	s.policy()
	s.policy(func(p *v1alpha1.CertificatePolicySpec) {
		p.Requesters = v1alpha1.Requesters{Users: []string{someone.name}}
	})
	s.makeServiceAccounts("a")
	s.service("a", false)
	s.idlePod("a", "a")
	name := "a." + s.namespace + ".svc"
	for _, u := range []user{someone, s.serviceAccount(s.namespace, "a")} {
		s.becomes(s.request(u, commonName(""), dnsNames(name)), certificatesv1.CertificateDenied, "PolicyDenies", "dnsNames", name)
	}
}

// Whatever the API server stamps is compared with the pod as it lives: UID, service account and node.
func TestInvariant4_AnIdentityThatDoesNotFitTheLivePodIsDenied(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	s.policy()
	s.makeServiceAccounts("a", "b")
	pod := s.idlePod("a", "a")
	for _, c := range []struct{ name, account, podName, uid, node, want string }{
		{"UID of another pod", "a", "a", "00000000-0000-0000-0000-000000000000", pod.Spec.NodeName, "was replaced"},
		{"another service account", "b", "a", string(pod.UID), pod.Spec.NodeName, "runs as service account a"},
		{"another node", "a", "a", string(pod.UID), "elsewhere", "runs on node " + pod.Spec.NodeName},
		{"no such pod", "a", "gone", string(pod.UID), pod.Spec.NodeName, "is gone"},
	} {
		u := s.impersonate(rest.ImpersonationConfig{
			UserName: "system:serviceaccount:" + s.namespace + ":" + c.account,
			Extra: map[string][]string{
				"authentication.kubernetes.io/pod-name": {c.podName}, "authentication.kubernetes.io/pod-uid": {c.uid},
				"authentication.kubernetes.io/node-name": {c.node},
			},
		})
		s.Logf("case: %s", c.name)
		s.becomes(s.request(u, commonName(""), uris(s.spiffeID(c.account))), certificatesv1.CertificateDenied, "PolicyDenies", "requester", c.want)
	}
}

// A request that no policy selects is left alone, with one event that says so, however often it is looked at.
func TestInvariant11_NoMatchIsNoOpinionAndOneEvent(t *testing.T) {
	t.Parallel()
	s := tell(t)
	o := s.signer()
	someone, other := s.person("someone", mayRequest), s.person("other", mayRequest)
	request := s.request(someone)
	s.warned(request, "NoPolicy")

	// A change of the Signer and a new policy have all pending requests looked at again.
	s.change(o, func() { o.Spec.Limits.MaxDuration.Duration = 2 * time.Hour })
	policy := s.policy(forPeople(other))
	s.issued(s.request(other))
	s.untouchedBut(request, "NoPolicy")

	// Once a policy selects it, it is decided, without being made again.
	s.change(policy, func() { policy.Spec.Requesters.Users = []string{someone.name} })
	s.issued(request)
}

// untouchedBut checks that nobody wrote to the request, and that exactly one event speaks of it, for this reason.
func (s *story) untouchedBut(o *certificatesv1.CertificateSigningRequest, reason string) {
	s.Helper()
	events, err := eventsAbout(s.ctx, o)
	s.must(err, "listing events")
	if len(events) != 1 || events[0].Reason != reason || events[0].Series != nil || events[0].Count > 1 {
		s.Errorf("request %s has the events %+v, want one %s", o.Name, events, reason)
	}
	now := newCSR()
	now.Name = o.Name
	s.refresh(now)
	if now.ResourceVersion != o.ResourceVersion {
		s.Errorf("request %s was changed: %+v", o.Name, now.Status)
	}
}

// Where the request holds what cannot be represented, nothing is left out silently: it is refused, with the reason.
func TestInvariant3_WhatCannotBeRepresentedIsRefused(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	someone := s.requester()
	s.policy(forPeople(someone))
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	s.must(err, "making a weak key")
	extension := func(value []byte, id ...int) option {
		return func(w *wish) {
			w.template.ExtraExtensions = append(w.template.ExtraExtensions, pkix.Extension{Id: id, Value: value})
		}
	}
	for _, c := range []struct {
		name, reason string
		options      []option
	}{
		{"an extension that is not known", "ExtensionNotAllowed", []option{extension([]byte{5, 0}, 1, 3, 6, 1, 4, 1, 99999, 1)}},
		{"a second PEM block", "PEMSecondBlock", []option{func(w *wish) {
			w.after = "-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n"
		}}},
		{"text behind the PEM block", "PEMTrailingText", []option{func(w *wish) { w.after = "and more\n" }}},
		{"a weak key", "KeySizeNotAllowed", []option{func(w *wish) { w.key = weak }}},
	} {
		s.Logf("case: %s", c.name)
		s.becomes(s.request(someone, c.options...), certificatesv1.CertificateDenied, c.reason)
	}
}

// The Signer's own limits hold, although a policy allows more and a person approves.
func TestInvariant2_TheSignersLimitsHoldWhoeverApproved(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer(func(spec *v1alpha1.SignerSpec) {
		spec.Limits.MaxDuration.Duration = 10 * time.Minute
		spec.Limits.PermittedDNSDomains = []string{"example.com"}
	})
	someone, boss := s.requester(), s.approver()
	s.policy(manual, forPeople(someone), func(p *v1alpha1.CertificatePolicySpec) {
		p.Allow.DNSNames = []string{"shop.example.com", "shop.example.org"}
		p.Allow.Usages = append(p.Allow.Usages, certificatesv1.UsageCertSign, certificatesv1.UsageCodeSigning)
		p.Allow.IsCA = true
		p.Allow.MaxDuration = &metav1.Duration{Duration: 24 * time.Hour}
	})
	isCA, err := asn1.Marshal(struct{ CA bool }{true})
	s.must(err, "encoding basic constraints")
	asCA := func(w *wish) {
		w.template.ExtraExtensions = append(w.template.ExtraExtensions, pkix.Extension{Id: []int{2, 5, 29, 19}, Critical: true, Value: isCA})
	}
	for _, c := range []struct {
		want    []string
		options []option
	}{
		{[]string{"isCA"}, []option{asCA, usages(certificatesv1.UsageCertSign)}},
		{[]string{"usages", "code signing"}, []option{usages(certificatesv1.UsageCodeSigning)}},
		{[]string{"dnsNames", "shop.example.org"}, []option{dnsNames("shop.example.org")}},
	} {
		request := s.request(someone, c.options...)
		s.approve(boss, request)
		s.becomes(request, certificatesv1.CertificateFailed, "SignerLimitExceeded", c.want...)
	}
	// A lifetime is a wish: it is shortened, not refused.
	request := s.request(someone, dnsNames("shop.example.com"), seconds(24*60*60))
	s.approve(boss, request)
	leaf := s.issued(request)
	if left := time.Until(leaf.NotAfter); left > 10*time.Minute || left < 8*time.Minute {
		s.Errorf("the certificate is valid for %s, want 10m", left)
	}
	if leaf.IsCA || len(leaf.UnhandledCriticalExtensions) > 0 {
		s.Errorf("the certificate says CA: %t, unknown critical extensions: %v", leaf.IsCA, leaf.UnhandledCriticalExtensions)
	}
}

// Labels and annotations of a request are anybody's: they change nothing in the certificate, whatever they say.
func TestInvariant4_LabelsAndAnnotationsDecideNothing(t *testing.T) {
	t.Parallel()
	s := tell(t)
	someone, boss := s.requester(), s.approver()
	s.policy(manual, forPeople(someone))
	request := s.request(someone, commonName("someone"))
	s.approve(boss, request)
	s.change(request, func() {
		claims := map[string]string{}
		for _, key := range []string{"isCA", "is-ca", "ca", "duration", "dns-names", "signer", "usages", "policy"} {
			for _, prefix := range []string{"", "certwright.dev/", "cert-manager.io/"} {
				claims[prefix+key] = "true"
			}
		}
		claims["certwright.dev/dns-names"] = "shop.example.com"
		request.Annotations = claims
		request.Labels = map[string]string{"isCA": "true", "certwright.dev/is-ca": "true"}
	})
	s.signer()
	leaf := s.issued(request)
	if leaf.IsCA || len(leaf.DNSNames) > 0 || leaf.Subject.String() != "CN=someone" || len(leaf.ExtKeyUsage) != 1 || time.Until(leaf.NotAfter) > time.Hour {
		s.Errorf("labels or annotations got into the certificate: CA %t, DNS names %q, subject %s, until %s", leaf.IsCA, leaf.DNSNames, leaf.Subject, leaf.NotAfter)
	}
}
