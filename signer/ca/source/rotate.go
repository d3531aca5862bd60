// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"crypto/x509"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca/record"
	"github.com/certwright/certwright/signer/ca/rotation"
)

// hurried is how long what is late is looked at in short intervals.
const hurried = time.Minute

// named reports whether a fingerprint is that of one of the certificates, each of which may be nil.
func named(fingerprint string, certs ...*x509.Certificate) bool {
	return slices.ContainsFunc(certs, func(c *x509.Certificate) bool { return c != nil && fingerprint == signer.Fingerprint(c) })
}

// seen reports whether all anchors that have not expired are in the bundle that is published now.
func seen(ctx context.Context, ask signer.Rotation, anchors []*x509.Certificate, now time.Time) (bool, error) {
	published, err := ask.Published(ctx)
	if err != nil {
		return false, err
	}
	return len(record.Without(record.Valid(anchors, now), published)) == 0, nil
}

// rotationStatus is what people are told of the replacement of one root by another.
func rotationStatus(s rotation.State, f rotation.Facts, old, root *x509.Certificate) *v1alpha1.Rotation {
	r := &v1alpha1.Rotation{
		Phase: s.Phase, Since: metav1.NewTime(s.Since.Truncate(time.Second)),
		OldRoot: signer.Fingerprint(old), NewRoot: signer.Fingerprint(root),
	}
	if until := s.Until(f); !until.IsZero() {
		r.Until = &metav1.Time{Time: until.Add(time.Second - 1).Truncate(time.Second)} // not earlier than it is
	}
	return r
}

// lookAgain returns when the next step may be due; zero if nothing is known of that. What is late is looked at in short intervals for a
// while, and then as often as all else.
func lookAgain(s rotation.State, f rotation.Facts) time.Time {
	until := s.Until(f)
	from := until
	if until.IsZero() {
		from = s.Since
	}
	if f.Now.Sub(from) > hurried {
		return time.Time{}
	}
	if until.IsZero() {
		return f.Now
	}
	return until
}
