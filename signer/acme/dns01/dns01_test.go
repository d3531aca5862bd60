// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dns01

import (
	"errors"
	"strings"
	"testing"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/acme/challenge"
	"github.com/certwright/certwright/signer/acme/dns01/bind9"
	"github.com/certwright/certwright/signer/acme/dns01/txt"
	"github.com/certwright/certwright/signer/remote"
)

const secret = "c2l4dGVlbiBieXRlcyBhbmQgc29tZSBtb3JlIG9mIHRoZW0="

// world has a zone of ours, one that serves nothing but challenges, one of somebody else that our key may write to as well, and
// one that a requester controls and our key cannot write to.
func world(t *testing.T) *bind9.Server {
	t.Helper()
	ours := "update-policy { grant k zonesub TXT; };"
	base := "@ NS ns1\nns1 A 127.0.0.1\n"
	return bind9.Start(t, bind9.Config{
		Keys: []bind9.Key{{Name: "k", Algorithm: "hmac-sha256", Secret: secret}},
		Zones: []bind9.Zone{
			{Name: "example.test.", Options: ours, Records: base + "_acme-challenge.delegated CNAME delegated.auth.test."},
			{Name: "auth.test.", Options: ours},
			{Name: "victim.test.", Options: ours, Records: base + "* A 192.0.2.1"},
			{Name: "evil.test.", Records: base + "_acme-challenge CNAME _acme-challenge.www.victim.test.\n_acme-challenge.a CNAME shop.victim.test."},
		},
	})
}

func solver(t *testing.T, s *bind9.Server, delegations ...string) *Solver {
	t.Helper()
	object := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "certwright-system", Name: "tsig"}, Data: map[string][]byte{"key": []byte(secret)}}
	made, err := New(Options{
		Secrets:       remote.Secrets{Reader: fake.NewClientBuilder().WithObjects(object).Build(), Namespace: "certwright-system"},
		AuthorityPort: uint16(s.Port),
	}, v1alpha1.DNS01{
		Nameservers: []string{s.Address()},
		Delegations: delegations,
		RFC2136: &v1alpha1.RFC2136{
			Server: s.Address(), TSIG: &v1alpha1.TSIG{KeyName: "k", SecretRef: v1alpha1.SecretKeyRef{Name: "tsig", Key: "key"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func challengeFor(domain, token string) challenge.Challenge {
	return challenge.Challenge{Type: challenge.DNS01, Domain: domain, Token: token, KeyAuthorization: token + ".thumbprint"}
}

// locate sets the challenge's place.
func locate(t *testing.T, s *Solver, c challenge.Challenge) challenge.Challenge {
	t.Helper()
	place, err := s.Locate(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	c.Place = place
	return c
}

func TestAnswersAChallenge(t *testing.T) {
	server := world(t)
	for title, c := range map[string]struct {
		domain, place string
		delegations   []string
	}{
		"name":                    {"www.example.test", "example.test. _acme-challenge.www.example.test.", nil},
		"apex":                    {"example.test", "example.test. _acme-challenge.example.test.", nil},
		"delegated into a domain": {"delegated.example.test", "auth.test. delegated.auth.test.", []string{"other.test", "auth.test"}},
		"delegated to a name":     {"delegated.example.test", "auth.test. delegated.auth.test.", []string{"Delegated.auth.test."}},
	} {
		t.Run(title, func(t *testing.T) {
			s := solver(t, server, c.delegations...)
			if err := s.Check(t.Context()); err != nil {
				t.Error(err)
			}
			// A name and its wildcard are two challenges at one name.
			apex, wildcard := locate(t, s, challengeFor(c.domain, "a")), locate(t, s, challengeFor(c.domain, "b"))
			if apex.Place != c.place || wildcard.Place != c.place {
				t.Errorf("places %q and %q, want %q", apex.Place, wildcard.Place, c.place)
			}
			for range 2 {
				must(t, s.Present(t.Context(), apex))
				must(t, s.Present(t.Context(), wildcard))
			}
			must(t, s.Ready(t.Context(), apex))
			must(t, s.Ready(t.Context(), wildcard))
			for range 2 {
				must(t, s.CleanUp(t.Context(), apex))
			}
			if err := s.Ready(t.Context(), apex); err == nil || !strings.Contains(err.Error(), "does not serve the value yet") {
				t.Errorf("after it was removed: %v", err)
			}
			must(t, s.Ready(t.Context(), wildcard))
			must(t, s.CleanUp(t.Context(), wildcard))
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// Who controls evil.test and may ask for certificates of it gets nothing written into victim.test, which our key could: the
// record would take shop.victim.test out of the wildcard that serves it.
func TestAliasIntoAZoneOfSomebodyElse(t *testing.T) {
	server := world(t)
	for title, delegations := range map[string][]string{"by default": nil, "with delegations": {"auth.test", "notvictim.test", "tim.test", "www.victim.test.auth.test"}} {
		t.Run(title, func(t *testing.T) {
			s := solver(t, server, delegations...)
			for _, domain := range []string{"evil.test", "a.evil.test"} {
				place, err := s.Locate(t.Context(), challengeFor(domain, "token"))
				var misconfigured *txt.ConfigError
				if !errors.As(err, &misconfigured) || place != "" || !strings.Contains(err.Error(), "victim.test., which is in none of the domains in dns01.delegations") {
					t.Errorf("%s: place %q, error %v", domain, place, err)
				}
			}
		})
	}
	answer, _, err := new(dns.Client).ExchangeContext(t.Context(), new(dns.Msg).SetQuestion("shop.victim.test.", dns.TypeA), server.Address())
	if err != nil || len(answer.Answer) != 1 {
		t.Errorf("shop.victim.test is no longer served by the wildcard: %v, %v", answer, err)
	}
}

// Where the administrator lets an alias lead into a domain that serves more than challenges, what is written there still proves
// nothing about the name there: its value is that of the challenge for the requester's own name (RFC 8555, section 8.1).
func TestValueBelongsToOneChallenge(t *testing.T) {
	server := world(t)
	s := solver(t, server, "victim.test")
	evil := locate(t, s, challengeFor("evil.test", "token of evil.test"))
	victim := locate(t, s, challengeFor("www.victim.test", "token of www.victim.test"))
	if evil.Place != victim.Place {
		t.Fatalf("places %q and %q: the test wants the same", evil.Place, victim.Place)
	}
	must(t, s.Present(t.Context(), evil))
	must(t, s.Ready(t.Context(), evil))
	if err := s.Ready(t.Context(), victim); err == nil {
		t.Error("the answer to the challenge of evil.test answers that of www.victim.test")
	}
	must(t, s.CleanUp(t.Context(), victim)) // and takes nothing from evil.test
	must(t, s.Ready(t.Context(), evil))
}

func TestLocateRefuses(t *testing.T) {
	s := solver(t, world(t))
	for domain, want := range map[string]string{
		`evil\.test`:     "is no DNS name",
		"*.example.test": "is no DNS name",

		strings.Repeat("a.", 119) + "test": "is no DNS name",
		"":                                 "is no DNS name",
	} {
		if place, err := s.Locate(t.Context(), challengeFor(domain, "token")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, place %q, want an error with %q", domain, err, place, want)
		}
	}
}

// A place is only one that Locate could have returned, whatever the stored state says.
func TestPlaceIsChecked(t *testing.T) {
	s := solver(t, world(t))
	for _, place := range []string{"", "example.test.", "example.test. www.victim.test.", "example.test _acme-challenge.example.test", ". .", "a b c", "Example.test. _acme-challenge.Example.test."} {
		c := challengeFor("www.example.test", "token")
		c.Place = place
		for name, err := range map[string]error{"Present": s.Present(t.Context(), c), "Ready": s.Ready(t.Context(), c), "CleanUp": s.CleanUp(t.Context(), c)} {
			if err == nil || !strings.Contains(err.Error(), "is none that Locate returned") {
				t.Errorf("%s with the place %q: %v", name, place, err)
			}
		}
	}
}

func TestNew(t *testing.T) {
	rfc := &v1alpha1.RFC2136{Server: "ns1.example.com"}
	for title, c := range map[string]struct {
		config v1alpha1.DNS01
		want   string // the error's start; empty if there is none
	}{
		"rfc2136":    {v1alpha1.DNS01{RFC2136: rfc}, ""},
		"webhook":    {v1alpha1.DNS01{Webhook: &v1alpha1.DNSWebhook{URL: "unix:///run/certwright/dns.sock"}}, ""},
		"none":       {v1alpha1.DNS01{}, "dns01: exactly one provider"},
		"both":       {v1alpha1.DNS01{RFC2136: rfc, Webhook: &v1alpha1.DNSWebhook{}}, "dns01: exactly one provider"},
		"nameserver": {v1alpha1.DNS01{RFC2136: rfc, Nameservers: []string{"192.0.2.1", "ns1"}}, "dns01.nameservers[1]: "},
		"delegation": {v1alpha1.DNS01{RFC2136: rfc, Delegations: []string{"*.example.com"}}, "dns01.delegations[0]: "},
		"server":     {v1alpha1.DNS01{RFC2136: &v1alpha1.RFC2136{}}, "dns01.rfc2136.server: "},
		"token":      {v1alpha1.DNS01{Webhook: &v1alpha1.DNSWebhook{URL: "https://example.com"}}, "dns01.webhook.tokenRef: "},
	} {
		t.Run(title, func(t *testing.T) {
			_, err := New(Options{}, c.config)
			if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("error %v, want one that begins with %q", err, c.want)
			}
		})
	}
}
