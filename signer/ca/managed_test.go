// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/ca"
	"github.com/certwright/certwright/signer/secretname"
)

var secretName = secretname.CA.Of("internal", "local")

func managed() v1alpha1.CA { return v1alpha1.CA{Managed: &v1alpha1.ManagedCA{}} }

func TestManagedIsMadeOnce(t *testing.T) {
	for name, isCA := range map[string]bool{"leaves": false, "CAs": true} {
		t.Run(name, func(t *testing.T) {
			w := newManagedWorld(t, managed(), isCA)
			if err := w.Check(t.Context()); err != nil {
				t.Fatalf("first Check: %v", err)
			}
			s := w.secret(secretName)
			if s.Labels["app.kubernetes.io/managed-by"] != "certwright" || s.Type != corev1.SecretTypeOpaque {
				t.Errorf("labels %v, type %s", s.Labels, s.Type)
			}
			anchors, err := w.TrustAnchors(t.Context())
			if err != nil || len(anchors) != 1 {
				t.Fatalf("TrustAnchors: %v, %v", anchors, err)
			}
			chain := w.mustSign(time.Hour)
			if len(chain) != 2 {
				t.Fatalf("the chain has %d certificates, want leaf and intermediate", len(chain))
			}
			wantPath := 0
			if isCA {
				wantPath = 1
			}
			root, intermediate := anchors[0], chain[1]
			if intermediate.MaxPathLen != wantPath || root.MaxPathLen != wantPath+2 { // with room for the cross certificate of the next root
				t.Errorf("path lengths are %d and %d, want %d and %d", root.MaxPathLen, intermediate.MaxPathLen, wantPath+2, wantPath)
			}
			if name := fmt.Sprintf("example.com/internal root %x", root.SubjectKeyId[:4]); root.Subject.CommonName != name || intermediate.Subject.CommonName != "example.com/internal intermediate" {
				t.Errorf("subjects are %s and %s", root.Subject, intermediate.Subject)
			}
			if end, err := w.NotAfter(t.Context()); err != nil || !end.Equal(intermediate.NotAfter) {
				t.Errorf("NotAfter is %s, %v; want that of the intermediate", end, err)
			}
			if w.writes != 1 {
				t.Errorf("%d writes, want one that holds it all", w.writes)
			}
		})
	}
}

// Two processes that begin together end with the same CA, also when the cache of one knows nothing of the other's write.
func TestManagedCreateRace(t *testing.T) {
	w := newWorld(t, managed(), false)
	var wg sync.WaitGroup
	issuers := make([]*x509.Certificate, 8)
	empty := fake.NewClientBuilder().WithScheme(w.client.Scheme()).Build()
	for i := range issuers {
		b := w.backend(blind{w.client, empty}, managed(), false)
		wg.Go(func() {
			if _, err := b.Rotate(t.Context(), w.ask(nil, nil)); err != nil {
				t.Errorf("Rotate: %v", err)
			}
			anchors, err := b.TrustAnchors(t.Context())
			if err != nil {
				t.Errorf("TrustAnchors: %v", err)
				return
			}
			issuers[i] = anchors[0]
		})
	}
	wg.Wait()
	for _, c := range issuers {
		if !c.Equal(issuers[0]) {
			t.Fatal("two processes made two roots")
		}
	}
}

// blind is a client whose cache never learns of anything.
type blind struct {
	client.Client
	cache client.Reader
}

func (b blind) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	return b.cache.Get(ctx, key, o, opts...)
}

func TestManagedSecretBrokenIsNeverOverwritten(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  func(map[string][]byte)
		reason string
	}{
		"emptied":           {func(d map[string][]byte) { clear(d) }, "SecretIncomplete"},
		"root key lost":     {func(d map[string][]byte) { delete(d, "root.key") }, "SecretIncomplete"},
		"root key swapped":  {func(d map[string][]byte) { d["root.key"] = d["tls.key"] }, "KeyMismatch"},
		"key swapped":       {func(d map[string][]byte) { d["tls.key"] = d["root.key"] }, "KeyMismatch"},
		"garbage":           {func(d map[string][]byte) { d["tls.crt"] = []byte("garbage") }, "CertificateInvalid"},
		"intermediate gone": {func(d map[string][]byte) { delete(d, "tls.crt") }, "SecretIncomplete"},
		"another's root":    {func(d map[string][]byte) { r := newIssuer(t, "R", "Ed25519", nil, nil); d["root.crt"] = pemCerts(r) }, "KeyMismatch"},
		"another's root+key": {func(d map[string][]byte) {
			r := newIssuer(t, "R", "Ed25519", nil, nil)
			d["root.crt"], d["root.key"] = pemCerts(r), pemKey(t, r.key)
		}, "NoTrustAnchor"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newManagedWorld(t, managed(), false)
			before := w.mustSign(time.Hour)[1]
			w.change(secretName, c.spoil)
			spoilt, writes := w.secret(secretName), w.writes

			restarted := w.backend(w.client, managed(), false)
			err := restarted.Check(t.Context())
			wantReason(t, err, c.reason)
			if err == nil || !strings.Contains(err.Error(), "restore the Secret from a backup") {
				t.Errorf("Check: %v, want it to say what to do", err)
			}
			// The process that knew the good one goes on with it, and says so.
			wantReason(t, w.Check(t.Context()), "ServingLastGoodCA")
			if after := w.mustSign(time.Hour)[1]; !after.Equal(before) {
				t.Error("another CA signs")
			}
			if w.writes != writes || !maps.EqualFunc(spoilt.Data, w.secret(secretName).Data, bytes.Equal) {
				t.Error("the Secret was written to")
			}
		})
	}
}

func TestManagedSecretOfAnotherSigner(t *testing.T) {
	w := newManagedWorld(t, managed(), false)
	other, err := ca.New(ca.Options{Client: w.client, Reader: w.client, Namespace: namespace, Signer: "internal", SignerName: "example.com/other", Backend: "local", CA: managed(), Clock: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, other.Check(t.Context()), "SecretOfAnotherSigner")
}

func TestIntermediateRenewal(t *testing.T) {
	config := v1alpha1.CA{Managed: &v1alpha1.ManagedCA{
		RootDuration: metav1.Duration{Duration: 30 * time.Hour}, IntermediateDuration: metav1.Duration{Duration: 12 * time.Hour},
	}}
	w := newManagedWorld(t, config, false)
	first := w.mustSign(24 * time.Hour)[1]
	roots, _ := w.TrustAnchors(t.Context())

	w.clock.Step(7 * time.Hour)
	if r, err := w.rotate(); err != nil || r.Changed {
		t.Errorf("before two thirds of its life: %+v, error %v", r, err)
	}
	w.clock.Step(1 * time.Hour)
	if c := w.mustSign(time.Hour)[1]; !c.Equal(first) {
		t.Error("who signs renewed it: only who leads may")
	}
	if r, err := w.rotate(); err != nil || !r.Changed {
		t.Fatalf("after two thirds of its life: %+v, error %v", r, err)
	}
	second := w.mustSign(time.Hour)[1]
	after, _ := w.TrustAnchors(t.Context())
	if second.Equal(first) || bytes.Equal(second.SubjectKeyId, first.SubjectKeyId) || w.writes != 2 {
		t.Errorf("no new intermediate with a new key after two thirds of its life; %d writes", w.writes)
	}
	if len(after) != 1 || !after[0].Equal(roots[0]) {
		t.Error("the root changed")
	}
	// A process that was down until long after the intermediate expired.
	w.clock.Step(13 * time.Hour)
	if _, err := w.rotate(); err != nil {
		t.Fatal(err)
	}
	third := w.mustSign(time.Hour)[1]
	if third.NotAfter.After(roots[0].NotAfter) || third.Equal(second) {
		t.Errorf("the intermediate ends at %s, its root at %s", third.NotAfter, roots[0].NotAfter)
	}
	// Near the end of the root there is nothing to gain: no more writes, leaves end with it, and then nothing is signed.
	writes := w.writes
	w.clock.SetTime(roots[0].NotAfter.Add(-time.Hour))
	if leaf := w.mustSign(24 * time.Hour)[0]; !leaf.NotAfter.Equal(roots[0].NotAfter) || w.writes > writes {
		t.Errorf("a leaf ends at %s, the root at %s; %d writes", leaf.NotAfter, roots[0].NotAfter, w.writes-writes)
	}
	w.clock.SetTime(roots[0].NotAfter.Add(time.Second))
	_, err := w.sign(time.Hour)
	wantTrouble(t, err)
	wantReason(t, w.Check(t.Context()), "CAExpired")
}

func TestRenewalTrouble(t *testing.T) {
	w := newManagedWorld(t, managed(), false)
	first := w.mustSign(time.Hour)[1]
	w.clock.SetTime(first.NotAfter.Add(-24 * time.Hour))
	w.fail = errors.New("etcd is away")
	r, err := w.rotate()
	wantReason(t, err, "IntermediateNotRenewing")
	if r.Changed || !r.Issuer.Equal(first) || !errors.Is(err, w.fail) {
		t.Errorf("%+v, error %v", r, err)
	}
	if c := w.mustSign(time.Hour)[1]; !c.Equal(first) {
		t.Error("another intermediate signs")
	}
	// When it is over, that is what a person is told.
	w.clock.SetTime(first.NotAfter)
	_, err = w.rotate()
	wantReason(t, err, "IntermediateNotRenewing")
	err = w.Check(t.Context())
	wantReason(t, err, "CAExpiring")
	if !errors.Is(err, w.fail) {
		t.Errorf("Check: %v, want it to say %q", err, w.fail)
	}
	w.fail = nil
	if _, err := w.rotate(); err != nil {
		t.Fatal(err)
	}
	if c := w.mustSign(time.Hour)[1]; c.Equal(first) {
		t.Error("not renewed when the trouble was over")
	}
	if err := w.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
}

func TestCreateTrouble(t *testing.T) {
	w := newWorld(t, managed(), false)
	_, err := w.sign(time.Hour)
	wantTrouble(t, err)
	wantReason(t, w.Check(t.Context()), "CANotMade")
	w.fail = errors.New("etcd is away")
	if r, err := w.rotate(); !errors.Is(err, w.fail) || r.Issuer != nil || r.Changed {
		t.Errorf("%+v, error %v, want %v", r, err, w.fail)
	}
	err = w.Check(t.Context())
	wantReason(t, err, "CANotMade")
	if !errors.Is(err, w.fail) {
		t.Errorf("Check: %v, want it to say %q", err, w.fail)
	}
	w.fail = nil
	w.begin(time.Hour)
	w.mustSign(time.Hour)
	if err := w.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
}
