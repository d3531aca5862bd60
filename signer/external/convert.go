// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package external

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/external/signerv1"
	"github.com/certwright/certwright/signer/remote"
)

// Bounds of what a program may answer, as the contract has them.
const (
	maxChain   = 10
	maxAnchors = 100
	maxBytes   = 64 << 10 // of a chain, or of anchors, which are published in one bundle with those of other backends
)

// request turns a request that was granted into the contract's form.
func request(req csr.Request, config map[string]string) (*signerv1.SignRequest, error) {
	key, err := x509.MarshalPKIXPublicKey(req.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("encoding the request's public key: %w", err)
	}
	out := &signerv1.SignRequest{
		Uid: string(req.UID), Name: req.Name, SignerName: req.SignerName, Requester: requester(req.Requester),
		PublicKey: key, Subject: subject(req.Subject), DnsNames: req.DNSNames, EmailAddresses: req.EmailAddresses,
		IsCa: req.IsCA, Duration: durationpb.New(req.Duration), Pkcs10: req.DER, Config: config,
	}
	for _, ip := range req.IPAddresses {
		out.IpAddresses = append(out.IpAddresses, ip.String())
	}
	for _, u := range req.URIs {
		out.Uris = append(out.Uris, u.String())
	}
	for _, u := range req.Usages {
		out.Usages = append(out.Usages, string(u))
	}
	return out, nil
}

func requester(r csr.Requester) *signerv1.Requester {
	out := &signerv1.Requester{Username: r.Username, Uid: r.UID, Groups: r.Groups}
	if namespace, name, ok := r.ServiceAccount(); ok {
		out.ServiceAccount = &signerv1.ServiceAccount{Namespace: namespace, Name: name}
	}
	if pod, ok := r.Pod(); ok {
		out.Pod = &signerv1.Pod{Name: pod.Name, Uid: string(pod.UID), NodeName: pod.NodeName}
	}
	return out
}

func subject(n pkix.Name) *signerv1.Subject {
	return &signerv1.Subject{
		Country: n.Country, Organization: n.Organization, OrganizationalUnit: n.OrganizationalUnit, Locality: n.Locality,
		Province: n.Province, StreetAddress: n.StreetAddress, PostalCode: n.PostalCode, SerialNumber: n.SerialNumber, CommonName: n.CommonName,
	}
}

// result turns an answer into a chain and the time to renew it, a *signer.PendingError, a *signer.PermanentError, a
// *signer.RequestError, or trouble.
// Whether the chain is what was asked for is for the signer to verify.
func result(response *signerv1.SignResponse) (chain []*x509.Certificate, renewAt time.Time, err error) {
	switch r := response.GetResult().(type) {
	case *signerv1.SignResponse_Issued:
		if chain, err = certificates(r.Issued.GetCertificates(), maxChain, maxBytes); err != nil {
			// Its names may be what makes a certificate too large or odd, and they are the requester's.
			return nil, time.Time{}, &signer.RequestError{Err: fmt.Errorf("reading the chain that the external signer issued: %w", err)}
		}
		if at := r.Issued.GetRenewAt(); at.IsValid() {
			renewAt = at.AsTime()
		}
		return chain, renewAt, nil
	case *signerv1.SignResponse_Pending:
		pending := &signer.PendingError{After: time.Second, Reason: cmp.Or(remote.Bound(r.Pending.GetReason()), "the external signer needs time")}
		if after := r.Pending.GetRetryAfter(); after.IsValid() && after.AsDuration() > 0 {
			pending.After = after.AsDuration()
		}
		return nil, time.Time{}, pending
	case *signerv1.SignResponse_Refused:
		reason := cmp.Or(remote.Bound(r.Refused.GetReason()), "the external signer gave no reason")
		return nil, time.Time{}, &signer.PermanentError{Err: errors.New(reason)}
	default:
		return nil, time.Time{}, errors.New("the external signer's answer is neither issued nor pending nor refused: it may speak a later version of certwright.signer.v1")
	}
}

// parseAnchors reads trust anchors, each of which must be a CA certificate.
func parseAnchors(response *signerv1.TrustAnchorsResponse) (anchors, error) {
	var known anchors
	if len(response.GetCertificates()) == 0 {
		return known, nil
	}
	parsed, err := certificates(response.GetCertificates(), maxAnchors, maxBytes)
	if err != nil {
		return known, fmt.Errorf("reading the external signer's trust anchors: %w", err)
	}
	for i, c := range parsed {
		if !c.BasicConstraintsValid || !c.IsCA {
			return known, fmt.Errorf("reading the external signer's trust anchors: certificate %d, %s, is no CA certificate", i, remote.Bound(c.Subject.String()))
		}
		if known.notAfter.IsZero() || c.NotAfter.Before(known.notAfter) {
			known.notAfter = c.NotAfter
		}
	}
	if at := response.GetNotAfter(); at.IsValid() {
		known.notAfter = at.AsTime()
	}
	known.certificates = parsed
	return known, nil
}

// certificates parses certificates in DER, at least one.
func certificates(list [][]byte, most, bytes int) ([]*x509.Certificate, error) {
	if len(list) == 0 || len(list) > most {
		return nil, fmt.Errorf("it holds %d certificates, allowed are 1 to %d", len(list), most)
	}
	parsed := make([]*x509.Certificate, 0, len(list))
	for i, der := range list {
		if bytes -= len(der); bytes < 0 {
			return nil, errors.New("it is larger than the contract allows")
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("parsing certificate %d: %w", i, err)
		}
		parsed = append(parsed, c)
	}
	return parsed, nil
}

func fingerprint(c *x509.Certificate) [sha256.Size]byte { return sha256.Sum256(c.Raw) }
