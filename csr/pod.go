// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package csr

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
)

const (
	// defaultPodSeconds holds where the API server's default did not.
	defaultPodSeconds = 24 * 60 * 60
	stubField         = "spec.stubPKCS10Request"
	publicKeyField    = "spec.pkixPublicKey"
	possessionField   = "spec.proofOfPossession"
)

// ParsePod returns what a kubelet asks for in a PodCertificateRequest, or a *Refusal. It comes in the form of v1beta1, which holds all that
// v1 does and the older form of the key as well. The Request names nothing yet: who may fill in names, and has it decided upon, is
// the caller. Its requester is the pod, as if it had asked itself with its own token: the API server has to see to it that only the kubelet
// of a pod says so, as nothing in the object tells who created it.
func ParsePod(obj *certificatesv1beta1.PodCertificateRequest) (Request, error) {
	requester, err := PodRequester(obj)
	if err != nil {
		return Request{}, err
	}
	seconds := int32(defaultPodSeconds)
	if s := obj.Spec.MaxExpirationSeconds; s != nil {
		seconds = *s
	}
	req := Request{
		Name: obj.Name, UID: obj.UID, SignerName: obj.Spec.SignerName, Requester: requester,
		Duration: time.Duration(seconds) * time.Second, ForPod: true,
	}
	if req.Duration < MinPodLifetime {
		return Request{}, refuse(ReasonExpirationTooShort, "spec.maxExpirationSeconds", "%d is too short; %d seconds is the least", seconds, int(MinPodLifetime.Seconds()))
	}
	if err := req.parsePodKey(&obj.Spec); err != nil {
		return Request{}, err
	}
	return req, nil
}

// PodRequester returns who the token of the pod would be, whatever else the request says, or a *Refusal. A name that is missing must not make
// a requester that is bound to no pod.
func PodRequester(obj *certificatesv1beta1.PodCertificateRequest) (Requester, error) {
	namespace, spec := obj.Namespace, &obj.Spec
	fields := []struct{ path, value string }{
		{"spec.serviceAccountName", spec.ServiceAccountName},
		{"spec.serviceAccountUID", string(spec.ServiceAccountUID)},
		{"spec.podName", spec.PodName},
		{"spec.podUID", string(spec.PodUID)},
		{"spec.nodeName", string(spec.NodeName)},
		{"spec.nodeUID", string(spec.NodeUID)},
	}
	for _, f := range fields {
		if f.value == "" {
			return Requester{}, refuse(ReasonPodIdentity, f.path, "is empty; it must name what the pod is, has or runs on")
		}
	}
	requester := Requester{
		Username: serviceaccount.MakeUsername(namespace, spec.ServiceAccountName),
		UID:      string(spec.ServiceAccountUID),
		Groups:   append(serviceaccount.MakeGroupNames(namespace), user.AllAuthenticated),
		Extra: map[string]certificatesv1.ExtraValue{
			serviceaccount.PodNameKey:  {spec.PodName},
			serviceaccount.PodUIDKey:   {string(spec.PodUID)},
			serviceaccount.NodeNameKey: {string(spec.NodeName)},
			serviceaccount.NodeUIDKey:  {string(spec.NodeUID)},
		},
	}
	if ns, name, ok := requester.ServiceAccount(); !ok || ns != namespace || name != spec.ServiceAccountName {
		return Requester{}, refuse(ReasonPodIdentity, "spec.serviceAccountName", "%s is not the name of a service account in namespace %s", quote(spec.ServiceAccountName), quote(namespace))
	}
	return requester, nil
}

// parsePodKey reads the one form of the key that must be there.
func (r *Request) parsePodKey(spec *certificatesv1beta1.PodCertificateRequestSpec) error {
	//nolint:staticcheck // kubelets before 1.36 know this form only.
	public, proof := spec.PKIXPublicKey, spec.ProofOfPossession
	stub := len(spec.StubPKCS10Request) > 0
	if stub == (len(public) > 0 || len(proof) > 0) {
		return refuse(ReasonPodKey, stubField, "must be there, or else pkixPublicKey and proofOfPossession, and never both")
	}
	for _, f := range []struct {
		path  string
		value []byte
	}{{stubField, spec.StubPKCS10Request}, {publicKeyField, public}, {possessionField, proof}} {
		if len(f.value) > MaxRequestBytes {
			return refuse(ReasonRequestTooLarge, f.path, "is longer than the %d bytes that are allowed", MaxRequestBytes)
		}
	}
	if stub {
		return unsupported(stubField, r.parseStub(spec.StubPKCS10Request))
	}
	return unsupported(publicKeyField, r.parsePublicKey(public, proof, spec.PodUID))
}

// parseStub takes the key from a PKCS #10 request that must hold nothing else: what more it said would never be looked at.
func (r *Request) parseStub(der []byte) error {
	outer, algorithm, err := r.parseKeyOf(der)
	if err != nil {
		return err
	}
	if len(outer.subject) > 0 || len(outer.attributes) > 0 {
		return refuse(ReasonStubNotEmpty, stubField, "has a subject or attributes; it must have neither, as kubelets make it. What the certificate holds is for the Signer's podCertificates and the pod's userAnnotations to say")
	}
	return r.verifyPossession(der, outer, algorithm)
}

// parsePublicKey reads a bare key. The proof is a signature over the UID of the pod, as the field's documentation in
// k8s.io/api/certificates/v1beta1 says.
func (r *Request) parsePublicKey(public, proof []byte, pod types.UID) (err error) {
	if r.PublicKey, r.Key, err = parseKey(slices.Clone(public)); err != nil {
		return err
	}
	hash := sha256.Sum256([]byte(pod))
	proven := false
	switch key := r.PublicKey.(type) {
	case ed25519.PublicKey:
		proven = ed25519.Verify(key, []byte(pod), proof)
	case *ecdsa.PublicKey:
		proven = ecdsa.VerifyASN1(key, hash[:], proof)
	case *rsa.PublicKey:
		proven = rsa.VerifyPSS(key, crypto.SHA256, hash[:], proof, nil) == nil
	}
	if !proven {
		return refuse(ReasonSignatureDoesNotVerify, possessionField, "does not verify with the public key; it must be the pod's UID, signed with the matching private key")
	}
	return nil
}

// keyReasons are the reasons that Kubernetes has one word for.
var keyReasons = []string{ReasonKeyAlgorithm, ReasonKeyCurve, ReasonKeySize, ReasonKeyExponent}

// unsupported says why a key is refused as kubelets and people know it from Kubernetes, and where it is.
func unsupported(field string, err error) error {
	var refusal *Refusal
	if !errors.As(err, &refusal) {
		return err
	}
	if slices.Contains(keyReasons, refusal.Reason) {
		refusal.Reason = ReasonUnsupportedKeyType
	}
	if refusal.Field != possessionField {
		refusal.Field = field
	}
	return err
}
