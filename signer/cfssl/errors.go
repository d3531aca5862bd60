// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cfssl

import (
	"fmt"
	"strings"

	cferr "github.com/cloudflare/cfssl/errors"

	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/remote"
)

// Reasons of a *signer.CheckError.
const (
	reasonCAExpired       = "CAExpired"
	reasonCAExpiring      = "CAExpiring"
	reasonNoCA            = "NoCA"
	reasonRootUnknown     = "RootUnknown"
	reasonAuthKeyRefused  = "AuthKeyRefused"
	reasonProfileUnusable = "ProfileUnusable"
	reasonLabelUnknown    = "LabelUnknown"
	reasonEndpointMissing = "EndpointMissing"
)

// refusal is a server's own reason. cfssl serve gives codes of its errors package, multirootca always 1.
type refusal struct {
	status, code int
	message      string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("the server answers %s (status %d, code %d)", remote.Quote(r.message), r.status, r.code)
}

// permanent reports whether trying again cannot help, if it was the answer to a request for a certificate.
func (r *refusal) permanent() bool {
	policy := func(reason cferr.Reason) int { return int(cferr.PolicyError) + int(reason) }
	switch {
	case r.code == policy(cferr.UnmatchedWhitelist), r.code == policy(cferr.InvalidRequest):
		return true // the request breaks the profile's rules
	case r.code >= int(cferr.CSRError) && r.code < int(cferr.CTError):
		return true // the server cannot read it
	}
	// This comes with status 500 and no code, yet it is only about what the request would become.
	return strings.HasPrefix(r.message, "pre-issuance linting found")
}

// verdict makes of an error that wraps r, the answer to a request for a certificate, what it means for that request.
func (r *refusal) verdict(err error) error {
	switch {
	case r.permanent():
		return &signer.PermanentError{Err: err}
	case r.message == unexplained:
		return &signer.RequestError{Err: err}
	}
	return err
}

// unexplained is all that multirootca says when it does not sign, be it for the request's names or for its own trouble.
const unexplained = "bad request"

// remedies are what a person can do about a message, and the reason for a *signer.CheckError.
var remedies = map[string]struct{ reason, remedy string }{
	"invalid token":              {reasonAuthKeyRefused, "the key of cfssl.authKeyRef is not that of the profile's auth_key"},
	"not authorised":             {reasonAuthKeyRefused, "the nets of the server's configuration do not include this address"},
	"no authentication provider": {reasonProfileUnusable, "the profile has no auth_key: give it one, or name another profile"},
	"authorisation required":     {reasonProfileUnusable, "the profile has no auth_key: give it one, or name another profile"},
	"invalid profile":            {reasonProfileUnusable, "the server has no profile of that name"},
	"bad label":                  {reasonLabelUnknown, "the server has no signer of that label"},
	unexplained:                  {"", "only the log of multirootca tells why: the label may not exist, or the names break the profile's name_whitelist"},
}

// explained wraps what a person has to cure into a *signer.CheckError that says how.
func (r *refusal) explained() error {
	known, ok := remedies[r.message]
	if !ok {
		return r
	}
	err := fmt.Errorf("%w: %s", r, known.remedy)
	if known.reason == "" {
		return err
	}
	return &signer.CheckError{Reason: known.reason, Err: err}
}

func checkError(reason, format string, args ...any) error {
	return &signer.CheckError{Reason: reason, Err: fmt.Errorf(format, args...)}
}

func permanent(format string, args ...any) error {
	return &signer.PermanentError{Err: fmt.Errorf(format, args...)}
}
