// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package trust publishes what verifiers of a signerName's certificates must trust: as a ClusterTrustBundle where the API
// server and all kubelets can do that, and then as a key of one ConfigMap in the namespaces that a Signer selects; else as that
// key in each namespace.
//
// It promises that a published bundle is never replaced by an empty one or by one of which nothing is valid, that nothing
// is written when nothing changes, and that nobody else's certificates get in: of what it is given only CA certificates
// that have not expired are published.
package trust

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxBundleBytes is what the API server allows in a ClusterTrustBundle (KEP-3257), and nearly what fits into a ConfigMap.
const maxBundleBytes = 1 << 20

// Bundle is a set of trust anchors in the form in which it is published.
type Bundle struct {
	// PEM holds the certificates as CERTIFICATE blocks without headers. The same set always gives the same text. The one that
	// expires last comes first, for readers that take only one.
	PEM string
	// Anchors are these certificates, in the same order.
	Anchors []*x509.Certificate
	// Warnings name the certificates that were left out, and why. Repeated ones are not mentioned, as two backends may well have one root.
	Warnings []string
}

// Assemble makes a bundle of those anchors that are CA certificates and have not expired at the given time. The error says
// why nothing could be published.
func Assemble(anchors []*x509.Certificate, now time.Time) (Bundle, error) {
	var b Bundle
	var keep []*x509.Certificate
	for _, c := range anchors {
		switch {
		case !c.BasicConstraintsValid || !c.IsCA:
			b.Warnings = append(b.Warnings, fmt.Sprintf("%s (serial number %d) is no CA certificate", c.Subject, c.SerialNumber))
		case now.After(c.NotAfter):
			b.Warnings = append(b.Warnings, fmt.Sprintf("%s (serial number %d) expired at %s", c.Subject, c.SerialNumber, c.NotAfter.UTC().Format(time.RFC3339)))
		default:
			keep = append(keep, c)
		}
	}
	if len(keep) == 0 {
		if len(b.Warnings) == 0 {
			return Bundle{}, errors.New("there are no trust anchors: a bundle cannot be empty")
		}
		return Bundle{}, fmt.Errorf("none of the %d trust anchors can be published: %s", len(anchors), strings.Join(b.Warnings, "; "))
	}
	slices.SortFunc(keep, func(x, y *x509.Certificate) int {
		return cmp.Or(y.NotAfter.Compare(x.NotAfter), bytes.Compare(x.Raw, y.Raw))
	})
	keep = slices.CompactFunc(keep, (*x509.Certificate).Equal)
	var text strings.Builder
	for _, c := range keep {
		text.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	if text.Len() > maxBundleBytes {
		return Bundle{}, fmt.Errorf("the %d trust anchors are %d bytes long: at most %d fit into a bundle", len(keep), text.Len(), maxBundleBytes)
	}
	b.PEM, b.Anchors = text.String(), keep
	return b, nil
}
