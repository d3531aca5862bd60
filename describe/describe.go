// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package describe says in plain words what a certificate request asks for and who asks, for the person who has to decide.
// Whoever files a request chooses almost every word of it, and hopes to be read carelessly: what is described is printable
// ASCII, text that could be taken for something else is quoted, and there is a bound on all of it.
package describe

import (
	"crypto/x509/pkix"
	"fmt"
	"regexp"
	"strings"

	"github.com/certwright/certwright/csr"
)

// MaxBytes bounds what Review returns.
const MaxBytes = 4 << 10

// Review says what a person is asked to decide: which policy permits the request, what it is, and what to run.
func Review(req csr.Request, policy string) string {
	approve, deny := Commands(req.Name)
	return fmt.Sprintf("CertificatePolicy %s permits this request if a person approves it.\n%s\nTo approve: %s\nTo deny: %s",
		text(policy), Request(req), approve, deny)
}

// Request describes a request, in lines such as "DNS names: a.example.com, b.example.com". What it leaves out for want of
// room it counts, and what matters most comes first: an event, which is shorter, shows the beginning.
func Request(req csr.Request) string {
	var lines []string
	line := func(what string, values ...string) {
		if len(values) > 0 {
			lines = append(lines, what+": "+list(values))
		}
	}
	line("Signer", text(req.SignerName))
	line("Asked by", Requester(req.Requester))
	if req.IsCA {
		line("CA", "yes, it can sign other certificates")
	}
	line("DNS names", texts(req.DNSNames)...)
	line("IP addresses", texts(req.IPAddresses)...)
	line("URIs", texts(req.URIs)...)
	line("Email addresses", texts(req.EmailAddresses)...)
	line("Subject", subject(req.Subject)...)
	var usages []string
	for _, u := range req.Usages { // the parser knows each of them
		usages = append(usages, string(u))
	}
	line("Usages", usages...)
	if req.Duration > 0 {
		line("Lifetime", req.Duration.String())
	} else {
		line("Lifetime", "what the signer gives")
	}
	line("Key", fmt.Sprintf("%s of %d bits", req.Key.Algorithm, req.Key.Size))
	return strings.Join(lines, "\n")
}

// Requester says who asks.
func Requester(r csr.Requester) string {
	namespace, name, ok := r.ServiceAccount()
	if !ok {
		return "user " + text(r.Username)
	}
	who := fmt.Sprintf("service account %s of namespace %s", text(name), text(namespace))
	pod, ok := r.Pod()
	if !ok {
		return who + ", with a token of no pod"
	}
	who += ", pod " + text(pod.Name)
	if pod.NodeName != "" {
		who += " on node " + text(pod.NodeName)
	}
	return who
}

// plainName matches names of requests that mean nothing to a shell and are no flag to kubectl.
var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,252}$`)

// Commands returns what a person runs to approve and to deny the request of that name. Whoever creates a request gives it
// almost any name, so one that a shell would act on is not put into a command that people copy.
func Commands(name string) (approve, deny string) {
	note := ""
	if !plainName.MatchString(name) {
		name, note = "NAME", fmt.Sprintf(", where NAME is %s, to be quoted with care", quoted(name))
	}
	return "kubectl certificate approve " + name + note, "kubectl certificate deny " + name + note
}

// subject lists the attributes of a subject by the short names of RFC 4519.
func subject(n pkix.Name) []string {
	var all []string
	for _, attribute := range []struct {
		name   string
		values []string
	}{
		{"CN", []string{n.CommonName}},
		{"O", n.Organization},
		{"OU", n.OrganizationalUnit},
		{"C", n.Country},
		{"ST", n.Province},
		{"L", n.Locality},
		{"street", n.StreetAddress},
		{"postalCode", n.PostalCode},
		{"serialNumber", []string{n.SerialNumber}},
	} {
		for _, value := range attribute.values {
			if value != "" {
				all = append(all, attribute.name+"="+text(value))
			}
		}
	}
	return all
}
