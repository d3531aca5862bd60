// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/internal/example"
)

// A pod's certificate is held against the API server's rules before it is written, so that the next backend is asked where one does not
// keep to them; the backend stays in service for all other requests.
func TestPodLifetimeIsVerified(t *testing.T) {
	req := example.Request(t, nil, nil).WithDuration(2 * time.Hour)
	req.ForPod, req.DER = true, nil
	for name, c := range map[string]struct {
		before, after time.Duration // from now
		want          string
	}{
		"as granted":                    {-30 * time.Second, 2*time.Hour - 30*time.Second, ""},
		"shorter":                       {-30 * time.Second, time.Hour, ""},
		"an hour":                       {0, time.Hour, ""},
		"backdated by what is too much": {-time.Minute, 2 * time.Hour, "lives for 2h1m0s from its notBefore on, longer than the 2h0m0s"},
		"a second too much":             {0, 2*time.Hour + time.Second, "longer than the 2h0m0s"},
		"too short":                     {0, time.Hour - time.Second, "must live for 1h0m0s at least"},
		"from long ago":                 {-6 * time.Minute, time.Hour, "must begin when it is signed"},
		"from later on":                 {6 * time.Minute, 2 * time.Hour, "valid only from"},
	} {
		t.Run(name, func(t *testing.T) {
			leaf := example.Leaf(req, example.Intermediate, func(x *x509.Certificate) {
				x.NotBefore, x.NotAfter = now.Add(c.before), now.Add(c.after)
			})
			_, err := Chain([]*x509.Certificate{leaf, example.Intermediate.Certificate}, []*x509.Certificate{example.Root.Certificate}, req, now)
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var own *signer.RequestError
			if !errors.As(err, &own) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want a RequestError with %q", err, c.want)
			}
		})
	}
}
