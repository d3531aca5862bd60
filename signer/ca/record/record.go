// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package record is what Certwright writes down of the roots of a CA that an administrator brings: those that it has, those that it
// will have, and those of which certificates may still be in use; and while other roots are published, the CA of before, with its key, as
// that signs on.
package record

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca/authority"
	"github.com/certwright/certwright/signer/ca/entry"
	"github.com/certwright/certwright/signer/ca/rotation"
)

// The entries of the Secret.
const (
	entryCurrent = "anchors.crt"
	entryNext    = "next-anchors.crt"
	entryOld     = "old-anchors.crt"
	entryState   = "rotation.json"
	// The CA that signs while the next roots are published.
	entryBefore    = "before.crt"
	entryBeforeKey = "before.key"
)

// Record says what roots an administrator's CA had. It does not change once it is in use.
type Record struct {
	// State says how far the replacement of roots is.
	State rotation.State
	// Current are those of the CA that signs, Next those of the one that will, Old those of which certificates may still be in use.
	Current, Next, Old []*x509.Certificate
	// Before is the CA that signs while Next are published and Current is what everybody knows. It is nil in any other phase, and if nobody
	// knew it when the phase began.
	Before *authority.Authority
}

// Parse reads a record. Every error is a *signer.CheckError.
func Parse(data entry.Data) (r *Record, err error) {
	r = &Record{}
	if r.State, err = rotation.Decode(data[entryState]); err != nil {
		return nil, authority.Unusable(entry.ReasonSecretIncomplete, "key %s: %w", entryState, err)
	}
	for name, certs := range r.entries() {
		needed := name == entryCurrent || name == entryNext && r.State.Phase == v1alpha1.RotationPublishing
		if !needed && !entry.Has(data, name) {
			continue
		}
		if *certs, err = entry.Certificates(data, name); err != nil {
			return nil, err
		}
	}
	if r.State.Phase == v1alpha1.RotationPublishing && entry.Has(data, entryBefore) {
		if r.Before, err = parseBefore(data, r.Current); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// parseBefore reads a CA whose certificates those verify who know the current roots.
func parseBefore(data entry.Data, current []*x509.Certificate) (*authority.Authority, error) {
	chain, err := entry.Certificates(data, entryBefore)
	if err != nil {
		return nil, err
	}
	key, err := entry.PrivateKey(data, entryBeforeKey)
	if err != nil {
		return nil, err
	}
	a, err := authority.New(chain, current, key)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", entryBefore, err)
	}
	return a, nil
}

func (r *Record) entries() map[string]*[]*x509.Certificate {
	return map[string]*[]*x509.Certificate{entryCurrent: &r.Current, entryNext: &r.Next, entryOld: &r.Old}
}

// Encode returns the entries of the Secret.
func (r *Record) Encode() (data entry.Data, err error) {
	data = entry.Data{}
	for name, certs := range r.entries() {
		if len(*certs) > 0 {
			data[name] = signer.EncodePEM(*certs...)
		}
	}
	if r.Before != nil {
		data[entryBefore] = signer.EncodePEM(Union([]*x509.Certificate{r.Before.Cert}, r.Before.Issuers)...)
		if data[entryBeforeKey], err = entry.EncodeKey(r.Before.Key); err != nil {
			return nil, err
		}
	}
	data[entryState], err = r.State.Encode()
	return data, err
}

// Roots are all of them, each once.
func (r *Record) Roots() []*x509.Certificate { return Union(r.Current, r.Next, r.Old) }

// Raise returns the record in which a certificate may live that long.
func (r *Record) Raise(lifetime time.Duration) *Record {
	next := *r
	next.State = r.State.Raise(lifetime)
	return &next
}

// Forget returns the record in which the CA of before is not, as whoever brought it has taken it away.
func (r *Record) Forget() *Record {
	next := *r
	next.Before = nil
	return &next
}

// Take returns the record after a step of a CA with these anchors, after which the state is as given. Should it begin to publish them,
// the CA of before is what signs until then; it may be nil.
func (r *Record) Take(step rotation.Step, state rotation.State, anchors []*x509.Certificate, before *authority.Authority) *Record {
	next := *r
	next.State = state
	switch step {
	case rotation.Begin: // also in place of another one that has not come to its end
		next.Next, next.Old = anchors, Union(Without(r.Next, anchors), r.Old)
		next.Before = before
	case rotation.Switch:
		next.Current, next.Next, next.Before = r.Next, nil, nil
		next.Old = Without(Union(r.Current, r.Old), r.Next)
	case rotation.Finish:
		next.Old = nil
	case rotation.Replace:
		next = Record{State: state, Current: anchors}
	case rotation.None, rotation.Raise, rotation.Seen, rotation.Renew:
	}
	return &next
}

// Adopt returns the record of a CA whose certificates verify with the roots that it had, but which has others beside or in place of them.
// Certificates live as long as given at the longest.
func (r *Record) Adopt(now time.Time, longest time.Duration, anchors []*x509.Certificate) *Record {
	next := &Record{State: r.State, Current: anchors, Old: Without(r.Roots(), anchors)}
	if len(next.Old) == 0 {
		next.State = rotation.State{Longest: max(r.State.Longest, r.State.OldLongest)}
	} else {
		next.State = r.State.Switched(now, longest)
	}
	return next
}

// Union returns all certificates, each once.
func Union(lists ...[]*x509.Certificate) (all []*x509.Certificate) {
	for _, c := range slices.Concat(lists...) {
		if !slices.ContainsFunc(all, c.Equal) {
			all = append(all, c)
		}
	}
	return all
}

// Without returns the certificates that are not among others.
func Without(certs, others []*x509.Certificate) []*x509.Certificate {
	return slices.DeleteFunc(slices.Clone(certs), func(c *x509.Certificate) bool { return slices.ContainsFunc(others, c.Equal) })
}

// Same reports whether both hold the same certificates.
func Same(a, b []*x509.Certificate) bool {
	return len(Without(a, b)) == 0 && len(Without(b, a)) == 0
}

// Valid returns those certificates that have not expired.
func Valid(certs []*x509.Certificate, now time.Time) []*x509.Certificate {
	return slices.DeleteFunc(slices.Clone(certs), func(c *x509.Certificate) bool { return now.After(c.NotAfter) })
}
