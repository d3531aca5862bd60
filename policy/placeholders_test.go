// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"testing"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

func TestPlaceholders(t *testing.T) {
	allowURI := func(pattern string) func(*v1alpha1.Allow) {
		return func(a *v1alpha1.Allow) { a.URIs = []string{pattern} }
	}
	askURI := func(text string) func(*csr.Request) {
		return func(r *csr.Request) { r.URIs = append(r.URIs, mustURL(t, text)) }
	}
	asDotted := func(ask func(*csr.Request)) func(*csr.Request) {
		return func(r *csr.Request) { r.Requester = serviceAccount("shop", "a.b"); ask(r) }
	}
	noPod := func(f *Facts) { f.Pod, f.Services = nil, nil }
	noServices := func(f *Facts) { f.Services = nil }
	askCN := func(cn string) func(*csr.Request) { return func(r *csr.Request) { r.Subject.CommonName = cn } }
	allowCN := func(pattern string) func(*v1alpha1.Allow) {
		return func(a *v1alpha1.Allow) { a.CommonNames = []string{pattern} }
	}
	allowEmail := func(pattern string) func(*v1alpha1.Allow) {
		return func(a *v1alpha1.Allow) { a.EmailAddresses = []string{pattern} }
	}
	askEmail := func(address string) func(*csr.Request) {
		return func(r *csr.Request) { r.EmailAddresses = []string{address} }
	}
	const host = "{hostname}.{service}.{namespace}.svc"
	refuse := func(field, value, why string) string {
		return fmt.Sprintf("%s: %q not allowed (allowed: %s)", field, value, why)
	}
	notOneLabel := "a placeholder has no value that is one DNS label"

	for name, c := range map[string]ruleCase{
		"namespace":                     {allowDNS("x.{namespace}.svc"), askDNS("x.shop.svc"), nil, ""},
		"other namespace":               {allowDNS("x.{namespace}.svc"), askDNS("x.bank.svc"), nil, refuse("dnsNames", "x.bank.svc", `"x.shop.svc"`)},
		"serviceAccount":                {allowURI("spiffe://{trustDomain}/ns/{namespace}/sa/{serviceAccount}"), askURI("spiffe://td.example/ns/shop/sa/web"), nil, ""},
		"other serviceAccount":          {allowURI("spiffe://{trustDomain}/ns/{namespace}/sa/{serviceAccount}"), askURI("spiffe://td.example/ns/shop/sa/admin"), nil, refuse("uris", "spiffe://td.example/ns/shop/sa/admin", `"spiffe://td.example/ns/shop/sa/web"`)},
		"other trustDomain":             {allowURI("spiffe://{trustDomain}/x"), askURI("spiffe://td.examples/x"), nil, refuse("uris", "spiffe://td.examples/x", `"spiffe://td.example/x"`)},
		"pod":                           {allowDNS("{pod}.pods.example.com"), askDNS("web-0.pods.example.com"), nil, ""},
		"other pod":                     {allowDNS("{pod}.pods.example.com"), askDNS("web-1.pods.example.com"), nil, refuse("dnsNames", "web-1.pods.example.com", `"web-0.pods.example.com"`)},
		"every Service":                 {allowDNS("{service}.{namespace}.svc"), askDNS("db.shop.svc", "web.shop.svc"), nil, ""},
		"other Service":                 {allowDNS("{service}.{namespace}.svc"), askDNS("api.shop.svc"), nil, refuse("dnsNames", "api.shop.svc", `"db.shop.svc", "web.shop.svc"`)},
		"clusterDomain":                 {allowDNS("{service}.{namespace}.svc.{clusterDomain}"), askDNS("web.shop.svc.cluster.local"), nil, ""},
		"twice the same Service":        {allowDNS("{service}.{service}.svc"), askDNS("web.web.svc"), nil, ""},
		"Services are not mixed":        {allowDNS("{service}.{service}.svc"), askDNS("web.db.svc"), nil, refuse("dnsNames", "web.db.svc", `"db.db.svc", "web.web.svc"`)},
		"hostname of its subdomain":     {allowDNS(host), askDNS("host-0.db.shop.svc"), nil, ""},
		"hostname of other Service":     {allowDNS(host), askDNS("host-0.web.shop.svc"), nil, refuse("dnsNames", "host-0.web.shop.svc", `"host-0.db.shop.svc"`)},
		"hostname is not the pod":       {allowDNS(host), askDNS("web-0.db.shop.svc"), nil, refuse("dnsNames", "web-0.db.shop.svc", `"host-0.db.shop.svc"`)},
		"subdomain is not headless":     {allowDNS(host), askDNS("host-0.db.shop.svc"), func(f *Facts) { f.Services[0].Headless = false }, refuse("dnsNames", "host-0.db.shop.svc", `"`+host+`", but no headless Service is the subdomain of the requester's pod`)},
		"headless is not the subdomain": {allowDNS(host), askDNS("host-0.db.shop.svc"), func(f *Facts) { f.Pod.Subdomain = "other" }, refuse("dnsNames", "host-0.db.shop.svc", `"`+host+`", but no headless Service is the subdomain of the requester's pod`)},
		"no hostname":                   {allowDNS(host), askDNS("db.shop.svc"), func(f *Facts) { f.Pod.Hostname = "" }, refuse("dnsNames", "db.shop.svc", `"`+host+`", but no headless Service is the subdomain of the requester's pod`)},
		"subdomain without a Service":   {allowDNS(host), askDNS("host-0.db.shop.svc"), noServices, refuse("dnsNames", "host-0.db.shop.svc", `"`+host+`", but no Service selects the requester's pod`)},

		"Service without a pod":        {allowDNS("{service}.svc", "x.svc"), askDNS("web.svc"), noPod, refuse("dnsNames", "web.svc", `"x.svc"; "{service}.svc", but the requester's token is bound to no pod`)},
		"pod without a pod":            {allowDNS("{pod}.svc"), askDNS("web.svc"), noPod, refuse("dnsNames", "web.svc", `"{pod}.svc", but the requester's token is bound to no pod`)},
		"Services without a pod":       {allowDNS("{service}.svc"), askDNS("web.svc"), func(f *Facts) { f.Pod = nil }, refuse("dnsNames", "web.svc", `"{service}.svc", but the requester's token is bound to no pod`)},
		"Service of an unselected pod": {allowDNS("{service}.svc"), askDNS("web.svc"), noServices, refuse("dnsNames", "web.svc", `"{service}.svc", but no Service selects the requester's pod`)},
		"pod that does not count": {
			allowDNS("{service}.svc", "{pod}.svc", "{namespace}.svc"), askDNS("web.svc"), func(f *Facts) { f.Pod, f.Services, f.PodProblem = nil, nil, "pod is gone" },
			`requester: "system:serviceaccount:shop:web" not allowed (pod is gone)` + "\n" +
				refuse("dnsNames", "web.svc", `"shop.svc"; "{service}.svc", "{pod}.svc", but the requester's pod does not count`),
		},
		"name without a Service": {allowDNS("{namespace}.svc"), askDNS("shop.svc"), noServices, ""},
		"the only Service":       {allowDNS("{service}.svc"), askDNS("db.svc"), func(f *Facts) { f.Services = f.Services[:1] }, ""},
		"name without a pod":     {allowDNS("{namespace}.svc"), askDNS("shop.svc"), noPod, ""},
		"no cluster domain":      {allowDNS("x.{clusterDomain}"), askDNS("x.cluster.local"), func(f *Facts) { f.ClusterDomain = "" }, refuse("dnsNames", "x.cluster.local", `"x.{clusterDomain}", but `+notOneLabel)},
		"value is not a pattern": {allowDNS("{pod}.svc"), askDNS("web.svc"), func(f *Facts) { f.Pod.Name = "*" }, refuse("dnsNames", "web.svc", `"{pod}.svc", but `+notOneLabel)},

		"dotted serviceAccount in a SPIFFE ID": {allowURI("spiffe://{trustDomain}/sa/{serviceAccount}"), asDotted(askURI("spiffe://td.example/sa/a.b")), nil, ""},
		"dotted serviceAccount in a DNS name":  {allowDNS("{serviceAccount}.example.com"), asDotted(askDNS("a.b.example.com")), nil, refuse("dnsNames", "a.b.example.com", `"{serviceAccount}.example.com", but `+notOneLabel)},
		"dotted pod in a DNS name":             {allowDNS("{pod}.example.com"), askDNS("a.b.example.com"), func(f *Facts) { f.Pod.Name = "a.b" }, refuse("dnsNames", "a.b.example.com", `"{pod}.example.com", but `+notOneLabel)},
		"dotted serviceAccount in a URI host":  {allowURI("https://{serviceAccount}.example.com/x"), asDotted(askURI("https://a.b.example.com/x")), nil, refuse("uris", "https://a.b.example.com/x", `"https://{serviceAccount}.example.com/x", but `+notOneLabel)},
		"serviceAccount in a URI host":         {allowURI("https://{serviceAccount}.example.com/x"), askURI("https://web.example.com/x"), nil, ""},
		"dotted serviceAccount in a domain":    {allowEmail("ops@{serviceAccount}.example.com"), asDotted(askEmail("ops@a.b.example.com")), nil, refuse("emailAddresses", "ops@a.b.example.com", `"ops@{serviceAccount}.example.com", but `+notOneLabel)},
		"dotted serviceAccount in a mailbox":   {allowEmail("{serviceAccount}@{namespace}.example.com"), asDotted(askEmail("a.b@shop.example.com")), nil, ""},
		"dotted serviceAccount in a CN":        {allowCN("system:serviceaccount:{namespace}:{serviceAccount}"), asDotted(askCN("system:serviceaccount:shop:a.b")), nil, ""},
		"other serviceAccount in a CN":         {allowCN("system:serviceaccount:{namespace}:{serviceAccount}"), askCN("system:serviceaccount:shop:a.b"), nil, refuse("commonNames", "system:serviceaccount:shop:a.b", `"system:serviceaccount:shop:web"`)},

		"user has no namespace": {allowDNS("{namespace}.svc"), func(r *csr.Request) { r.DNSNames = []string{"shop.svc"} }, func(f *Facts) { f.Namespace = nil }, "no opinion"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.want != "no opinion" {
				c.run(t)
				return
			}
			p := plainPolicy()
			c.allow(&p.Spec.Allow)
			p.Spec.Requesters = v1alpha1.Requesters{Users: []string{"jane"}}
			req, facts := plainRequest(c.ask), Facts{TrustDomain: "td.example", ClusterDomain: "cluster.local"}
			req.Requester = csr.Requester{Username: "jane"}
			want := refuse("dnsNames", "shop.svc", `"{namespace}.svc", but the requester is no service account`)
			if got := refusals(t, Decide(req, facts, []*Policy{mustCompile(t, p)})); got != want {
				t.Errorf("got %s\nwant %s", got, want)
			}
		})
	}
}

func TestManyServices(t *testing.T) {
	services := func(n int) func(*Facts) {
		return func(f *Facts) {
			f.Services = nil
			for i := range n {
				f.Services = append(f.Services, Service{Name: fmt.Sprintf("s%d", i)})
			}
		}
	}
	allow := allowDNS("{service}.svc", "x.svc")
	t.Run("as many as count", ruleCase{allow, askDNS("s0.svc", "s99.svc", "x.svc"), services(maxServices), ""}.run)
	t.Run("as many as count, none headless", ruleCase{
		allowDNS("{hostname}.{service}.svc"), askDNS("s0.svc"), services(maxServices),
		`dnsNames: "s0.svc" not allowed (allowed: "{hostname}.{service}.svc", but no headless Service is the subdomain of the requester's pod)`,
	}.run)
	t.Run("one more", ruleCase{
		allow, askDNS("s0.svc", "x.svc"), services(maxServices + 1),
		`dnsNames: "s0.svc" not allowed (allowed: "x.svc"; "{service}.svc", but more than 100 Services select the requester's pod)`,
	}.run)
}
