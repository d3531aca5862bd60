// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/utils/ptr"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/describe"
)

const refused = "Certwright refuses to read the request: "

// CSR reports on a CertificateSigningRequest and, if it was issued, on its certificate. Anchors may be nil.
func CSR(object *certificatesv1.CertificateSigningRequest, anchors *Anchors, now time.Time) Report {
	r := Report{Source: "certificatesigningrequest " + object.Name}
	r.Request = NewRequest(object)
	if r.Request.Refusal != "" {
		r.find(Error, refused+r.Request.Refusal)
	}
	switch r.Request.Status {
	case "Denied", "Failed":
		r.find(Error, fmt.Sprintf("the request was %s: %s", map[string]string{"Denied": "denied", "Failed": "given up"}[r.Request.Status], r.Request.StatusMessage))
	case "Issued":
		m, err := decode(object.Status.Certificate)
		if err != nil {
			r.find(Error, "the issued certificate cannot be read: "+err.Error())
			return r
		}
		r.addProblems(m)
		r.judge(m.certificates, anchors, now)
		r.holdAgainstRequest(object, m)
	}
	return r
}

// holdAgainstRequest checks that the certificate is for the key that asked.
func (r *Report) holdAgainstRequest(object *certificatesv1.CertificateSigningRequest, m material) {
	req, err := csr.Parse(object)
	if err != nil || len(m.certificates) == 0 {
		return
	}
	if !same(req.PublicKey, m.certificates[0].PublicKey) {
		r.find(Error, "the certificate is for another key than the request")
	}
}

// NewRequest describes a CertificateSigningRequest.
func NewRequest(object *certificatesv1.CertificateSigningRequest) *Request {
	request := &Request{
		Name: object.Name, SignerName: object.Spec.SignerName, Requester: object.Spec.Username,
	}
	if object.Spec.Username != "" {
		request.RequestedBy = describe.Requester(csr.Requester{Username: object.Spec.Username, Extra: object.Spec.Extra})
	}
	if object.UID != "" { // the API server has seen it
		request.Status = "Pending"
	}
	if !object.CreationTimestamp.IsZero() {
		request.Created = ptr.To(object.CreationTimestamp.UTC())
	}
	for _, c := range object.Status.Conditions {
		request.StatusMessage = c.Message
		if c.Message == "" {
			request.StatusMessage = c.Reason
		}
	}
	switch {
	case csr.IsDenied(object):
		request.Status = "Denied"
	case csr.IsFailed(object):
		request.Status = "Failed"
	case len(object.Status.Certificate) > 0:
		request.Status = "Issued"
	case csr.IsApproved(object):
		request.Status = "Approved"
	}
	request.parse(object)
	return request
}

// parse fills in what the request asks for, as far as the strict parser takes it.
func (r *Request) parse(object *certificatesv1.CertificateSigningRequest) {
	for _, usage := range object.Spec.Usages {
		r.Usages = append(r.Usages, string(usage))
	}
	req, err := csr.Parse(object)
	if err != nil {
		r.Refusal = err.Error()
		return
	}
	r.Subject, r.DNSNames, r.EmailAddresses, r.IsCA = req.Subject.String(), req.DNSNames, req.EmailAddresses, req.IsCA
	for _, uri := range req.URIs {
		r.URIs = append(r.URIs, uri.String())
	}
	for _, ip := range req.IPAddresses {
		r.IPAddresses = append(r.IPAddresses, ip.String())
	}
	r.Key = &Key{Algorithm: req.Key.Algorithm, Size: req.Key.Size}
	if req.Duration > 0 {
		r.Duration = req.Duration.String()
	}
}

// bareRequest describes PKCS #10 bytes outside of Kubernetes: usages are not known, so any are assumed that the request may
// name.
func bareRequest(pem []byte) *Request {
	object := &certificatesv1.CertificateSigningRequest{}
	object.Spec.Request = pem
	object.Spec.Usages = csr.AllUsages()
	request := NewRequest(object)
	request.Usages = nil
	return request
}

func (r *Report) addProblems(m material) {
	for _, problem := range m.problems {
		r.find(Error, problem)
	}
}
