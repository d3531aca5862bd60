// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package naming

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/csr"
)

// The keys of spec.unverifiedUserAnnotations that Certwright knows: userAnnotations of the pod's podCertificate volume. Values are lists
// with commas, as in the pod's annotations of the same names. A list of none asks for none.
const (
	AnnotationDNSNames    = "certwright.dev/dns-names"
	AnnotationURIs        = "certwright.dev/uris"
	AnnotationIPAddresses = "certwright.dev/ip-addresses"
	AnnotationUsages      = "certwright.dev/usages"
)

// PodAddresses stands for every address of the pod that is known, in AnnotationIPAddresses.
const PodAddresses = "pod"

// MaxAnnotationBytes bounds keys and values of the annotations together. A cache may cut off what is beyond.
const MaxAnnotationBytes = 16 << 10

const annotationsField = "spec.unverifiedUserAnnotations"

// asked is what annotations ask for; a list is nil if they say nothing about it.
type asked struct {
	dnsNames []string
	uris     []*url.URL
	ips      []netip.Addr
	podIPs   bool
	usages   []certificatesv1.KeyUsage
}

var known = map[string]func(*asked, []string) error{
	AnnotationDNSNames:    (*asked).parseDNSNames,
	AnnotationURIs:        (*asked).parseURIs,
	AnnotationIPAddresses: (*asked).parseIPAddresses,
	AnnotationUsages:      (*asked).parseUsages,
}

// AnnotationBytes is the size of annotations as MaxAnnotationBytes bounds it.
func AnnotationBytes(annotations map[string]string) (size int) {
	for key, value := range annotations {
		size += len(key) + len(value)
	}
	return size
}

// parseAnnotations reads all of the annotations. Kubernetes wants a signer to refuse those that it does not know. The error is a
// *csr.Refusal.
func parseAnnotations(annotations map[string]string) (asked, error) {
	var a asked
	if size := AnnotationBytes(annotations); size > MaxAnnotationBytes {
		return a, refuse(annotationsField, "have more than the %d bytes that are allowed", MaxAnnotationBytes)
	}
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		parse := known[key]
		if parse == nil {
			return a, refuse(annotationsField, "hold the key %s; this signer knows %s", quote(key), strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		if err := parse(&a, split(annotations[key])); err != nil {
			return a, refuse(annotationsField+"["+key+"]", "%s", err.Error())
		}
	}
	return a, nil
}

// split returns the parts of a list, once each. It is never nil.
func split(value string) []string {
	parts := []string{}
	if strings.TrimSpace(value) == "" {
		return parts
	}
	for part := range strings.SplitSeq(value, ",") {
		if part = strings.TrimSpace(part); !slices.Contains(parts, part) {
			parts = append(parts, part)
		}
	}
	return parts
}

func (a *asked) parseDNSNames(parts []string) error {
	for _, name := range parts {
		if err := csr.CheckDNSName(name); err != nil {
			return err
		}
	}
	a.dnsNames = parts
	return nil
}

func (a *asked) parseURIs(parts []string) error {
	a.uris = []*url.URL{}
	for _, text := range parts {
		uri, err := csr.ParseURI(text)
		if err != nil {
			return err
		}
		a.uris = append(a.uris, uri)
	}
	return nil
}

func (a *asked) parseIPAddresses(parts []string) error {
	a.ips = []netip.Addr{}
	for _, text := range parts {
		if text == PodAddresses {
			a.podIPs = true
			continue
		}
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return fmt.Errorf("%s is no IP address without a zone, nor %q for those of the pod", quote(text), PodAddresses)
		}
		if err := csr.CheckIPAddress(addr); err != nil {
			return err
		}
		if !slices.Contains(a.ips, addr) {
			a.ips = append(a.ips, addr)
		}
	}
	return nil
}

func (a *asked) parseUsages(parts []string) error {
	if len(parts) == 0 {
		return fmt.Errorf("is empty; at least one usage must be asked for, such as %q", certificatesv1.UsageServerAuth)
	}
	for _, text := range parts {
		usage := certificatesv1.KeyUsage(text)
		if _, _, err := csr.X509Usages([]certificatesv1.KeyUsage{usage}); err != nil {
			return fmt.Errorf("%s is not a usage that Kubernetes knows, such as %q or %q", quote(text), certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth)
		}
		a.usages = append(a.usages, usage)
	}
	return nil
}

func refuse(field, format string, args ...any) error {
	return &csr.Refusal{Reason: certificatesv1.PodCertificateRequestConditionInvalidUserConfig, Field: field, Message: fmt.Sprintf(format, args...)}
}

// quote makes a stranger's text fit for a message.
func quote(text string) string {
	const most = 64
	if len(text) > most {
		return fmt.Sprintf("%+q...", text[:most])
	}
	return fmt.Sprintf("%+q", text)
}
