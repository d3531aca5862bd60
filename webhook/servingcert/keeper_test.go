// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package servingcert

import (
	"bytes"
	"crypto/x509"
	"strings"
	"testing"
	"time"
)

func TestFirstStart(t *testing.T) {
	c := newCluster(t, mutatingConfiguration())
	k := c.keeper()
	if err := k.Ready(nil); err == nil {
		t.Fatal("ready before anything was done")
	}
	if _, err := k.GetCertificate(nil); err == nil {
		t.Fatal("a certificate before anything was done")
	}
	if writes := c.sync(k); writes != 2 {
		t.Fatalf("%d writes, want 2: Secret and configuration", writes)
	}
	leaf := c.assertServed(k)
	if writes := c.sync(k); writes != 0 {
		t.Fatalf("%d writes when all is well, want none", writes)
	}
	if c.config().Labels["kept"] != "yes" || c.config().Webhooks[1].ClientConfig.Service.Name != "hook" {
		t.Error("more than the caBundle of the configuration has changed")
	}
	if leaf.IsCA || leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) == nil {
		t.Error("the served certificate is its own CA")
	}
	for key, value := range c.secret().Data {
		if n := bytes.Count(value, []byte("PRIVATE KEY-----\n")); n > 0 && key != keyKey {
			t.Errorf("%s holds a key; the key of the CA must not be kept", key)
		}
	}
	other := c.keeper()
	if writes := c.sync(other); writes != 0 || !c.assertServed(other).Equal(leaf) {
		t.Errorf("a second replica wrote %d times or serves another certificate", writes)
	}
}

func TestCAIsForOneNameOnly(t *testing.T) {
	g, err := generate(dnsName, start)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.pair.Leaf.VerifyHostname(dnsName); err != nil {
		t.Error(err)
	}
	if !g.ca.PermittedDNSDomainsCritical || len(g.ca.PermittedDNSDomains) != 1 || g.ca.PermittedDNSDomains[0] != dnsName {
		t.Errorf("name constraints are %v, want only %s, critical", g.ca.PermittedDNSDomains, dnsName)
	}
	if !g.ca.MaxPathLenZero || g.ca.KeyUsage != x509.KeyUsageCertSign {
		t.Error("the CA may sign other CAs or more than certificates")
	}
}

func TestRotation(t *testing.T) {
	c := newCluster(t, mutatingConfiguration())
	k, other := c.keeper(), c.keeper()
	c.sync(k)
	c.sync(other)
	first := c.assertServed(k)

	c.clock.SetTime(start.Add(lifetime*2/3 - time.Second))
	if writes := c.sync(k); writes != 0 {
		t.Fatalf("%d writes before two thirds of the lifetime, want none", writes)
	}
	c.clock.SetTime(start.Add(lifetime * 2 / 3))
	if writes := c.sync(k); writes != 2 {
		t.Fatalf("%d writes to announce the next certificate, want 2", writes)
	}
	if got := certificates(c.config().Webhooks[0].ClientConfig.CABundle); got != 2 {
		t.Fatalf("%d CAs in the caBundle, want the current and the next", got)
	}
	if !c.assertServed(k).Equal(first) {
		t.Fatal("the next certificate is served before its overlap")
	}
	c.clock.Step(overlap - time.Second)
	if writes := c.sync(k); writes != 0 {
		t.Fatalf("%d writes during the overlap, want none", writes)
	}
	c.clock.Step(time.Second)
	if writes := c.sync(k); writes != 1 {
		t.Fatalf("%d writes to promote, want 1: the Secret", writes)
	}
	second := c.assertServed(k)
	if second.Equal(first) {
		t.Fatal("the next certificate is not served after its overlap")
	}
	if !c.assertServed(other).Equal(first) {
		t.Fatal("the other replica has not looked yet and should still serve, trusted, the first certificate")
	}
	if writes := c.sync(other); writes != 0 || !c.assertServed(other).Equal(second) {
		t.Fatalf("the other replica wrote %d times or does not follow", writes)
	}
}

// A next certificate that the API server was never told about is announced first.
func TestNoPromotionWithoutTrust(t *testing.T) {
	c := newCluster(t, mutatingConfiguration())
	k := c.keeper()
	c.sync(k)
	first := c.assertServed(k)
	c.clock.SetTime(start.Add(lifetime * 2 / 3))
	c.sync(k)
	config := c.config()
	config.Webhooks[1].ClientConfig.CABundle = nil // by someone who applied the manifest anew
	if err := c.Update(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	c.clock.Step(overlap)
	c.sync(k)
	if !c.assertServed(k).Equal(first) {
		t.Fatal("promoted although one webhook did not trust it")
	}
	c.sync(k)
	if c.assertServed(k).Equal(first) {
		t.Fatal("not promoted although all webhooks trust it")
	}
}

func TestPreviousCAsLeaveTheBundleWhenTheyExpire(t *testing.T) {
	c := newCluster(t, mutatingConfiguration())
	k := c.keeper()
	for range 250 {
		c.sync(k)
		c.assertServed(k)
		if got := certificates(c.config().Webhooks[0].ClientConfig.CABundle); got > 3 {
			t.Fatalf("%d CAs in the caBundle at %s, want at most 3", got, c.clock.Now())
		}
		c.clock.Step(24 * time.Hour)
	}
}

func TestExpired(t *testing.T) {
	c := newCluster(t, mutatingConfiguration())
	k := c.keeper()
	c.sync(k)
	first := c.assertServed(k)
	c.clock.Step(lifetime + time.Second) // everything was switched off for a long time
	if err := k.Ready(nil); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Fatalf("ready with an expired certificate: %v", err)
	}
	c.sync(k)
	if c.assertServed(k).Equal(first) {
		t.Fatal("an expired certificate is served")
	}
}
