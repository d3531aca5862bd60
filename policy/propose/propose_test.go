// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package propose

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/casefile"
)

var update = flag.Bool("update", false, "write the golden files")

// seen makes a request that was seen.
func seen(t *testing.T, r casefile.Request, facts policy.Facts) Seen {
	t.Helper()
	if r.Usages == nil {
		r.Usages = []certificatesv1.KeyUsage{"server auth"}
	}
	if r.SignerName == "" {
		r.SignerName = "example.com/internal"
	}
	object, err := r.Object()
	if err != nil {
		t.Fatal(err)
	}
	req, err := csr.Parse(object)
	if err != nil {
		t.Fatal(err)
	}
	facts.TrustDomain, facts.ClusterDomain = "cluster.local", "cluster.local"
	if namespace, _, ok := req.Requester.ServiceAccount(); ok {
		facts.Namespace = &policy.Namespace{Name: namespace, Labels: map[string]string{corev1.LabelMetadataName: namespace}}
	}
	return Seen{Request: req, Facts: facts, Lifetime: req.Duration}
}

func account(namespace, name string) casefile.Requester {
	return casefile.Requester{Username: "system:serviceaccount:" + namespace + ":" + name}
}

func bound(namespace, name, pod string) casefile.Requester {
	r := account(namespace, name)
	r.Extra = map[string]certificatesv1.ExtraValue{
		"authentication.kubernetes.io/pod-name": {pod}, "authentication.kubernetes.io/pod-uid": {"1"},
	}
	return r
}

func TestExplain(t *testing.T) {
	web := policy.Facts{
		Pod:      &policy.Pod{Name: "web-0", Hostname: "web-0", Subdomain: "peers", IPs: []netip.Addr{netip.MustParseAddr("10.0.0.7")}},
		Services: []policy.Service{{Name: "peers", Headless: true}, {Name: "shop"}, {Name: "web"}},
	}
	for name, c := range map[string]struct {
		request casefile.Request
		facts   policy.Facts
		list    string
		want    []string
	}{
		"Services": {casefile.Request{DNSNames: []string{"web.shop", "web.shop.svc", "shop.shop.svc.cluster.local", "db.shop.svc"}}, web, dnsNames, []string{
			"db.{namespace}.svc", "{service}.{namespace}", "{service}.{namespace}.svc", "{service}.{namespace}.svc.{clusterDomain}",
		}},
		"host names": {casefile.Request{DNSNames: []string{"web-0.peers.shop.svc", "web-1.peers.shop.svc", "web-0.web.shop.svc"}}, web, dnsNames, []string{
			"web-0.{service}.{namespace}.svc", "web-1.{service}.{namespace}.svc", "{hostname}.{service}.{namespace}.svc",
		}},
		"names of the outside": {casefile.Request{DNSNames: []string{"www.example.com", "*.example.com", "shop.example.com"}}, web, dnsNames, []string{"*.example.com", "shop.example.com", "www.example.com"}},
		"without a pod":        {casefile.Request{DNSNames: []string{"web.shop.svc"}}, policy.Facts{}, dnsNames, []string{"web.{namespace}.svc"}},
		"URIs": {casefile.Request{URIs: []string{"spiffe://cluster.local/ns/shop/sa/web", "spiffe://example.org/ns/shop/sa/shop", "spiffe://cluster.local/web"}}, web, uris, []string{
			"spiffe://example.org/ns/{namespace}/sa/shop", "spiffe://{trustDomain}/ns/{namespace}/sa/{serviceAccount}", "spiffe://{trustDomain}/{serviceAccount}",
		}},
		"URIs that no pattern says": {casefile.Request{URIs: []string{"https://example.com/?q=1", "https://example.com/*"}}, web, uris, nil},
		"addresses":                 {casefile.Request{IPAddresses: []string{"10.0.0.7", "10.0.0.8"}}, web, ipAddresses, []string{"10.0.0.8", "pod"}},
		"email addresses":           {casefile.Request{EmailAddresses: []string{"a@example.com", "*@example.com"}}, web, emailAddresses, []string{"a@example.com"}},
		"its name":                  {casefile.Request{CommonName: "web"}, web, commonNames, []string{"{serviceAccount}"}},
		"the name of a Service":     {casefile.Request{CommonName: "web.shop.svc"}, web, commonNames, []string{"{service}.{namespace}.svc"}},
		"another name":              {casefile.Request{CommonName: "db"}, web, commonNames, []string{"db"}},
		"a name of any":             {casefile.Request{CommonName: "*"}, web, commonNames, nil},
		"a name with braces":        {casefile.Request{CommonName: "{namespace}"}, web, commonNames, nil},
		"an organization":           {casefile.Request{Subject: v1alpha1.Subject{Organizations: []string{"a"}}}, web, "subject.organizations", []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.request.Requester = account("shop", "web")
			found := explain(seen(t, c.request, c.facts))[c.list]
			var got []string
			for value := range found {
				got = append(got, value)
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func proposal(t *testing.T, all ...Seen) *Proposal {
	t.Helper()
	p, err := New(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestGolden(t *testing.T) {
	service := func(name string) policy.Facts {
		return policy.Facts{Pod: &policy.Pod{Name: name + "-0"}, Services: []policy.Service{{Name: name}}}
	}
	day := &metav1.Duration{Duration: 24 * time.Hour}
	half := &metav1.Duration{Duration: 90 * time.Minute}
	web := func(namespace string, d *metav1.Duration) Seen {
		return seen(t, casefile.Request{
			Requester: bound(namespace, "web", "web-0"), DNSNames: []string{"web." + namespace + ".svc"}, Duration: d,
		}, service("web"))
	}
	guessed := web("shop", half)
	guessed.Guessed = true
	p := proposal(t,
		web("shop", day), guessed, web("bank", half),
		seen(t, casefile.Request{
			Requester: account("shop", "api"), URIs: []string{"spiffe://cluster.local/ns/shop/sa/api"}, DNSNames: []string{"*.example.com"},
			Key: casefile.Key{Algorithm: v1alpha1.RSA, Size: 3072}, IsCA: true, Subject: v1alpha1.Subject{Organizations: []string{"yes", "a: b # c"}},
		}, policy.Facts{}),
		seen(t, casefile.Request{
			Requester: account("shop", "api"), URIs: []string{"spiffe://cluster.local/ns/shop/sa/api"}, DNSNames: []string{"*.example.com"},
			Key: casefile.Key{Algorithm: v1alpha1.RSA}, IsCA: true, Subject: v1alpha1.Subject{Organizations: []string{"yes", "a: b # c"}},
		}, policy.Facts{}),
		seen(t, casefile.Request{Requester: casefile.Requester{Username: "alice"}, CommonName: "alice", Key: casefile.Key{Algorithm: v1alpha1.Ed25519}}, policy.Facts{}),
		seen(t, casefile.Request{SignerName: "example.com/other", Requester: casefile.Requester{Username: "alice"}, CommonName: "*"}, policy.Facts{}),
	)
	if len(p.Refused) != 1 || !strings.Contains(p.Refused[0].Reason, `commonNames: "*" not allowed`) || p.Policies != 4 {
		t.Errorf("%d policies, refused %+v", p.Policies, p.Refused)
	}
	path := filepath.Join("testdata", "proposal.golden.yaml")
	if *update {
		if err := os.WriteFile(path, p.YAML, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(p.YAML, want) {
		t.Errorf("got\n%s\nwant\n%s", p.YAML, want)
	}
}

// Nobody is selected who did not ask, and nothing is permitted that nobody asked for.
func TestLeastPrivilege(t *testing.T) {
	ask := func(namespace, name string, edit func(*casefile.Request)) Seen {
		r := casefile.Request{Requester: account(namespace, name), DNSNames: []string{"www.example.com"}}
		if edit != nil {
			edit(&r)
		}
		return seen(t, r, policy.Facts{})
	}
	p := proposal(t, ask("a", "x", nil), ask("a", "y", nil), ask("b", "y", nil), ask("c", "y", nil), ask("c", "z", func(r *casefile.Request) { r.IsCA = true }))
	if len(p.Refused) > 0 {
		t.Fatalf("refused %+v", p.Refused)
	}
	documents, err := casefile.Read("p.yaml", p.YAML)
	if err != nil {
		t.Fatal(err)
	}
	files, err := casefile.Policies(t.Context(), documents)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 3 {
		t.Errorf("%d policies, want 3:\n%s", len(files), p.YAML)
	}
	for name, c := range map[string]struct {
		seen Seen
		want policy.Verdict
	}{
		"asked":               {ask("b", "y", nil), policy.Permit},
		"of a merged one":     {ask("b", "x", nil), policy.NoOpinion},
		"of another":          {ask("c", "x", nil), policy.NoOpinion},
		"elsewhere":           {ask("d", "y", nil), policy.NoOpinion},
		"another name":        {ask("b", "y", func(r *casefile.Request) { r.DNSNames = []string{"a.example.com"} }), policy.Deny},
		"another usage":       {ask("b", "y", func(r *casefile.Request) { r.Usages = []certificatesv1.KeyUsage{"client auth"} }), policy.Deny},
		"a smaller key":       {ask("b", "y", func(r *casefile.Request) { r.Key.Algorithm = v1alpha1.RSA }), policy.Deny},
		"a CA":                {ask("b", "y", func(r *casefile.Request) { r.IsCA = true }), policy.Deny},
		"a CA, where asked":   {ask("c", "z", func(r *casefile.Request) { r.IsCA = true }), policy.Permit},
		"another signerName":  {ask("b", "y", func(r *casefile.Request) { r.SignerName = "example.com/b" }), policy.NoOpinion},
		"a user of that name": {ask("b", "y", func(r *casefile.Request) { r.Requester.Username = "y" }), policy.NoOpinion},
	} {
		if d := policy.Decide(c.seen.Request, c.seen.Facts, casefile.Compiled(files)); d.Verdict != c.want {
			t.Errorf("%s: %s, want %s", name, d.Verdict, c.want)
		}
	}
}

// More values than a policy may have are cut, and told.
func TestTooManyValues(t *testing.T) {
	for name, c := range map[string]struct {
		most int
		ask  func(r *casefile.Request, n string)
	}{
		"names":         {256, func(r *casefile.Request, n string) { r.DNSNames = []string{n + ".example.com"} }},
		"organizations": {64, func(r *casefile.Request, n string) { r.Subject.Organizations = []string{n} }},
	} {
		var all []Seen
		for i := range c.most + 1 {
			r := casefile.Request{Name: fmt.Sprintf("request-%03d", i), Requester: account("a", "b")}
			c.ask(&r, fmt.Sprintf("n%03d", i))
			all = append(all, seen(t, r, policy.Facts{}))
		}
		if p := proposal(t, all...); len(p.Refused) != 1 || p.Refused[0].Name != all[c.most].Request.Name {
			t.Errorf("%s: refused %+v", name, p.Refused)
		}
	}
}

// More requesters than a policy may list get several policies.
func TestManyRequesters(t *testing.T) {
	var all []Seen
	for i := range maxRequesters + 1 {
		name := fmt.Sprintf("n%03d", i)
		all = append(all, seen(t, casefile.Request{Requester: account("a", name)}, policy.Facts{}), seen(t, casefile.Request{Requester: casefile.Requester{Username: name}}, policy.Facts{}))
	}
	if p := proposal(t, all...); len(p.Refused) > 0 || p.Policies != 4 {
		t.Errorf("%d policies, want 4; refused %+v", p.Policies, p.Refused)
	}
}

func TestNames(t *testing.T) {
	got := names([]group{
		{signerName: "example.com/in.ternal", users: []string{"Alice@Example"}},
		{signerName: "example.com/in.ternal", users: []string{"alice.example"}},
		{signerName: "example.com/x", namespaces: []string{"a", "b"}, serviceAccounts: []string{"web"}},
		{signerName: "example.com/x", users: []string{strings.Repeat("é", 300)}},
	})
	want := []string{"in-ternal-alice-example", "in-ternal-alice-example-2", "x-a-web", "x"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPlainDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{time.Minute: "1m", 24 * time.Hour: "24h", 90 * time.Minute: "1h30m", 10 * time.Minute: "10m", 30 * time.Second: "30s", time.Hour + time.Second: "1h0m1s"} {
		if got := plainDuration(d); got != want {
			t.Errorf("%s: got %q, want %q", d, got, want)
		}
	}
}

func TestShortLifetimes(t *testing.T) {
	for lifetime, want := range map[time.Duration]string{
		time.Second: "30s", 90*time.Second + time.Millisecond: "1m30s", 24*time.Hour + 59*time.Second: "24h",
	} {
		s := newShape()
		s.longest = lifetime
		content := s.allow().Content
		if got := content[len(content)-1].Value; got != want {
			t.Errorf("%s: got %q, want %q", lifetime, got, want)
		}
	}
}
