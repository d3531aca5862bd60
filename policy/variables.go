// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"net/url"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy/expression"
)

// variables are what expressions see of a request and the facts.
func (q *inquiry) variables() *expression.Activation {
	if q.activation == nil {
		v := expression.Variables{Request: requestVariables(&q.req), Requester: q.requesterVariables()}
		if ns := q.facts.Namespace; ns != nil {
			v.Namespace = &expression.Namespace{Name: ns.Name, Labels: ns.Labels}
		}
		for _, s := range q.facts.Services {
			v.Services = append(v.Services, expression.Service{Name: s.Name, Headless: s.Headless})
		}
		q.activation = expression.NewActivation(v)
	}
	return q.activation
}

func requestVariables(req *csr.Request) expression.Request {
	subject := &req.Subject
	return expression.Request{
		SignerName:     req.SignerName,
		DNSNames:       req.DNSNames,
		IPAddresses:    each(req.IPAddresses, netip.Addr.String),
		URIs:           each(req.URIs, (*url.URL).String),
		EmailAddresses: req.EmailAddresses,
		Subject: expression.Subject{
			CommonName:          subject.CommonName,
			Organizations:       subject.Organization,
			OrganizationalUnits: subject.OrganizationalUnit,
			Countries:           subject.Country,
			Provinces:           subject.Province,
			Localities:          subject.Locality,
			StreetAddresses:     subject.StreetAddress,
			PostalCodes:         subject.PostalCode,
			SerialNumber:        subject.SerialNumber,
		},
		Key:      expression.Key{Algorithm: req.Key.Algorithm, Size: req.Key.Size},
		Usages:   each(req.Usages, func(u certificatesv1.KeyUsage) string { return string(u) }),
		Duration: req.Duration,
		IsCA:     req.IsCA,
	}
}

func (q *inquiry) requesterVariables() expression.Requester {
	r := expression.Requester{
		Username:       q.req.Requester.Username,
		UID:            q.req.Requester.UID,
		Groups:         q.req.Requester.Groups,
		Namespace:      q.namespace,
		ServiceAccount: q.serviceAccount,
	}
	if pod := q.facts.Pod; pod != nil {
		r.Pod = &expression.Pod{Name: pod.Name, Labels: pod.Labels, Annotations: pod.Annotations, Node: pod.Node}
		if !pod.IPsPending {
			ips := each(pod.IPs, netip.Addr.String)
			r.Pod.IPs = &ips
		}
		if pod.Owner != nil {
			r.Pod.Owner = &expression.Owner{APIVersion: pod.Owner.APIVersion, Kind: pod.Owner.Kind, Name: pod.Owner.Name}
		}
	}
	return r
}
