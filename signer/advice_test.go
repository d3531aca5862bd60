// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
)

// adviser is a backend that says when to renew.
type adviser struct {
	backend
	at  time.Time
	err error
}

func (a adviser) RenewAt(context.Context, *x509.Certificate) (time.Time, error) { return a.at, a.err }

func TestAdviceIsWrittenWithTheCertificate(t *testing.T) {
	good := now.Add(7 * time.Hour)
	for name, c := range map[string]struct {
		at   time.Time
		err  error
		want string
	}{
		"advice":                     {good, nil, "2026-05-04T10:02:01Z"},
		"in another time zone":       {good.In(time.FixedZone("", 3600)), nil, "2026-05-04T10:02:01Z"},
		"none":                       {time.Time{}, nil, ""},
		"trouble":                    {good, errors.New("503"), ""},
		"before the leaf is valid":   {now.Add(-time.Hour), nil, ""},
		"after the leaf has expired": {now.Add(25 * time.Hour), nil, ""},
		"at the end of the universe": {time.Unix(1<<60, 0), nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, approved(t, nil), newPolicy(), newSigner("local"))
			w.backends["local"] = adviser{honest, c.at, c.err}
			if _, err := w.reconcile(t); err != nil {
				t.Fatal(err)
			}
			if want := []string{"patch status web"}; !slices.Equal(w.writes, want) || len(issued(t, w)) != 2 {
				t.Errorf("writes %q, want %q", w.writes, want)
			}
			var patch struct {
				Metadata struct{ Annotations map[string]string }
			}
			if err := json.Unmarshal([]byte(w.patches[0]), &patch); err != nil {
				t.Fatal(err)
			}
			if got := patch.Metadata.Annotations[v1alpha1.AnnotationRenewAt]; got != c.want {
				t.Errorf("the annotation says %q, want %q", got, c.want)
			}
		})
	}
}
