// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/internal/example"
)

// adviser is a backend that says when to renew.
type adviser struct {
	example.Backend
	at  time.Time
	err error
}

func (a adviser) RenewAt(context.Context, *x509.Certificate) (time.Time, error) { return a.at, a.err }

func TestAdviceIsWrittenWithTheCertificate(t *testing.T) {
	good := example.Now.Add(7 * time.Hour)
	for name, c := range map[string]struct {
		at   time.Time
		err  error
		want string
	}{
		"advice":                     {good, nil, "2026-05-04T10:02:01Z"},
		"in another time zone":       {good.In(time.FixedZone("", 3600)), nil, "2026-05-04T10:02:01Z"},
		"none":                       {time.Time{}, nil, ""},
		"trouble":                    {good, errors.New("503"), ""},
		"before the leaf is valid":   {example.Now.Add(-time.Hour), nil, ""},
		"after the leaf has expired": {example.Now.Add(25 * time.Hour), nil, ""},
		"at the end of the universe": {time.Unix(1<<60, 0), nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, example.Approved(t, nil), example.Policy(), example.Signer("local"))
			w.backends["local"] = adviser{example.Honest, c.at, c.err}
			if _, err := w.reconcile(t); err != nil {
				t.Fatal(err)
			}
			if want := []string{"patch status web"}; !slices.Equal(w.api.Writes, want) || len(issued(t, w)) != 2 {
				t.Errorf("writes %q, want %q", w.api.Writes, want)
			}
			var patch struct {
				Metadata struct{ Annotations map[string]string }
			}
			if err := json.Unmarshal([]byte(w.api.Patches[0]), &patch); err != nil {
				t.Fatal(err)
			}
			if got := patch.Metadata.Annotations[v1alpha1.AnnotationRenewAt]; got != c.want {
				t.Errorf("the annotation says %q, want %q", got, c.want)
			}
		})
	}
}
