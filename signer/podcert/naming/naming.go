// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package naming says what a pod's certificate holds whose kubelet asked for it, as the kubelet's request names nothing: what the Signer's
// podCertificates give a pod by the facts about it, or what the pod's author wants instead, in the annotations that the
// kubelet hands on. Neither is a permission: limits and policy decide about it like about any request.
package naming

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/judge"
	"github.com/certwright/certwright/policy/pattern"
)

// Template is the compiled form of v1alpha1.PodCertificates.
type Template struct {
	dnsNames, uris []pattern.Template
	podIPs         bool
	usages         []certificatesv1.KeyUsage
}

// Compile checks what is at the path beyond what the API's schema does. Nil for nil.
func Compile(p *v1alpha1.PodCertificates, path *field.Path) (*Template, field.ErrorList) {
	if p == nil {
		return nil, nil
	}
	t := &Template{podIPs: p.PodIPs, usages: slices.Clone(p.Usages)}
	var errs field.ErrorList
	t.dnsNames, errs = compileAll(p.DNSNames, path.Child("dnsNames"), pattern.ParseDNSName, csr.CheckDNSName)
	uris, wrong := compileAll(p.URIs, path.Child("uris"), pattern.ParseURI, func(text string) error {
		_, err := csr.ParseURI(text)
		return err
	})
	t.uris, errs = uris, append(errs, wrong...)
	if len(p.Usages) == 0 {
		errs = append(errs, field.Required(path.Child("usages"), "a certificate without usages would be good for every use"))
	}
	for i, usage := range p.Usages {
		if _, _, err := csr.X509Usages(p.Usages[i : i+1]); err != nil {
			errs = append(errs, field.Invalid(path.Child("usages").Index(i), usage, err.Error()))
		}
	}
	return t, errs
}

// sample has a value for each placeholder, to see what a template comes to.
var sample = pattern.Values{
	pattern.Namespace: "sample", pattern.ServiceAccount: "sample", pattern.Pod: "sample", pattern.Hostname: "sample",
	pattern.Service: "sample", pattern.TrustDomain: "sample", pattern.ClusterDomain: "sample",
}

// compileAll parses templates by the rules of patterns. What they come to is a name itself, so a star means no more than in a name.
func compileAll(texts []string, path *field.Path, parse func(string) (pattern.Template, error), check func(string) error) ([]pattern.Template, field.ErrorList) {
	var all []pattern.Template
	var errs field.ErrorList
	for i, text := range texts {
		t, err := parse(text)
		for _, name := range t.Expand([]pattern.Values{sample}) {
			if err == nil {
				err = check(name)
			}
		}
		if err != nil {
			errs = append(errs, field.Invalid(path.Index(i), text, err.Error()))
		}
		all = append(all, t)
	}
	return all, errs
}

// nameless is when a pod is looked at again that has no name yet.
const nameless = 2 * time.Second

// Name returns the request with its names and usages: those of the annotations, and of the template where they say nothing. The error is
// a *csr.Refusal of an annotation, or trouble: a request that names nothing yet has to wait.
func (t *Template) Name(req csr.Request, facts policy.Facts, annotations map[string]string) (csr.Request, error) {
	asked, err := parseAnnotations(annotations)
	if err != nil {
		return req, err
	}
	_, account, _ := req.Requester.ServiceAccount()
	values := facts.Values(account)
	if req.DNSNames = asked.dnsNames; req.DNSNames == nil {
		req.DNSNames = expand(t.dnsNames, values, csr.CheckDNSName)
	}
	if req.URIs = asked.uris; req.URIs == nil {
		req.URIs = expandURIs(t.uris, values)
	}
	if req.IPAddresses = asked.ips; asked.podIPs || asked.ips == nil && t.podIPs {
		req.IPAddresses = merge(asked.ips, facts.Pod)
	}
	if req.Usages = asked.usages; req.Usages == nil {
		req.Usages = slices.Clone(t.usages)
	}
	size := 0
	for _, name := range req.DNSNames {
		size += len(name)
	}
	for _, uri := range req.URIs {
		size += len(uri.String())
	}
	switch {
	case size > csr.MaxRequestBytes:
		return req, fmt.Errorf("the names of this pod come to %d bytes, and %d are allowed: have fewer Services select it, or name what it needs in its userAnnotation %s", size, csr.MaxRequestBytes, AnnotationDNSNames)
	// A pod whose problem is known is denied for that, whatever it is named.
	case len(req.DNSNames)+len(req.URIs)+len(req.IPAddresses) == 0 && facts.PodProblem == "":
		return req, &judge.WaitError{After: nameless, Reason: "there is nothing to name in the certificate yet: no entry of the Signer's podCertificates has a value for this pod, such as a Service that selects it"}
	}
	return req, nil
}

// expand returns what templates come to. What is no name, such as one that is too long, is left out like one without a value.
func expand(templates []pattern.Template, values []pattern.Values, check func(string) error) []string {
	var names []string
	for _, t := range templates {
		for _, name := range t.Expand(values) {
			if check(name) == nil && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

func expandURIs(templates []pattern.Template, values []pattern.Values) []*url.URL {
	var uris []*url.URL
	expand(templates, values, func(text string) error {
		uri, err := csr.ParseURI(text)
		if err == nil && !slices.ContainsFunc(uris, func(u *url.URL) bool { return u.String() == text }) {
			uris = append(uris, uri)
		}
		return err
	})
	return uris
}

// merge adds the addresses of the pod that are known; most kubelets ask before there are any.
func merge(ips []netip.Addr, pod *policy.Pod) []netip.Addr {
	all := slices.Clone(ips)
	if pod == nil {
		return all
	}
	for _, ip := range pod.IPs {
		if !slices.Contains(all, ip) {
			all = append(all, ip)
		}
	}
	return all
}
