// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package venafi_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/utils/clock"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/signertest"
	"github.com/certwright/certwright/signer/venafi"
	"github.com/certwright/certwright/signer/venafi/venafitest"
)

// What waits is bought once, even if the signer restarts.
func TestCloudWaits(t *testing.T) {
	s := venafitest.NewCloud(t)
	s.Set(venafitest.Wait(2))
	w := newWorld(t, keySecret())
	req := request(t, dns("web.example.com"))
	b := w.backend(cloudConfig(s), w.clock)
	_, err := b.Sign(t.Context(), req)
	signertest.WantError(t, err, "pending 5s", `"REQUESTED"`)

	restarted := w.backend(cloudConfig(s), w.clock)
	_, err = restarted.Sign(t.Context(), req)
	signertest.WantError(t, err, "pending 5s", `"REQUESTED"`)
	first, second := mustSign(t, restarted, req), mustSign(t, restarted, req)
	if s.Requests() != 1 || s.Issued() != 1 || !first[0].Equal(second[0]) {
		t.Errorf("%d requests made %d certificates, want 1 and the same again", s.Requests(), s.Issued())
	}
	if w.writes != 1 {
		t.Errorf("%d writes for a request that waits, want 1", w.writes)
	}
	if len(first) != 2 || first[1].CheckSignatureFrom(s.Root) != nil {
		t.Errorf("the chain has %d certificates, want the leaf and the intermediate", len(first))
	}
}

// What does not wait costs no write.
func TestCloudAtOnce(t *testing.T) {
	s := venafitest.NewCloud(t)
	w := newWorld(t, keySecret())
	b := w.backend(cloudConfig(s), w.clock)
	req := request(t, dns("web.example.com"))
	if !mustSign(t, b, req)[0].Equal(mustSign(t, b, req)[0]) || s.Issued() != 1 || w.writes != 0 {
		t.Errorf("%d certificates, %d writes, want 1 and none", s.Issued(), w.writes)
	}
}

func TestCloudApproval(t *testing.T) {
	s := venafitest.NewCloud(t)
	s.Set(venafitest.Approval(true))
	w := newWorld(t, keySecret())
	b := w.backend(cloudConfig(s), w.clock)
	approved, rejected := request(t, dns("a.example.com")), request(t, dns("b.example.com"))
	_, err := b.Sign(t.Context(), approved)
	signertest.WantError(t, err, "pending 1m0s", "PENDING_APPROVAL")
	s.Set(venafitest.Approval(false))
	mustSign(t, b, approved)

	s.Set(venafitest.Approval(true), venafitest.Rejecting(true))
	_, err = b.Sign(t.Context(), rejected)
	signertest.WantError(t, err, "permanent", "the approver said no")
}

func TestCloudCancelled(t *testing.T) {
	s := venafitest.NewCloud(t)
	s.Set(venafitest.Wait(1))
	b := newWorld(t, keySecret()).backend(cloudConfig(s), clock.RealClock{})
	req := request(t, dns("web.example.com"))
	_, err := b.Sign(t.Context(), req)
	signertest.WantError(t, err, "pending 5s", "REQUESTED")
	s.Cancel()
	_, err = b.Sign(t.Context(), req)
	signertest.WantError(t, err, "permanent", "CANCELLED")
}

// What failed is ordered anew.
func TestCloudFailed(t *testing.T) {
	s := venafitest.NewCloud(t)
	s.Set(venafitest.Wait(1), venafitest.Failing(venafitest.CADown))
	w := newWorld(t, keySecret())
	b := w.backend(cloudConfig(s), w.clock)
	req := request(t, dns("web.example.com"))
	_, err := b.Sign(t.Context(), req)
	signertest.WantError(t, err, "pending 5s", "REQUESTED")
	_, err = b.Sign(t.Context(), req)
	signertest.WantError(t, err, "request", "Cannot connect to the certificate authority")
	if text := string(w.secret(ownSecret).Data["orders"]); text != "{}" {
		t.Errorf("the Secret still holds %s", text)
	}
	s.Set(venafitest.Wait(0), venafitest.Failing(""))
	mustSign(t, b, req)
	if s.Requests() != 2 {
		t.Errorf("%d requests, want 2", s.Requests())
	}
}

func TestCloudRefuses(t *testing.T) {
	s := venafitest.NewCloud(t)
	s.Set(venafitest.Domains("example.com"))
	b := newWorld(t, keySecret()).backend(cloudConfig(s), clock.RealClock{})
	_, err := b.Sign(t.Context(), request(t, dns("web.example.org")))
	signertest.WantError(t, err, "permanent", "web.example.org is not in the list of allowed domains")
	_, err = b.Sign(t.Context(), request(t, dns("web.example.com")).WithDuration(59*time.Minute))
	signertest.WantError(t, err, "permanent", "duration: 59m0s are granted")
	leaf := mustSign(t, b, request(t, dns("web.example.com")).WithDuration(3*time.Hour+59*time.Minute))[0]
	if life := time.Until(leaf.NotAfter); life > 3*time.Hour || life < 2*time.Hour {
		t.Errorf("the leaf lives %s, want whole hours", life)
	}
}

// The ids of a zone may change: nothing is refused for good for that.
func TestCloudMisconfigured(t *testing.T) {
	s := venafitest.NewCloud(t)
	for name, c := range map[string]struct {
		zone, key, reason, says string
	}{
		"application": {`Other\Short lived`, venafitest.CloudKey, "ZoneUnknown", `no application "Other"`},
		"template":    {`Kubernetes\Other`, venafitest.CloudKey, "ZoneUnknown", `alias "Other"`},
		"key":         {venafitest.CloudZone, "00000000-0000-0000-0000-000000000000", "CredentialsRefused", "put a new one"},
		"no key":      {venafitest.CloudZone, " ", "SecretIncomplete", "api-key"},
	} {
		t.Run(name, func(t *testing.T) {
			config := cloudConfig(s)
			config.Cloud.Zone = c.zone
			b := newWorld(t, secret("cloud", map[string]string{"api-key": c.key})).backend(config, clock.RealClock{})
			signertest.WantError(t, b.Check(t.Context()), c.reason, c.says)
			_, err := b.Sign(t.Context(), request(t, dns("web.example.com")))
			signertest.WantError(t, err, c.reason, c.says)
			if key := strings.TrimSpace(c.key); key != "" && strings.Contains(err.Error(), key) {
				t.Error("the error holds the key")
			}
		})
	}
}

// Whoever makes the template anew refuses nothing for good.
func TestCloudTemplateMadeAnew(t *testing.T) {
	s := venafitest.NewCloud(t)
	b := newWorld(t, keySecret()).backend(cloudConfig(s), clock.RealClock{})
	mustSign(t, b, request(t, dns("web.example.com")))
	s.Recreate()
	next := request(t, dns("next.example.com"))
	_, err := b.Sign(t.Context(), next)
	signertest.WantError(t, err, "trouble", "no certificate issuing template")
	mustSign(t, b, next)
}

// If the Secret cannot be written, the request waits all the same, and a person is told.
func TestCloudNotWritten(t *testing.T) {
	s := venafitest.NewCloud(t)
	s.Set(venafitest.Wait(1))
	w := newWorld(t, keySecret())
	w.fail = errors.New("the API server is down")
	b := w.backend(cloudConfig(s), w.clock)
	req := request(t, dns("web.example.com"))
	_, err := b.Sign(t.Context(), req)
	signertest.WantError(t, err, "pending 5s", "REQUESTED")
	err = b.Check(t.Context())
	signertest.WantError(t, err, "SecretNotWritable", "the API server is down")
	var check *signer.CheckError
	if errors.As(err, &check) && !check.Signs {
		t.Error("it signs all the same")
	}
	w.fail = nil
	if err := b.Check(t.Context()); err != nil {
		t.Error(err)
	}
	mustSign(t, w.backend(cloudConfig(s), w.clock), req)
	if s.Requests() != 1 {
		t.Errorf("%d requests, want 1", s.Requests())
	}
}

// Before what was saved is read, nothing is ordered; and nobody who writes to the Secret chooses a path on the server.
func TestCloudSavedOrders(t *testing.T) {
	s := venafitest.NewCloud(t)
	req := request(t, dns("web.example.com"))
	w := newWorld(t, keySecret(), secret(ownSecret, map[string]string{"orders": "nonsense"}))
	_, err := w.backend(cloudConfig(s), w.clock).Sign(t.Context(), req)
	signertest.WantError(t, err, "SecretInvalid", "delete it if nothing waits")

	s.Set(venafitest.Wait(1))
	w = newWorld(t, keySecret())
	_, err = w.backend(cloudConfig(s), w.clock).Sign(t.Context(), req)
	signertest.WantError(t, err, "pending 5s", "REQUESTED")
	data := string(w.secret(ownSecret).Data["orders"])
	start := strings.Index(data, `"id":"`) + len(`"id":"`)
	id := data[start : start+strings.IndexByte(data[start:], '"')]
	w.set(ownSecret, map[string]string{"orders": strings.Replace(data, id, "../../../v1/useraccounts", 1)})
	mustSignSoon(t, w.backend(cloudConfig(s), w.clock), req)
	if s.Requests() != 2 {
		t.Errorf("%d requests, want 2: the id that is none counts for nothing", s.Requests())
	}
}

func mustSignSoon(t *testing.T, b *venafi.Backend, req csr.Request) {
	t.Helper()
	_, err := b.Sign(t.Context(), req)
	signertest.WantError(t, err, "pending 5s", "REQUESTED")
	mustSign(t, b, req)
}

// Orders that nobody asks for any more are dropped.
func TestCloudForgetsOldOrders(t *testing.T) {
	s := venafitest.NewCloud(t)
	s.Set(venafitest.Wait(1))
	w := newWorld(t, keySecret())
	b := w.backend(cloudConfig(s), w.clock)
	for i := range 3 {
		_, err := b.Sign(t.Context(), request(t, dns(fmt.Sprintf("n%d.example.com", i))))
		signertest.WantError(t, err, "pending 5s", "REQUESTED")
	}
	w.clock.Step(26 * time.Hour)
	_, err := b.Sign(t.Context(), request(t, dns("web.example.com")))
	signertest.WantError(t, err, "pending 5s", "REQUESTED")
	if n := strings.Count(string(w.secret(ownSecret).Data["orders"]), `"id"`); n != 1 {
		t.Errorf("the Secret holds %d orders, want 1", n)
	}
}

func TestNewRefuses(t *testing.T) {
	tpp := func(change func(*v1alpha1.VenafiTPP)) v1alpha1.Venafi {
		c := &v1alpha1.VenafiTPP{Server: v1alpha1.Server{URL: "https://tpp.example.com"}, Zone: "Kubernetes", CredentialsRef: v1alpha1.SecretRef{Name: "tpp"}}
		change(c)
		return v1alpha1.Venafi{TPP: c}
	}
	cloud := func(change func(*v1alpha1.VenafiCloud)) v1alpha1.Venafi {
		c := &v1alpha1.VenafiCloud{Zone: `a\b`, APIKeyRef: v1alpha1.SecretKeyRef{Name: "cloud", Key: "key"}}
		change(c)
		return v1alpha1.Venafi{Cloud: c}
	}
	for name, c := range map[string]struct {
		config v1alpha1.Venafi
		want   string
	}{
		"nothing":         {v1alpha1.Venafi{}, "venafi: exactly one"},
		"both":            {v1alpha1.Venafi{TPP: &v1alpha1.VenafiTPP{}, Cloud: &v1alpha1.VenafiCloud{}}, "venafi: exactly one"},
		"usages":          {v1alpha1.Venafi{Usages: []certificatesv1.KeyUsage{"everything"}, Cloud: cloud(func(*v1alpha1.VenafiCloud) {}).Cloud}, "venafi.usages: "},
		"plain HTTP":      {tpp(func(c *v1alpha1.VenafiTPP) { c.URL = "http://tpp.example.com" }), "venafi.tpp.url: "},
		"bundle":          {tpp(func(c *v1alpha1.VenafiTPP) { c.CABundle = "nonsense" }), "venafi.tpp.caBundle: "},
		"empty zone":      {tpp(func(c *v1alpha1.VenafiTPP) { c.Zone = `\VED\Policy` }), "venafi.tpp.zone: "},
		"zone with hole":  {tpp(func(c *v1alpha1.VenafiTPP) { c.Zone = `a\\b` }), "venafi.tpp.zone: "},
		"no credentials":  {tpp(func(c *v1alpha1.VenafiTPP) { c.CredentialsRef.Name = "" }), "venafi.tpp.credentialsRef.name: "},
		"own Secret":      {tpp(func(c *v1alpha1.VenafiTPP) { c.CredentialsRef.Name = ownSecret }), "venafi.tpp.credentialsRef.name: "},
		"half a zone":     {cloud(func(c *v1alpha1.VenafiCloud) { c.Zone = "a" }), "venafi.cloud.zone: "},
		"zone in a path":  {cloud(func(c *v1alpha1.VenafiCloud) { c.Zone = `..\b` }), "venafi.cloud.zone: "},
		"long zone":       {cloud(func(c *v1alpha1.VenafiCloud) { c.Zone = `a\b\c` }), "venafi.cloud.zone: "},
		"no key":          {cloud(func(c *v1alpha1.VenafiCloud) { c.APIKeyRef.Key = "" }), "venafi.cloud.apiKeyRef.key: "},
		"another address": {cloud(func(c *v1alpha1.VenafiCloud) { c.URL = "ftp://api.example.com" }), "venafi.cloud.url: "},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := venafi.New(venafi.Options{Venafi: c.config}); err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got error %v, want one that begins with %s", err, c.want)
			}
		})
	}
	for _, good := range []v1alpha1.Venafi{tpp(func(*v1alpha1.VenafiTPP) {}), cloud(func(*v1alpha1.VenafiCloud) {})} {
		if _, err := venafi.New(venafi.Options{Venafi: good}); err != nil {
			t.Errorf("a good configuration: %v", err)
		}
	}
}

// Two backends never share a Secret.
