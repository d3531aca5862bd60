// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/x509"
	"slices"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/ca/authority"
	"github.com/certwright/certwright/signer/ca/entry"
	"github.com/certwright/certwright/signer/ca/rotation"
)

// The entries of the Secret that says what roots an administrator's CA had.
const (
	entryAnchors     = "anchors.crt"
	entryNextAnchors = "next-anchors.crt"
	entryOldAnchors  = "old-anchors.crt"
	entryState       = "rotation.json"
)

// record says what roots an administrator's CA had. It does not change once it is in use.
type record struct {
	state rotation.State
	// current are those of the CA that signs, next those of the one that will, old those of which certificates may still be in use.
	current, next, old []*x509.Certificate
}

func parseRecord(data entry.Data) (r *record, err error) {
	r = &record{}
	if r.state, err = rotation.Decode(data[entryState]); err != nil {
		return nil, authority.Unusable(entry.ReasonSecretIncomplete, "key %s: %w", entryState, err)
	}
	for name, certs := range r.entries() {
		needed := name == entryAnchors || name == entryNextAnchors && r.state.Phase == v1alpha1.RotationPublishing
		if !needed && !entry.Has(data, name) {
			continue
		}
		if *certs, err = entry.Certificates(data, name); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *record) entries() map[string]*[]*x509.Certificate {
	return map[string]*[]*x509.Certificate{entryAnchors: &r.current, entryNextAnchors: &r.next, entryOldAnchors: &r.old}
}

func (r *record) encode() (data entry.Data, err error) {
	data = entry.Data{}
	for name, certs := range r.entries() {
		if len(*certs) > 0 {
			data[name] = entry.EncodeCertificates(*certs...)
		}
	}
	data[entryState], err = r.state.Encode()
	return data, err
}

// roots are all of them, each once.
func (r *record) roots() []*x509.Certificate {
	return union(r.current, r.next, r.old)
}

// take returns the record after a step of a CA with these anchors.
func (r *record) take(step rotation.Step, state rotation.State, anchors []*x509.Certificate) *record {
	next := *r
	next.state = state
	switch step {
	case rotation.Begin: // also in place of another one that has not come to its end
		next.next, next.old = anchors, union(without(r.next, anchors), r.old)
	case rotation.Switch:
		next.current, next.next = r.next, nil
		next.old = without(union(r.current, r.old), r.next)
	case rotation.Finish:
		next.old = nil
	case rotation.Replace:
		next = record{state: state, current: anchors}
	case rotation.None, rotation.Raise, rotation.Seen, rotation.Renew:
	}
	return &next
}

// adopt returns the record of a CA whose certificates verify with the roots that it had, but which has others beside or in place of them.
func (r *record) adopt(f rotation.Facts, anchors []*x509.Certificate) *record {
	next := &record{state: r.state, current: anchors, old: without(r.roots(), anchors)}
	if len(next.old) == 0 {
		next.state = rotation.State{Longest: max(r.state.Longest, r.state.OldLongest)}
	} else {
		next.state = r.state.Switched(f.Now, f.MaxDuration)
	}
	return next
}

// union returns all certificates, each once.
func union(lists ...[]*x509.Certificate) (all []*x509.Certificate) {
	for _, c := range slices.Concat(lists...) {
		if !slices.ContainsFunc(all, c.Equal) {
			all = append(all, c)
		}
	}
	return all
}

// same reports whether both hold the same certificates.
func same(a, b []*x509.Certificate) bool {
	return len(without(a, b)) == 0 && len(without(b, a)) == 0
}
