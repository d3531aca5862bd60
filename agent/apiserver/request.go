// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/certwright/certwright/excerpt"
)

// RequestKind is the kind of a Request.
const RequestKind = "CertificateSigningRequest"

// Request is a CertificateSigningRequest of certificates.k8s.io/v1, reduced to the
// fields that the agent writes or reads. Names are those of the Kubernetes API.
type Request struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	Metadata   RequestMetadata `json:"metadata"`
	Spec       RequestSpec     `json:"spec"`
	Status     RequestStatus   `json:"status,omitzero"`
}

// RequestMetadata is the part of metadata that tells one object from another.
type RequestMetadata struct {
	Name string `json:"name"`
	UID  string `json:"uid,omitempty"`
	// Annotations are read, not written: anybody may have put them there who can change requests.
	Annotations map[string]string `json:"annotations,omitempty"`
}

// RequestSpec is what is asked for.
type RequestSpec struct {
	Request           []byte   `json:"request"`
	SignerName        string   `json:"signerName"`
	ExpirationSeconds int32    `json:"expirationSeconds,omitempty"`
	Usages            []string `json:"usages"`
}

// RequestStatus is what approver and signer answered.
type RequestStatus struct {
	Conditions  []RequestCondition `json:"conditions,omitempty"`
	Certificate []byte             `json:"certificate,omitempty"`
}

// RequestCondition is Approved, Denied or Failed, with the reason for it.
type RequestCondition struct {
	Type    string `json:"type"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// RequestError is a verdict: this request, or its answer, will never do.
type RequestError struct {
	// Name is that of the CertificateSigningRequest.
	Name string
	// Verdict is Denied, Failed, Invalid (refused on creation) or Unusable (issued,
	// but not what was asked for or not to be trusted).
	Verdict string
	// Reason and Message are those of the condition or of the API server.
	Reason, Message string
}

// Error says which request got which verdict and why.
func (e *RequestError) Error() string {
	return fmt.Sprintf("CertificateSigningRequest %s: %s, reason %s: %s", e.Name, e.Verdict, e.Reason, e.Message)
}

// renewAtAnnotation is where the signer says when a certificate should be renewed (v1alpha1.AnnotationRenewAt).
const renewAtAnnotation = "certwright.dev/renew-at"

// RenewAt is when the signer says that the certificate should be renewed; zero if it does not, or not in the form of RFC 3339.
func (r *Request) RenewAt() time.Time {
	at, err := time.Parse(time.RFC3339, r.Metadata.Annotations[renewAtAnnotation])
	if err != nil {
		return time.Time{}
	}
	return at
}

// Condition returns the condition of that type, or nil.
func (r *Request) Condition(kind string) *RequestCondition {
	for i := range r.Status.Conditions {
		if r.Status.Conditions[i].Type == kind {
			return &r.Status.Conditions[i]
		}
	}
	return nil
}

// Verdict returns an error when the request was denied or failed.
func (r *Request) Verdict() error {
	for _, kind := range []string{"Denied", "Failed"} {
		if c := r.Condition(kind); c != nil {
			return &RequestError{Name: r.Metadata.Name, Verdict: kind, Reason: excerpt.Line(c.Reason, MaxMessageBytes), Message: excerpt.Line(c.Message, MaxMessageBytes)}
		}
	}
	return nil
}

// Ours reports whether the object is the one that was asked for. Anyone who may
// create requests could have put another in its place.
func (r *Request) Ours(sent *Request) bool {
	return r.Metadata.Name == sent.Metadata.Name &&
		r.Spec.SignerName == sent.Spec.SignerName &&
		bytes.Equal(r.Spec.Request, sent.Spec.Request) &&
		(sent.Metadata.UID == "" || r.Metadata.UID == sent.Metadata.UID)
}

// Permanent reports whether the API server judged the content of a request, so
// that sending it again is pointless. 401 and 403 are not of this kind: a token is
// replaced, RBAC may come after the pod.
func Permanent(err error) *StatusError {
	var status *StatusError
	if errors.As(err, &status) {
		switch status.Code {
		case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
			return status
		}
	}
	return nil
}

// HasCode reports whether err is an answer of the API server with that HTTP status.
func HasCode(err error, code int) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Code == code
}
