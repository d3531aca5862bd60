// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package txt is what the parts of DNS-01 share: the record that answers a challenge, and those who write it.
//
// It stands on nothing, so that programs of their own can use it.
package txt

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

const (
	// Prefix is the first label of a name that a challenge is answered at (RFC 8555, section 8.4).
	Prefix = "_acme-challenge."
	// TTL of a record, in seconds. It is short, as records are removed after minutes.
	TTL = 60
	// MaxValues is how many values may stand at one name at the same time: the least that any of the known providers takes. A name
	// and its wildcard share a name, and so do all that are delegated to it.
	MaxValues = 20
)

// Record is one value of the TXT records at a name. Other values there belong to somebody else.
type Record struct {
	// Zone and Name are in lower case, with a dot at the end. The name is in the zone, or the zone's own.
	Zone string `json:"zone"`
	Name string `json:"fqdn"`
	// Value is the digest of a key authorization in base64url, 43 characters.
	Value string `json:"value"`
}

// Writer writes and removes records in the zones of one provider. Writing what is there, and removing what is not, does
// nothing and is no error. An error is a *ConfigError if nothing changes until a person does something, and else trouble, which
// passes. A Writer is safe for concurrent use, also for several values at one name.
type Writer interface {
	Present(ctx context.Context, record Record) error
	CleanUp(ctx context.Context, record Record) error
}

// Checker is a Writer that knows, without writing, whether it could.
type Checker interface {
	Check(ctx context.Context) error
}

// ConfigError says that a person must change something: a key that the provider does not know, a zone that it does not have.
type ConfigError struct{ Err error }

func (e *ConfigError) Error() string { return e.Err.Error() }
func (e *ConfigError) Unwrap() error { return e.Err }

// Misconfigured returns a *ConfigError with a message as by fmt.Errorf.
func Misconfigured(format string, args ...any) error {
	return &ConfigError{Err: fmt.Errorf(format, args...)}
}

// ErrFull is why a value is not written beside MaxValues others. It is trouble, which passes as they are removed.
var ErrFull = fmt.Errorf("%d values stand at this name already: it has its turn when some are removed", MaxValues)

var (
	hostname = regexp.MustCompile(`^([a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?\.)+$`)
	digest   = regexp.MustCompile(`^[-_A-Za-z0-9]{43}$`)
)

// Name returns a name in lower case with a dot at its end, or an error if it is none that a record is put at: up to 253
// letters, digits, hyphens, underscores and dots. Such a name needs no escapes, whoever reads it.
func Name(s string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(s, ".") + ".")
	if len(name) > 254 || !hostname.MatchString(name) {
		return "", fmt.Errorf("%.260q is no DNS name of at most 253 letters, digits, hyphens, underscores and dots", s)
	}
	return name, nil
}

// Within returns true if a name is a domain's own or below it. Both are as Name returns them.
func Within(name, domain string) bool {
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// Validate returns an error if the record is none that answers a challenge.
func (r Record) Validate() error {
	for field, s := range map[string]string{"zone": r.Zone, "fqdn": r.Name} {
		if name, err := Name(s); err != nil || name != s {
			return fmt.Errorf("%s: %.260q is no DNS name in lower case with a dot at its end", field, s)
		}
	}
	switch {
	case !Within(r.Name, r.Zone):
		return fmt.Errorf("fqdn: %s is not in the zone %s", r.Name, r.Zone)
	case !digest.MatchString(r.Value):
		return errors.New("value: it is not the 43 characters of a SHA-256 digest in base64url")
	}
	return nil
}
