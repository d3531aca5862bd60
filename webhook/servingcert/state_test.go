// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package servingcert

import (
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestSecretContents(t *testing.T) {
	good, err := generate(dnsName, start)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := generate("other.hooks.svc", start)
	if err != nil {
		t.Fatal(err)
	}
	data := func(s state, change func(map[string][]byte)) map[string][]byte {
		d := map[string][]byte{"mine": []byte("kept")}
		s.encode(d)
		if change != nil {
			change(d)
		}
		return d
	}
	for name, test := range map[string]struct {
		data map[string][]byte
		kept bool
	}{
		"good":                     {data: data(state{current: good}, nil), kept: true},
		"empty":                    {data: map[string][]byte{"mine": []byte("kept")}},
		"no key":                   {data: data(state{current: good}, func(d map[string][]byte) { delete(d, keyKey) })},
		"no CA":                    {data: data(state{current: good}, func(d map[string][]byte) { delete(d, caKey) })},
		"garbage":                  {data: data(state{current: good}, func(d map[string][]byte) { d[certKey] = []byte("garbage") })},
		"key of another":           {data: data(state{current: good}, func(d map[string][]byte) { d[keyKey] = encodeKey(foreign.pair.PrivateKey) })},
		"CA of another":            {data: data(state{current: good}, func(d map[string][]byte) { d[caKey] = encodeCertificates(foreign.ca) })},
		"for another name":         {data: data(state{current: foreign}, nil)},
		"broken next is no bar":    {data: data(state{current: good}, func(d map[string][]byte) { d[nextPrefix+certKey] = []byte("garbage") }), kept: true},
		"broken, but next is good": {data: data(state{current: foreign, next: good}, nil), kept: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, mutatingConfiguration(), &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Namespace: secret.Namespace, Name: secret.Name}, Data: maps.Clone(test.data),
			})
			k := c.keeper()
			c.sync(k)
			if got := c.assertServed(k).Equal(good.pair.Leaf); got != test.kept {
				t.Errorf("serves what was in the Secret: %t, want %t", got, test.kept)
			}
			if string(c.secret().Data["mine"]) != "kept" {
				t.Error("a key of someone else is gone from the Secret")
			}
		})
	}
}
