// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package casefile

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzRead reads any file as everything that it could be: nothing panics, and every problem is at a line of the file.
func FuzzRead(f *testing.F) {
	f.Add([]byte(goodPolicy))
	f.Add([]byte("a: &x [1]\n---\nb: *x\n"))
	f.Add([]byte("{usages: [server auth], signerName: a.b/c, requester: {username: alice}, dnsNames: [a.]}"))
	f.Add([]byte("spec:\n  allow: {dnsNames: ['{a}']}\nkind: CertificatePolicy\napiVersion: certwright.dev/v1alpha1\n"))
	f.Add([]byte("pod: {name: a, ips: [x]}\nservices: [{}]\n---\n\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		lines := bytes.Count(data, []byte("\n")) + 2
		check := func(err error) {
			var problems Problems
			if !errors.As(err, &problems) {
				return
			}
			for _, p := range problems {
				if p.Line < 0 || p.Line > lines {
					t.Errorf("line %d of %d: %v", p.Line, lines, p)
				}
			}
		}
		documents, err := Read("f", data)
		check(err)
		for _, d := range documents {
			_, err := d.Policy(t.Context())
			check(err)
			_, err = d.Request()
			check(err)
			check(d.Decode(&Facts{}))
		}
	})
}
