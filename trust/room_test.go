// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"crypto/x509"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/trust"
)

// Truststores share the room of a ConfigMap with the PEM of all, which comes first: where roots of one Signer are replaced in an
// emergency, the formats of another are in nobody's way.
func TestTruststoresTakeTheRoomThatIsLeft(t *testing.T) {
	large := bundle(t, newCert(t, "Large", func(c *x509.Certificate) {
		c.DNSNames = slices.Repeat([]string{"a-name-that-takes.example.com"}, 8000) // 240 KB, 325 KB in PEM
	}))
	small := bundle(t, newCert(t, "Small", nil))
	made := func(name, signerName string, hour int, formats ...v1alpha1.TrustFormat) *v1alpha1.Signer {
		s := withFormats(signerObject(name, signerName), formats...)
		s.CreationTimestamp = metav1.NewTime(now.Add(time.Duration(hour) * time.Hour))
		return s
	}
	const otherJKS = "example.com_other.jks"
	for name, c := range map[string]struct {
		publish  []*v1alpha1.Signer
		bundles  []trust.Bundle
		want     []string
		crowdsBy []string // signerNames without room
	}{
		"one format each":          {[]*v1alpha1.Signer{made("internal", signerName, 1, "JKS"), made("other", otherName, 2, "JKS")}, []trust.Bundle{large, large}, []string{jksKey}, []string{otherName}},
		"the older one comes last": {[]*v1alpha1.Signer{made("internal", signerName, 2, "JKS"), made("other", otherName, 1, "JKS")}, []trust.Bundle{large, large}, []string{otherJKS}, []string{signerName}},
		"what is small fits":       {[]*v1alpha1.Signer{made("internal", signerName, 1, "JKS", "PKCS12"), made("other", otherName, 2, "JKS")}, []trust.Bundle{large, small}, []string{jksKey, p12Key, otherJKS}, nil},
		"no format, no trouble":    {[]*v1alpha1.Signer{made("internal", signerName, 1, "JKS", "PKCS12"), made("other", otherName, 2)}, []trust.Bundle{large, large}, nil, []string{signerName}},
	} {
		t.Run(name, func(t *testing.T) {
			shop := namespaceObject("shop")
			cl := newClient(t, shop, c.publish[0], c.publish[1])
			p := trust.NewConfigMaps(cl, namespace, true, clocktesting.NewFakePassiveClock(now))
			for range 2 { // the second time, all is known
				for i, s := range c.publish {
					if _, err := p.Publish(t.Context(), s, c.bundles[i]); err != nil {
						t.Fatal(err)
					}
				}
				reconcileShop(t, p)
			}
			m := shopConfigMap(t, cl)
			if got := slices.Sorted(maps.Keys(m.BinaryData)); !slices.Equal(got, slices.Sorted(slices.Values(c.want))) {
				t.Errorf("truststores %q, want %q", got, c.want)
			}
			if len(m.Data) != 2 {
				t.Errorf("%d bundles in PEM, want both", len(m.Data))
			}
			for _, s := range c.publish {
				warnings := p.Warnings(t.Context(), s.Spec.SignerName)
				if crowded := slices.Contains(c.crowdsBy, s.Spec.SignerName); crowded != (len(warnings) == 1 && strings.Contains(warnings[0], "no truststores are published")) {
					t.Errorf("%s: warnings %q, want one: %t", s.Name, warnings, crowded)
				}
			}
			// Who goes makes room.
			if err := p.Withdraw(t.Context(), otherName); err != nil {
				t.Fatal(err)
			}
			if warnings := p.Warnings(t.Context(), signerName); len(warnings) > 0 {
				t.Errorf("alone, it is warned of %q", warnings)
			}
		})
	}
}
