// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package propose

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/casefile"
	"github.com/certwright/certwright/policy/explanation"
)

// Source finds requests.
type Source struct {
	// SignerName that was asked; empty for all but those of Kubernetes.
	SignerName string
	// Notes say what was passed over, and what had to be assumed.
	Notes []string
}

// wants reports whether a request counts, and notes why not where people would expect it to.
func (s *Source) wants(object *certificatesv1.CertificateSigningRequest, issued bool) (csr.Request, bool) {
	name := object.Spec.SignerName
	if s.SignerName != "" && name != s.SignerName || csr.IsKubernetesSigner(name) {
		return csr.Request{}, false
	}
	if issued && len(object.Status.Certificate) == 0 {
		s.Notes = append(s.Notes, fmt.Sprintf("%s is passed over: no certificate was issued for it", object.Name))
		return csr.Request{}, false
	}
	if object.Spec.Username == "" {
		s.Notes = append(s.Notes, fmt.Sprintf("%s is passed over: it does not say who asked", object.Name))
		return csr.Request{}, false
	}
	req, err := csr.Parse(object)
	if err != nil {
		s.Notes = append(s.Notes, fmt.Sprintf("%s is passed over: %v", object.Name, err))
		return csr.Request{}, false
	}
	return req, true
}

// Cluster finds the requests of the cluster for which certificates were issued, and what the cluster knows about who asked.
func (s *Source) Cluster(ctx context.Context, in *explanation.Installation) ([]Seen, error) {
	var list certificatesv1.CertificateSigningRequestList
	if err := in.Reader.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing certificatesigningrequests: %w", err)
	}
	gather := in.Facts(ctx, &s.Notes)
	var all []Seen
	for i := range list.Items {
		req, ok := s.wants(&list.Items[i], true)
		if !ok {
			continue
		}
		facts, err := gather(req)
		if err != nil {
			return nil, err
		}
		one := Seen{Request: req, Facts: facts, Lifetime: lifetime(&list.Items[i])}
		if one.Facts.PodProblem != "" && one.Facts.Namespace != nil {
			if err := one.guess(ctx, in.Reader); err != nil {
				return nil, err
			}
		}
		all = append(all, one)
	}
	s.Notes = unique(s.Notes)
	return all, nil
}

// guess takes the Services of the namespace that have the names that were asked for as those that selected a pod that is gone.
func (s *Seen) guess(ctx context.Context, reader client.Reader) error {
	identity, ok := s.Request.Requester.Pod()
	if !ok {
		return nil
	}
	var list corev1.ServiceList
	if err := reader.List(ctx, &list, client.InNamespace(identity.Namespace)); err != nil {
		return fmt.Errorf("listing the Services of namespace %s: %w", identity.Namespace, err)
	}
	pod := &policy.Pod{Name: identity.Name}
	for i := range list.Items {
		service := &list.Items[i]
		if len(service.Spec.Selector) == 0 || service.Spec.Type == corev1.ServiceTypeExternalName {
			continue
		}
		known := policy.Service{Name: service.Name, Headless: service.Spec.ClusterIP == corev1.ClusterIPNone}
		below := service.Name + "." + identity.Namespace
		for _, name := range s.Request.DNSNames {
			if known.Headless && strings.HasPrefix(name, identity.Name+"."+below) {
				pod.Hostname, pod.Subdomain = identity.Name, service.Name
			}
			if name == below || strings.Contains("."+name+".", "."+below+".") {
				s.Facts.Services = append(s.Facts.Services, known)
				break
			}
		}
	}
	s.Facts.Pod, s.Facts.PodProblem, s.Guessed = pod, "", true
	return nil
}

// Documents finds requests in files: CertificateSigningRequests with certificates, lists of them as kubectl get prints, and requests
// in words. Of who asked only the name is known.
func (s *Source) Documents(documents []casefile.Document, facts casefile.Facts) ([]Seen, error) {
	var all []Seen
	for _, d := range documents {
		_, kind := d.Kind()
		objects := make([]certificatesv1.CertificateSigningRequest, 0, 1)
		if strings.HasSuffix(kind, "List") {
			var list certificatesv1.CertificateSigningRequestList
			if err := d.Decode(&list); err != nil {
				return nil, err
			}
			objects = list.Items
		} else {
			object, err := d.Request()
			if err != nil {
				return nil, err
			}
			objects = append(objects, *object)
		}
		for i := range objects {
			req, ok := s.wants(&objects[i], kind != "")
			if !ok {
				continue
			}
			known, err := facts.For(req.Requester)
			if err != nil {
				return nil, casefile.Problems{d.Problem("", err.Error())}
			}
			if known.Namespace != nil {
				known.Namespace.Labels = map[string]string{corev1.LabelMetadataName: known.Namespace.Name}
			}
			if identity, ok := req.Requester.Pod(); ok {
				known.Pod = &policy.Pod{Name: identity.Name}
			}
			all = append(all, Seen{Request: req, Facts: known, Lifetime: lifetime(&objects[i])})
		}
	}
	return all, nil
}

// lifetime is how long the certificate of a request was good for when it was asked for, or how long was asked for if that is less.
func lifetime(object *certificatesv1.CertificateSigningRequest) time.Duration {
	var asked, granted time.Duration
	if object.Spec.ExpirationSeconds != nil {
		asked = time.Duration(*object.Spec.ExpirationSeconds) * time.Second
	}
	if block, _ := pem.Decode(object.Status.Certificate); block != nil && !object.CreationTimestamp.IsZero() {
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			granted = max(0, cert.NotAfter.Sub(object.CreationTimestamp.Time))
		}
	}
	if asked == 0 || granted != 0 && granted < asked {
		return granted
	}
	return asked
}

func unique(notes []string) []string {
	seen := map[string]bool{}
	var all []string
	for _, note := range notes {
		if !seen[note] {
			seen[note] = true
			all = append(all, note)
		}
	}
	return all
}
