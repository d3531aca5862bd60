// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package casefile

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/utils/ptr"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

// Request says in words of a file what a request asks for. Its names may be wrong in any way: they are put into the request
// as they stand, for the parser to judge.
type Request struct {
	// Name of the CertificateSigningRequest.
	Name string `json:"name,omitempty"`
	// SignerName is its spec.signerName.
	SignerName string `json:"signerName"`
	// Requester is who makes it.
	Requester Requester `json:"requester"`

	DNSNames       []string         `json:"dnsNames,omitempty"`
	IPAddresses    []string         `json:"ipAddresses,omitempty"`
	URIs           []string         `json:"uris,omitempty"`
	EmailAddresses []string         `json:"emailAddresses,omitempty"`
	CommonName     string           `json:"commonName,omitempty"`
	Subject        v1alpha1.Subject `json:"subject,omitempty"`

	// Usages are spec.usages.
	Usages []certificatesv1.KeyUsage `json:"usages"`
	// Key is the kind of key. Default: ECDSA on P-256.
	Key Key `json:"key,omitempty"`
	// Duration becomes spec.expirationSeconds.
	Duration *metav1.Duration `json:"duration,omitempty"`
	IsCA     bool             `json:"isCA,omitempty"`
}

// Requester is who makes a request. What is not set is as the API server would stamp it.
type Requester struct {
	// Username, such as "alice" or "system:serviceaccount:shop:web".
	Username string   `json:"username,omitempty"`
	UID      string   `json:"uid,omitempty"`
	Groups   []string `json:"groups,omitempty"`
	// Extra are the other attributes of the user.
	Extra map[string]certificatesv1.ExtraValue `json:"extra,omitempty"`
}

// Key is a kind of key.
type Key struct {
	// Algorithm is ECDSA, Ed25519 or RSA.
	Algorithm v1alpha1.KeyAlgorithm `json:"algorithm,omitempty"`
	// Size in bits. Default: 256 for ECDSA, 2048 for RSA.
	Size int `json:"size,omitempty"`
}

// Object makes the CertificateSigningRequest that asks for this, with a key of its own.
func (r Request) Object() (*certificatesv1.CertificateSigningRequest, error) {
	pem, err := r.encode()
	if err != nil {
		return nil, err
	}
	object := &certificatesv1.CertificateSigningRequest{
		TypeMeta:   metav1.TypeMeta{APIVersion: certificatesv1.SchemeGroupVersion.String(), Kind: kindRequest},
		ObjectMeta: metav1.ObjectMeta{Name: r.Name},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:    pem,
			SignerName: r.SignerName,
			Usages:     r.Usages,
		},
	}
	if r.Duration != nil {
		if r.Duration.Duration%time.Second != 0 {
			return nil, fmt.Errorf("duration %s: must be of whole seconds", r.Duration.Duration)
		}
		seconds := int64(r.Duration.Seconds())
		if seconds != int64(int32(seconds)) {
			return nil, fmt.Errorf("duration %s: must be at most 68 years", r.Duration.Duration)
		}
		object.Spec.ExpirationSeconds = ptr.To(int32(seconds))
	}
	if r.Requester.Username == "" {
		return nil, fmt.Errorf("requester.username: must be set, such as alice or system:serviceaccount:shop:web")
	}
	Stamp(object, csr.Requester(r.Requester))
	return object, nil
}

// Stamp writes the requester into the spec, as the API server does when a request is created: everyone is in the group of
// authenticated users, and a service account in those of service accounts unless it says otherwise.
func Stamp(object *certificatesv1.CertificateSigningRequest, r csr.Requester) {
	if namespace, _, ok := r.ServiceAccount(); ok && len(r.Groups) == 0 {
		r.Groups = serviceaccount.MakeGroupNames(namespace)
	}
	if !slices.Contains(r.Groups, user.AllAuthenticated) {
		r.Groups = append(slices.Clone(r.Groups), user.AllAuthenticated)
	}
	object.Spec.Username, object.Spec.UID, object.Spec.Groups, object.Spec.Extra = r.Username, r.UID, r.Groups, r.Extra
}

const kindRequest = "CertificateSigningRequest"

// Request reads the document as a CertificateSigningRequest, or as a Request if it has no kind. Its PKCS #10 bytes are not
// looked at: csr.Parse does that. The error is a Problems.
func (d Document) Request() (*certificatesv1.CertificateSigningRequest, error) {
	apiVersion, kind := d.Kind()
	switch {
	case apiVersion == "" && kind == "":
		var request Request
		if err := d.Decode(&request); err != nil {
			return nil, err
		}
		object, err := request.Object()
		if err != nil {
			return nil, Problems{d.Problem("", err.Error())}
		}
		return object, nil
	case apiVersion == certificatesv1.SchemeGroupVersion.String() && kind == kindRequest:
		object := &certificatesv1.CertificateSigningRequest{}
		if err := d.Decode(object); err != nil {
			return nil, err
		}
		if len(object.Spec.Request) == 0 {
			return nil, Problems{d.Problem("spec.request", "must be set: the PEM of a PKCS #10 request in base64")}
		}
		return object, nil
	}
	return nil, Problems{d.Problem("kind", fmt.Sprintf("is %q with apiVersion %q; it must be %s with apiVersion %s, or both left out for a request in words", kind, apiVersion, kindRequest, certificatesv1.SchemeGroupVersion))}
}

// ReadRequest reads a file with one request: PEM, of which only spec.request gets filled in, or a document as
// Document.Request reads it.
func ReadRequest(file string, data []byte) (*certificatesv1.CertificateSigningRequest, error) {
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN ")) {
		return &certificatesv1.CertificateSigningRequest{
			TypeMeta: metav1.TypeMeta{APIVersion: certificatesv1.SchemeGroupVersion.String(), Kind: kindRequest},
			Spec:     certificatesv1.CertificateSigningRequestSpec{Request: data},
		}, nil
	}
	documents, err := Read(file, data)
	if err != nil {
		return nil, err
	}
	if len(documents) != 1 {
		return nil, Problems{{File: file, Message: fmt.Sprintf("has %d documents; it must be one: a CertificateSigningRequest, a request in words, or the PEM of a PKCS #10 request", len(documents))}}
	}
	return documents[0].Request()
}

// ReadFacts reads a file with the facts about one requester.
func ReadFacts(file string, data []byte) (*Facts, error) {
	documents, err := Read(file, data)
	if err != nil {
		return nil, err
	}
	if len(documents) != 1 {
		return nil, Problems{{File: file, Message: fmt.Sprintf("has %d documents; it must be one", len(documents))}}
	}
	facts := &Facts{}
	if err := documents[0].Decode(facts); err != nil {
		return nil, err
	}
	return facts, nil
}
