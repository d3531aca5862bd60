// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/secretname"
)

var recordName = secretname.CARecord.Of("internal", "local")

// put puts another CA into the administrator's Secret, with other trust anchors than its root if they are given.
func (s *story) put(to *issuer, anchors ...*issuer) {
	s.t.Helper()
	secret := s.secret(imported)
	secret.Data = map[string][]byte{"tls.crt": pemCerts(to), "tls.key": pemKey(s.t, to.key)}
	if len(anchors) > 0 {
		secret.Data["ca.crt"] = pemCerts(anchors...)
	}
	if err := s.outside.Update(s.t.Context(), secret); err != nil {
		s.t.Fatal(err)
	}
}

// roots are two CAs, and the story of a Signer that has the first.
func overlap(t *testing.T) (s *story, one, two *issuer) {
	t.Helper()
	one, two = newIssuer(t, "One", "ECDSA-P256", nil, nil), newIssuer(t, "Two", "ECDSA-P256", nil, nil)
	s = newStory(t, importedCA(), tlsSecret(t, one.key, one))
	s.until("a CA", func() bool { return s.known().Root == fingerprint(one.cert) })
	return s, one, two
}

// alone reports whether a root signs and is the only one that is published.
func (s *story) alone(i *issuer) func() bool {
	return func() bool {
		k := s.known()
		return k.Root == fingerprint(i.cert) && k.Issuer == k.Root && k.Rotation == nil && len(s.bundle.anchors) == 1 && s.bundle.anchors[0].Equal(i.cert)
	}
}

func TestImportedRootOverlaps(t *testing.T) {
	s, one, two := overlap(t)
	s.put(two)
	s.until("the new one alone", s.alone(two))
	if want := []string{"idle", "Publishing", "Signing", "idle"}; !slices.Equal(s.phases, want) {
		t.Errorf("phases %v, want %v", s.phases, want)
	}
	wantCerts(t, "the second bundle", s.bundles[1].anchors, []*issuer{one, two})
	wantCerts(t, "the third bundle", s.bundles[2].anchors, []*issuer{two, one})
	if waited := s.bundles[2].since.Sub(s.bundles[1].since); waited < propagation {
		t.Errorf("the new root signed after %s", waited)
	}
	if waited := s.bundles[3].since.Sub(s.bundles[2].since); waited < lifetime {
		t.Errorf("the old root was dropped after %s", waited)
	}
	record := s.secret(recordName)
	if got, want := slices.Sorted(maps.Keys(record.Data)), []string{"anchors.crt", "rotation.json"}; !slices.Equal(got, want) || string(record.Data["rotation.json"]) != `{"longest":"10m0s"}` {
		t.Errorf("the record has the keys %q and says %s", got, record.Data["rotation.json"])
	}
	if s.secret(imported).Annotations != nil {
		t.Error("the administrator's Secret was written to")
	}
}

// Whoever is killed leaves behind what the next one goes on with, to the same end, and the CA of before signs on. Only who is killed before
// anything is written down of the new root leaves none: then nothing is signed until that was published for long enough.
func TestOverlapSurvivesDeathAtEveryWrite(t *testing.T) {
	once, _, two := overlap(t)
	once.death.count = 0
	once.put(two)
	once.until("the new one alone", once.alone(two))
	for at := range once.death.count {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d, made %t", at+1, after), func(t *testing.T) {
				s, _, two := overlap(t)
				s.death.count, s.death.at, s.death.after = 0, at+1, after
				s.holds = at == 0 && !after
				s.put(two)
				s.until("the new one alone", s.alone(two))
				if got := string(s.secret(recordName).Data["rotation.json"]); got != `{"longest":"10m0s"}` || s.deaths != 1 {
					t.Errorf("%d deaths, and the record says %s", s.deaths, got)
				}
				if (s.held > 0) != s.holds {
					t.Errorf("nothing was signed %d times", s.held)
				}
			})
		}
	}
}

// Another one leads as often as it likes: the CA of before signs until everybody had time, and its key is gone then.
func TestOverlapSurvivesChangesOfTheLeader(t *testing.T) {
	root := newIssuer(t, "Root", "ECDSA-P256", nil, nil)
	for name, one := range map[string]*issuer{"a root": newIssuer(t, "One", "Ed25519", nil, nil), "below a root": newIssuer(t, "One", "RSA-2048", root, nil)} {
		t.Run(name, func(t *testing.T) {
			two := newIssuer(t, "Two", "ECDSA-P256", nil, nil)
			secret := tlsSecret(t, one.key, one)
			if name != "a root" {
				secret = tlsSecret(t, one.key, one, root)
			}
			s := newStory(t, importedCA(), secret)
			s.until("a CA", func() bool { return s.known().Issuer == fingerprint(one.cert) })
			s.put(two)
			s.until("the phase", s.phase("Publishing"))
			for s.phase("Publishing")() {
				s.process = s.world.process(s.bundle)
				if s.step(); s.phase("Publishing")() {
					if k := s.known(); k.Issuer != fingerprint(one.cert) || k.Reason != "" {
						t.Fatalf("the status says %+v", k)
					}
				}
			}
			if k := s.known(); k.Issuer != fingerprint(two.cert) || s.held > 0 {
				t.Errorf("the status says %+v", k)
			}
			s.wantNoKey()
		})
	}
}

// wantNoKey checks that no private key is written down but in the administrator's Secret.
func (s *story) wantNoKey() {
	s.t.Helper()
	for name, text := range s.secret(recordName).Data {
		if strings.HasPrefix(name, "before.") || bytes.Contains(text, []byte("PRIVATE KEY")) {
			s.t.Errorf("the record has the key %s", name)
		}
	}
}

// The key of the CA of before is where it is needed, and no longer.
func TestKeyOfBeforeGoes(t *testing.T) {
	for name, change := range map[string]func(s *story, one, two *issuer){
		"put back":      func(s *story, one, _ *issuer) { s.put(one) },
		"compromised":   func(s *story, one, _ *issuer) { s.say(v1alpha1.AnnotationCompromisedRoot, fingerprint(one.cert)) },
		"taken away":    func(s *story, _, _ *issuer) { _ = s.outside.Delete(s.t.Context(), s.secret(imported)) },
		"when its time": func(*story, *issuer, *issuer) {},
	} {
		t.Run(name, func(t *testing.T) {
			s, one, two := overlap(t)
			s.wantNoKey()
			s.put(two)
			s.until("the phase", s.phase("Publishing"))
			data := s.secret(recordName).Data
			if !bytes.Equal(data["before.crt"], pemCerts(one)) || !bytes.Equal(data["before.key"], pemKey(t, one.key)) {
				t.Fatalf("the record has the keys %q, want the CA of before", slices.Sorted(maps.Keys(data)))
			}
			change(s, one, two)
			if name == "when its time" {
				s.until("the phase", s.phase("Signing"))
			} else {
				_, _ = s.process.Rotate(t.Context(), s.ask(s.process.TrustAnchors, s.signer().Annotations)) // once is enough, whatever it says
			}
			s.wantNoKey()
			if name == "taken away" {
				s.process = s.world.process(s.bundle)
				if _, err := s.process.Sign(t.Context(), s.request(lifetime)); err == nil {
					t.Error("a CA that was taken away signs")
				}
			}
		})
	}
}

// A CA that was replaced while nobody ran is not known any more. Its successor signs nothing that those cannot verify who learn of roots
// as quickly as kubelets do; the others are a person's to think of.
func TestImportedRootWhileNobodyRan(t *testing.T) {
	for name, c := range map[string]struct {
		behind     []string
		from, till time.Duration
	}{
		"published everywhere":                {nil, 4 * time.Minute, 20 * time.Minute},
		"a namespace that never takes a root": {[]string{"namespace full"}, 9 * time.Minute, 30 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			s, one, two := overlap(t)
			config := s.world.config
			config.TrustPropagation.Duration = time.Hour
			s.world.config = config
			s.put(two)
			s.bundle.behind = c.behind
			s.process, s.holds, s.current = s.world.process(s.bundle), true, true
			s.step()
			if k := s.known(); k.State != v1alpha1.BackendDown || k.Reason != "RootNotPropagated" || !strings.Contains(k.Message, "signs when its root has been published for 5m0s") {
				t.Errorf("at first the status says %+v", k)
			}
			wantCerts(t, "the bundle", s.bundle.anchors, []*issuer{two, one})
			since := s.clock.Now()
			for len(s.chains) == 0 || s.chains[len(s.chains)-1][0].CheckSignatureFrom(two.cert) != nil {
				if s.step(); s.clock.Since(since) > c.till {
					t.Fatalf("after %s nothing is signed: %+v", s.clock.Since(since), s.known())
				}
			}
			if waited := s.clock.Since(since); waited < c.from || s.held == 0 {
				t.Errorf("it signed after %s", waited)
			}
			s.until("a person is told", func() bool {
				return s.known().Reason == "RootNotPropagated" && s.known().State == v1alpha1.BackendServing
			})
		})
	}
}

func TestImportedChangesOfMind(t *testing.T) {
	three := newIssuer(t, "Three", "ECDSA-P256", nil, nil)
	for name, c := range map[string]struct {
		phase string
		to    func(one, two *issuer) *issuer
	}{
		"back while publishing":         {"Publishing", func(one, _ *issuer) *issuer { return one }},
		"another one while publishing":  {"Publishing", func(_, _ *issuer) *issuer { return three }},
		"back while signing":            {"Signing", func(one, _ *issuer) *issuer { return one }},
		"another one while signing":     {"Signing", func(_, _ *issuer) *issuer { return three }},
		"another one when all was done": {"idle", func(_, _ *issuer) *issuer { return three }},
	} {
		t.Run(name, func(t *testing.T) {
			s, one, two := overlap(t)
			s.put(two)
			s.until("the phase", s.phase("Publishing"))
			if c.phase != "Publishing" {
				s.until("the phase", s.phase(c.phase))
			}
			to := c.to(one, two)
			s.put(to)
			if to == one && c.phase == "Publishing" {
				s.clock.Step(5 * time.Second) // as a status is not written more often
				s.step()
				if r := s.known().Rotation; r == nil || r.NewRoot != fingerprint(one.cert) || r.OldRoot != fingerprint(two.cert) || s.known().Root != r.NewRoot {
					t.Errorf("the one that was put back signs, and the status says %+v", s.known())
				}
			}
			s.until("that one alone", s.alone(to))
		})
	}
}

// Who changes a CA carefully publishes the new root first: then nothing is to be waited for.
func TestImportedCrossedByHand(t *testing.T) {
	s, one, two := overlap(t)
	s.put(one, one, two)
	s.until("both are published", func() bool { return len(s.bundle.anchors) == 2 })
	for range 5 {
		s.step()
	}
	if !slices.Equal(s.phases, []string{"idle"}) {
		t.Errorf("phases %v", s.phases)
	}
	s.clock.Step(propagation)
	s.put(two)
	s.step()
	if k := s.known(); k.Rotation == nil || k.Rotation.Phase != v1alpha1.RotationSigning || k.Issuer != fingerprint(two.cert) || k.Rotation.OldRoot != fingerprint(one.cert) {
		t.Errorf("the new one does not sign at once: %+v", k)
	}
	s.until("the new one alone", s.alone(two))
}

func TestImportedCompromised(t *testing.T) {
	s, one, two := overlap(t)
	s.say(v1alpha1.AnnotationCompromisedRoot, fingerprint(one.cert))
	s.until("a person is asked", func() bool { return s.known().Reason == "CompromisedRootInUse" })
	if !s.alone(one)() {
		t.Errorf("nobody can replace the CA but the administrator: %+v", s.known())
	}
	s.emergency = true
	s.put(two)
	s.step()
	if !s.alone(two)() {
		t.Errorf("the compromised root is still there: %+v, %d roots", s.known(), len(s.bundle.anchors))
	}
	if k := s.known(); k.Message != "" {
		t.Errorf("the status says %+v", k)
	}
	t.Run("while it is on its way out", func(t *testing.T) {
		for _, phase := range []string{"Publishing", "Signing"} {
			s, one, two := overlap(t)
			s.put(two)
			s.until("the phase", s.phase(phase))
			s.emergency = true
			s.say(v1alpha1.AnnotationCompromisedRoot, fingerprint(one.cert))
			s.clock.Step(5 * time.Second) // as a status is not written more often
			if s.step(); !s.alone(two)() {
				t.Errorf("%s: the compromised root is still there: %+v, %d roots", phase, s.known(), len(s.bundle.anchors))
			}
		}
	})
}

func TestImportedTakenAway(t *testing.T) {
	s, _, two := overlap(t)
	s.put(two)
	s.until("the phase", s.phase("Publishing"))
	if err := s.outside.Delete(t.Context(), s.secret(imported)); err != nil {
		t.Fatal(err)
	}
	_, err := s.process.Sign(t.Context(), s.request(lifetime))
	wantTrouble(t, err)
	wantReason(t, s.process.Check(t.Context()), "SecretNotFound")
}

func TestRecordBroken(t *testing.T) {
	s, _, _ := overlap(t)
	for name, c := range map[string]struct {
		change func(map[string][]byte)
		reason string
	}{
		"no roots": {func(d map[string][]byte) { delete(d, "anchors.crt") }, "SecretIncomplete"},
		"garbage":  {func(d map[string][]byte) { d["old-anchors.crt"] = []byte("garbage") }, "CertificateInvalid"},
		"no state": {func(d map[string][]byte) { d["rotation.json"] = []byte("{") }, "SecretIncomplete"},
		"no next roots": {func(d map[string][]byte) {
			d["rotation.json"] = []byte(`{"phase":"Publishing","since":"2026-05-04T03:02:01Z"}`)
		}, "SecretIncomplete"},
	} {
		t.Run(name, func(t *testing.T) {
			good := s.secret(recordName)
			bad := good.DeepCopy()
			c.change(bad.Data)
			if err := s.outside.Update(t.Context(), bad); err != nil {
				t.Fatal(err)
			}
			wantReason(t, s.process.Check(t.Context()), c.reason)
			if _, err := s.process.Rotate(t.Context(), s.ask(nil, nil)); err == nil {
				t.Error("it was written over")
			}
			bad.Data = good.Data
			if err := s.outside.Update(t.Context(), bad); err != nil {
				t.Fatal(err)
			}
			if err := s.process.Check(t.Context()); err != nil {
				t.Errorf("when it is good again: %v", err)
			}
		})
	}
	t.Run("of another signerName", func(t *testing.T) {
		record := s.secret(recordName)
		record.Annotations["certwright.dev/signer-name"] = "example.com/gone"
		if err := s.outside.Update(t.Context(), record); err != nil {
			t.Fatal(err)
		}
		s.step()
		if of := s.secret(recordName).Annotations["certwright.dev/signer-name"]; of != "example.com/internal" {
			t.Errorf("the record is that of %s", of)
		}
	})
}

// Who deletes Signer and CA after a leak, and makes both anew, does not get the leaked root back.
func TestRecordOfASignerThatIsGone(t *testing.T) {
	s, one, two := overlap(t)
	record := s.secret(recordName)
	if owners := record.OwnerReferences; len(owners) != 1 || owners[0].Kind != "Signer" || owners[0].Name != "internal" || owners[0].UID != "signer-1" || owners[0].Controller != nil {
		t.Errorf("the record's owners are %v, want its Signer, with which it goes", owners)
	}
	o := s.signer()
	if err := s.outside.Delete(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	s.put(two)
	anew := &v1alpha1.Signer{Spec: o.Spec}
	anew.Name, anew.UID, anew.Generation = o.Name, "signer-2", 1
	if err := s.outside.Create(t.Context(), anew); err != nil {
		t.Fatal(err)
	}
	s.process, s.bundle.anchors, s.bundles, s.chains = s.world.process(s.bundle), nil, nil, nil
	for range 20 {
		s.step()
		if slices.ContainsFunc(s.bundle.anchors, one.cert.Equal) {
			t.Fatal("the root of the Signer that is gone is published")
		}
	}
	if !s.alone(two)() {
		t.Errorf("the status says %+v", s.known())
	}
	if owners := s.secret(recordName).OwnerReferences; len(owners) != 1 || owners[0].UID != "signer-2" {
		t.Errorf("the record's owners are %v", owners)
	}
}

// The record is never where the keys of a managed CA may be.
func TestRecordName(t *testing.T) {
	if got := secretname.CARecord.Of("internal", "local"); got != "certwright-ca--internal.local" {
		t.Errorf("it is %s", got)
	}
	s, _, two := overlap(t)
	s.put(two)
	s.until("the phase", s.phase("Signing"))
	for name, text := range s.secret(recordName).Data {
		if name == "rotation.json" {
			continue
		}
		if certs, err := signer.ParsePEM(text); err != nil || slices.ContainsFunc(certs, func(c *x509.Certificate) bool { return !c.IsCA }) {
			t.Errorf("%s holds something else than CA certificates: %v", name, err)
		}
	}
}
