// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"math/rand/v2"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/excerpt"
)

// source turns fuzzed bytes into choices.
type source struct{ data []byte }

func (s *source) pick(n int) int {
	if len(s.data) == 0 {
		return 0
	}
	b := s.data[0]
	s.data = s.data[1:]
	return int(b) % n
}

// some picks a subset.
func some[T any](s *source, from ...T) []T {
	var picked []T
	for _, v := range from {
		if s.pick(2) == 1 {
			picked = append(picked, v)
		}
	}
	return picked
}

func (s *source) policy() *v1alpha1.CertificatePolicy {
	return plainPolicy(func(spec *v1alpha1.CertificatePolicySpec) {
		spec.Approval = []v1alpha1.Approval{"Automatic", "Manual"}[s.pick(2)]
		spec.Requesters.Groups = some(s, "system:authenticated")
		spec.Requesters.ServiceAccounts = some(s, "*", "web")
		spec.Allow = v1alpha1.Allow{
			DNSNames:    some(s, "{service}.{namespace}.svc", "{hostname}.{service}.svc", "*.svc", "{serviceAccount}.svc", "{pod}.svc", "x.svc"),
			Wildcards:   s.pick(2) == 1,
			URIs:        some(s, "spiffe://{trustDomain}/sa/{serviceAccount}", "spiffe://td.example/*/*"),
			IPAddresses: some(s, "pod", "10.0.0.0/8", "192.0.2.1"), EmailAddresses: some(s, "*@example.com"), CommonNames: some(s, "w*", "{namespace}"),
			Subject: v1alpha1.Subject{Organizations: some(s, "{namespace}", "*"), SerialNumbers: some(s, "1")},
			Usages:  some(s, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth),
			Keys:    some(s, v1alpha1.Key{Algorithm: "ECDSA", MinSize: 384}, v1alpha1.Key{Algorithm: "ECDSA"}, v1alpha1.Key{Algorithm: "RSA", MinSize: 3072}),
			IsCA:    s.pick(2) == 1,
		}
	})
}

func (s *source) request(t testing.TB, free string) csr.Request {
	return plainRequest(func(r *csr.Request) {
		r.Requester = serviceAccount("shop", []string{"web", "a.b", "x"}[s.pick(3)])
		r.DNSNames = some(s, "web.shop.svc", "host-0.db.svc", "x.svc", "*.svc", free)
		r.EmailAddresses = some(s, "ops@example.com", free)
		r.Subject.CommonName = []string{"", "web", "shop", free}[s.pick(4)]
		r.Subject.Organization = some(s, "", "shop", free)
		r.Usages = some(s, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth)
		r.Key = csr.Key{Algorithm: []string{"ECDSA", "RSA"}[s.pick(2)], Size: 256 * (1 + s.pick(16))}
		r.IsCA = s.pick(4) == 1
		r.IPAddresses = some(s, netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("192.0.2.1"), netip.Addr{})
		if uri, err := url.Parse(free); err == nil && s.pick(3) == 1 {
			r.URIs = append(r.URIs, uri)
		}
		if s.pick(3) == 1 {
			r.URIs = append(r.URIs, mustURL(t, "spiffe://td.example/sa/web"))
		}
	})
}

// FuzzDecide has these properties: nothing panics; adding policies takes no permit away; and taking an entry away from what
// a policy allows permits nothing that was not permitted.
func FuzzDecide(f *testing.F) {
	f.Add([]byte{}, "")
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 300 {
		data := make([]byte, 120)
		for j := range data {
			data[j] = byte(random.IntN(256))
			if i%3 == 0 {
				data[j] |= 1 // allows and asks for most
			}
		}
		f.Add(data, []string{"a.svc", "spiffe://td.example/a/b", "ops@example.com", "w"}[i%4])
	}
	f.Add([]byte("\x00\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01"), "spiffe://td.example/a/b")
	f.Add([]byte(strings.Repeat("\x01\x00\x01\x01", 60)), "a.svc")
	f.Add([]byte(strings.Repeat("\x01", 24)+strings.Repeat("\x00", 24)+strings.Repeat("\x01", 99)), "https://a@b/../c?d#e")
	f.Fuzz(func(t *testing.T, data []byte, free string) {
		s := &source{data}
		one, two := s.policy(), s.policy()
		req := s.request(t, free)
		facts := plainFacts(func(f *Facts) {
			f.Services = some(s, f.Services...)
			if s.pick(4) == 1 {
				f.Pod = nil
			}
			if s.pick(8) == 1 {
				f.Namespace = nil
			}
			f.PodProblem = []string{"", "", "", free}[s.pick(4)]
		})

		alone := Decide(req, facts, []*Policy{mustCompile(t, one)})
		both := Decide(req, facts, []*Policy{mustCompile(t, one), mustCompile(t, two)})
		if alone.Verdict == Permit && both.Verdict != Permit {
			t.Errorf("a second policy took a permit away: %s", both.Message())
		}
		if alone.Verdict == Deny && both.Verdict == NoOpinion {
			t.Error("a second policy took a denial away")
		}
		for _, d := range []Decision{alone, both} {
			if m := d.Message(); m == "" || len(m) > excerpt.MaxCondition {
				t.Errorf("a message of %d bytes", len(m))
			}
			if (d.Verdict == Deny) != (len(d.Denials) > 0) || (d.Verdict == Permit) != (d.Policy != "") {
				t.Errorf("a decision that contradicts itself: %+v", d)
			}
		}
		if alone.Verdict == Permit {
			return
		}
		for i, less := range narrower(one) {
			if d := Decide(req, facts, []*Policy{mustCompile(t, less)}); d.Verdict == Permit {
				t.Errorf("narrower policy %d permits: %+v", i, less.Spec.Allow)
			}
		}
	})
}

// narrower returns the policy once without the last entry of each list, and without each flag.
func narrower(p *v1alpha1.CertificatePolicy) []*v1alpha1.CertificatePolicy {
	var all []*v1alpha1.CertificatePolicy
	for _, narrow := range []func(*v1alpha1.Allow){
		func(a *v1alpha1.Allow) { a.DNSNames = shorter(a.DNSNames) }, func(a *v1alpha1.Allow) { a.URIs = shorter(a.URIs) },
		func(a *v1alpha1.Allow) { a.IPAddresses = shorter(a.IPAddresses) }, func(a *v1alpha1.Allow) { a.EmailAddresses = shorter(a.EmailAddresses) },
		func(a *v1alpha1.Allow) { a.CommonNames = shorter(a.CommonNames) }, func(a *v1alpha1.Allow) { a.Usages = shorter(a.Usages) },
		func(a *v1alpha1.Allow) { a.Keys = shorter(a.Keys) }, func(a *v1alpha1.Allow) { a.Subject.Organizations = shorter(a.Subject.Organizations) },
		func(a *v1alpha1.Allow) { a.Subject.SerialNumbers = shorter(a.Subject.SerialNumbers) },
		func(a *v1alpha1.Allow) { a.IsCA = false }, func(a *v1alpha1.Allow) { a.Wildcards = false },
	} {
		less := p.DeepCopy()
		narrow(&less.Spec.Allow)
		all = append(all, less)
	}
	return all
}

func shorter[T any](list []T) []T { return list[:max(len(list)-1, 0)] }
