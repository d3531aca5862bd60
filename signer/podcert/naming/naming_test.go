// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package naming

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/judge"
	"github.com/certwright/certwright/webhook/annotation"
)

// spec is what the API server fills in for podCertificates: {}.
func spec() *v1alpha1.PodCertificates {
	return &v1alpha1.PodCertificates{
		DNSNames: []string{"{service}.{namespace}.svc", "{service}.{namespace}.svc.{clusterDomain}"},
		URIs:     []string{"spiffe://{trustDomain}/ns/{namespace}/sa/{serviceAccount}"},
		Usages:   []certificatesv1.KeyUsage{"digital signature", "server auth", "client auth"},
	}
}

// facts are those of a StatefulSet's pod that two Services select.
func facts() policy.Facts {
	return policy.Facts{
		TrustDomain: "td.example", ClusterDomain: "cluster.local", Namespace: &policy.Namespace{Name: "shop"},
		Pod:      &policy.Pod{Name: "db-0", Hostname: "db-0", Subdomain: "db", IPs: []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fd00::3")}},
		Services: []policy.Service{{Name: "db", Headless: true}, {Name: "sql"}},
	}
}

func compiled(t testing.TB, p *v1alpha1.PodCertificates) *Template {
	t.Helper()
	template, errs := Compile(p, field.NewPath("p"))
	if err := errs.ToAggregate(); err != nil {
		t.Fatal(err)
	}
	return template
}

func request() csr.Request {
	return csr.Request{ForPod: true, Requester: csr.Requester{Username: "system:serviceaccount:shop:db"}}
}

// text writes down what a request asks for.
func text(r csr.Request) string {
	var all []string
	all = append(all, r.DNSNames...)
	for _, u := range r.URIs {
		all = append(all, u.String())
	}
	for _, ip := range r.IPAddresses {
		all = append(all, ip.String())
	}
	return strings.Join(all, " ")
}

func TestName(t *testing.T) {
	const services = "db.shop.svc sql.shop.svc db.shop.svc.cluster.local sql.shop.svc.cluster.local"
	const id = "spiffe://td.example/ns/shop/sa/db"
	for name, c := range map[string]struct {
		spec        func(*v1alpha1.PodCertificates)
		facts       func(*policy.Facts)
		annotations map[string]string
		want        string
	}{
		"the defaults":    {want: services + " " + id},
		"without Service": {facts: func(f *policy.Facts) { f.Services = nil }, want: id},
		"a host name in its Service": {spec: func(p *v1alpha1.PodCertificates) {
			p.DNSNames = []string{"{hostname}.{service}.{namespace}.svc"}
		}, want: "db-0.db.shop.svc " + id},
		"each name once": {spec: func(p *v1alpha1.PodCertificates) {
			p.DNSNames = []string{"{namespace}.example.com", "shop.example.com"}
		}, want: "shop.example.com " + id},
		"a wildcard":                    {spec: func(p *v1alpha1.PodCertificates) { p.DNSNames = []string{"*.{namespace}.example.com"} }, want: "*.shop.example.com " + id},
		"what is no name is left out":   {facts: func(f *policy.Facts) { f.Namespace.Name = strings.Repeat("x", 64) }, want: "spiffe://td.example/ns/" + strings.Repeat("x", 64) + "/sa/db"},
		"addresses":                     {spec: func(p *v1alpha1.PodCertificates) { p.PodIPs = true }, want: services + " " + id + " 10.1.2.3 fd00::3"},
		"addresses that are not known":  {spec: func(p *v1alpha1.PodCertificates) { p.PodIPs = true }, facts: func(f *policy.Facts) { f.Pod.IPs = nil }, want: services + " " + id},
		"names of the pod's author":     {annotations: map[string]string{AnnotationDNSNames: " a.example.com, *.b.example.com,a.example.com "}, want: "a.example.com *.b.example.com " + id},
		"none by the pod's author":      {annotations: map[string]string{AnnotationDNSNames: " "}, want: id},
		"URIs of the pod's author":      {annotations: map[string]string{AnnotationURIs: "https://a.example.com/x"}, want: services + " https://a.example.com/x"},
		"addresses of the pod's author": {annotations: map[string]string{AnnotationIPAddresses: "10.1.2.3, pod, 192.0.2.1"}, want: services + " " + id + " 10.1.2.3 192.0.2.1 fd00::3"},
		"no addresses by the author":    {spec: func(p *v1alpha1.PodCertificates) { p.PodIPs = true }, annotations: map[string]string{AnnotationIPAddresses: ""}, want: services + " " + id},
	} {
		t.Run(name, func(t *testing.T) {
			p, f := spec(), facts()
			if c.spec != nil {
				c.spec(p)
			}
			if c.facts != nil {
				c.facts(&f)
			}
			got, err := compiled(t, p).Name(request(), f, c.annotations)
			if err != nil || text(got) != c.want {
				t.Errorf("got  %q, %v\nwant %q", text(got), err, c.want)
			}
			if !slices.Equal(got.Usages, p.Usages) {
				t.Errorf("usages %q, want %q", got.Usages, p.Usages)
			}
		})
	}
}

// What names nothing yet waits; it is no verdict. Of a pod that is not what it should be, policy speaks.
func TestNothingToName(t *testing.T) {
	p := spec()
	p.URIs = nil
	f := facts()
	f.Services = nil
	var wait *judge.WaitError
	if _, err := compiled(t, p).Name(request(), f, nil); !errors.As(err, &wait) {
		t.Errorf("got %v, want a *judge.WaitError", err)
	}
	f.Pod, f.PodProblem = nil, "pod shop/db-0 is gone"
	if _, err := compiled(t, p).Name(request(), f, nil); err != nil {
		t.Errorf("got %v for a pod that is gone", err)
	}
}

// Hundreds of Services are no reason to take a backend out of service, nor a verdict.
func TestNamesAreBounded(t *testing.T) {
	p, f := spec(), facts()
	for i := range 64 {
		p.DNSNames = append(p.DNSNames, fmt.Sprintf("{service}.{namespace}.%d.example.com", i))
	}
	for i := range 90 {
		f.Services = append(f.Services, policy.Service{Name: fmt.Sprintf("service-%d", i)})
	}
	_, err := compiled(t, p).Name(request(), f, nil)
	var refusal *csr.Refusal
	if err == nil || errors.As(err, &refusal) || !strings.Contains(err.Error(), AnnotationDNSNames) {
		t.Errorf("got %v, want trouble that says what to do", err)
	}
}

func TestAnnotationsThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ key, value, want string }{
		"unknown key":                     {"example.com/a", "b", `hold the key "example.com/a"; this signer knows certwright.dev/dns-names, `},
		"another key of ours":             {annotation.AutoTLS, "example.com/internal", "this signer knows"},
		"key in upper case":               {"certwright.dev/DNS-names", "a.example.com", "this signer knows"},
		"key that is none for a terminal": {"example.com/\x1b[31m", "", `"example.com/\x1b[31m"`},
		"DNS name in upper case":          {AnnotationDNSNames, "A.example.com", "lower-case"},
		"DNS name with a placeholder":     {AnnotationDNSNames, "{service}.shop.svc", "character"},
		"empty part":                      {AnnotationDNSNames, "a.example.com,,b.example.com", "empty"},
		"URI without a host":              {AnnotationURIs, "urn:x", "host"},
		"URI with another's fragment":     {AnnotationURIs, "spiffe://td/a#b", "SPIFFE ID"},
		"address with a zone":             {AnnotationIPAddresses, "fe80::1%eth0", "without a zone"},
		"address in IPv6 form":            {AnnotationIPAddresses, "::ffff:10.0.0.1", "must be in IPv4 form"},
		"address of nobody":               {AnnotationIPAddresses, "0.0.0.0", "address of one host"},
		"no address":                      {AnnotationIPAddresses, "localhost", "no IP address"},
		"no usage":                        {AnnotationUsages, " ", "at least one usage"},
		"unknown usage":                   {AnnotationUsages, "server auth, root", `"root" is not a usage`},
		"value that is too long":          {AnnotationDNSNames, strings.Repeat("a", MaxAnnotationBytes), "more than the 16384 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := compiled(t, spec()).Name(request(), facts(), map[string]string{c.key: c.value})
			var refusal *csr.Refusal
			if !errors.As(err, &refusal) || refusal.Reason != certificatesv1.PodCertificateRequestConditionInvalidUserConfig || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want a refusal with %q", err, c.want)
			}
			if !strings.HasPrefix(refusal.Field, "spec.unverifiedUserAnnotations") || len(err.Error()) > 500 || strings.ContainsRune(err.Error(), '\x1b') {
				t.Errorf("the refusal is %q", err)
			}
		})
	}
}

// The keys are those by which a pod asks the webhook.
func TestKeys(t *testing.T) {
	for ours, theirs := range map[string]string{
		AnnotationDNSNames: annotation.DNSNames, AnnotationURIs: annotation.URIs, AnnotationIPAddresses: annotation.IPAddresses, AnnotationUsages: annotation.Usages,
	} {
		if ours != theirs {
			t.Errorf("%s is not the webhook's %s", ours, theirs)
		}
	}
}

func TestCompile(t *testing.T) {
	if template, errs := Compile(nil, nil); template != nil || errs != nil {
		t.Errorf("nil becomes %v, %v", template, errs)
	}
	for name, c := range map[string]struct {
		change func(*v1alpha1.PodCertificates)
		want   string
	}{
		"unknown placeholder":   {func(p *v1alpha1.PodCertificates) { p.DNSNames[1] = "{svc}.x" }, "p.dnsNames[1]"},
		"no DNS name":           {func(p *v1alpha1.PodCertificates) { p.DNSNames[0] = "{service}.A" }, "p.dnsNames[0]"},
		"a star inside":         {func(p *v1alpha1.PodCertificates) { p.DNSNames[0] = "{service}.*.svc" }, "p.dnsNames[0]"},
		"no URI":                {func(p *v1alpha1.PodCertificates) { p.URIs[0] = "{namespace}" }, "p.uris[0]"},
		"a star in a SPIFFE ID": {func(p *v1alpha1.PodCertificates) { p.URIs[0] = "spiffe://td/*" }, "p.uris[0]"},
		"no usages":             {func(p *v1alpha1.PodCertificates) { p.Usages = nil }, "p.usages: Required"},
		"unknown usage":         {func(p *v1alpha1.PodCertificates) { p.Usages[2] = "root" }, "p.usages[2]"},
	} {
		t.Run(name, func(t *testing.T) {
			p := spec()
			c.change(p)
			if _, errs := Compile(p, field.NewPath("p")); len(errs) != 1 || !strings.Contains(errs.ToAggregate().Error(), c.want) {
				t.Errorf("got %v, want one error at %s", errs, c.want)
			}
		})
	}
}

// FuzzAnnotations: whatever a pod's author writes, what is accepted is names as csr wants them, or it is refused in few words.
func FuzzAnnotations(f *testing.F) {
	f.Add("a.example.com, *.b.example.com", "spiffe://td/a", "10.0.0.1,pod", "server auth", "")
	f.Add("", "", "", "any", "example.com/x")
	f.Fuzz(func(t *testing.T, dns, uris, ips, usages, another string) {
		annotations := map[string]string{AnnotationDNSNames: dns, AnnotationURIs: uris, AnnotationIPAddresses: ips, AnnotationUsages: usages}
		if another != "" {
			annotations[another] = dns
		}
		got, err := compiled(t, spec()).Name(request(), facts(), annotations)
		var refusal *csr.Refusal
		if errors.As(err, &refusal) {
			if len(err.Error()) > 1000 || strings.IndexFunc(err.Error(), func(r rune) bool { return r < ' ' || r > '~' }) >= 0 {
				t.Errorf("the refusal is %q", err)
			}
			return
		}
		if another != "" && known[another] == nil {
			t.Errorf("the key %q is accepted", another)
		}
		for _, name := range got.DNSNames {
			if csr.CheckDNSName(name) != nil || !strings.Contains(dns, name) {
				t.Errorf("%q becomes the name %q", dns, name)
			}
		}
		for _, uri := range got.URIs {
			if _, err := csr.ParseURI(uri.String()); err != nil || !strings.Contains(uris, uri.String()) {
				t.Errorf("%q becomes the URI %q", uris, uri)
			}
		}
		for _, addr := range got.IPAddresses {
			if csr.CheckIPAddress(addr) != nil || addr.Zone() != "" {
				t.Errorf("%q becomes the address %s", ips, addr)
			}
		}
		if _, _, err := csr.X509Usages(got.Usages); err != nil || len(got.Usages) == 0 {
			t.Errorf("%q becomes the usages %q", usages, got.Usages)
		}
	})
}
