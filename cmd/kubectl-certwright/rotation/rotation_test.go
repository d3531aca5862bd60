// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/fleet/fleettest"
	"github.com/certwright/certwright/terminal"
)

const (
	oldRoot, oldIssuer = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
	newRoot, newIssuer = "1111111111111111111111111111111111111111111111111111111111111111", "2222222222222222222222222222222222222222222222222222222222222222"
)

func managed(name string) v1alpha1.Backend {
	return v1alpha1.Backend{Name: name, CA: &v1alpha1.CA{Managed: &v1alpha1.ManagedCA{}, TrustPropagation: metav1.Duration{Duration: 90 * time.Minute}}}
}

// newSigner has a managed CA as its backend "local", of which all is known.
func newSigner(more ...v1alpha1.Backend) *v1alpha1.Signer {
	return &v1alpha1.Signer{
		ObjectMeta: metav1.ObjectMeta{Name: "internal", UID: "uid-of-signer"},
		Spec: v1alpha1.SignerSpec{
			SignerName: "example.com/internal", Backends: append([]v1alpha1.Backend{managed("local")}, more...),
			Limits: v1alpha1.Limits{MaxDuration: metav1.Duration{Duration: 24 * time.Hour}},
		},
		Status: v1alpha1.SignerStatus{Backends: []v1alpha1.BackendStatus{{
			Name: "local", Root: oldRoot, Issuer: oldIssuer, CANotAfter: ptr.To(metav1.NewTime(fleettest.Now.Add(300 * 24 * time.Hour))),
		}}},
	}
}

func rotating(phase v1alpha1.RotationPhase, until *metav1.Time) *v1alpha1.Rotation {
	return &v1alpha1.Rotation{Phase: phase, Since: metav1.NewTime(fleettest.Now), Until: until, OldRoot: oldRoot, NewRoot: newRoot}
}

func newRotator(t *testing.T, funcs interceptor.Funcs, more ...client.Object) *Rotator {
	t.Helper()
	return &Rotator{Client: fleettest.NewClient(t, funcs, more...), Clock: clocktesting.NewFakeClock(fleettest.Now)}
}

func TestChooseAndCheck(t *testing.T) {
	t.Parallel()
	secret := v1alpha1.Backend{Name: "files", CA: &v1alpha1.CA{SecretRef: &v1alpha1.SecretRef{Name: "our-ca"}}}
	hsm := v1alpha1.Backend{Name: "hsm", CA: &v1alpha1.CA{Key: &v1alpha1.CAKey{}}}
	vault := v1alpha1.Backend{Name: "vault", Vault: &v1alpha1.Vault{}}
	change := func(f func(*v1alpha1.Signer), more ...v1alpha1.Backend) *v1alpha1.Signer {
		s := newSigner(more...)
		f(s)
		return s
	}
	as := func(f func(*v1alpha1.BackendStatus)) *v1alpha1.Signer {
		return change(func(s *v1alpha1.Signer) { f(&s.Status.Backends[0]) })
	}
	annotated := func(key, value string) *v1alpha1.Signer {
		return change(func(s *v1alpha1.Signer) { s.Annotations = map[string]string{key: value} })
	}
	only := func(b v1alpha1.Backend) *v1alpha1.Signer {
		return change(func(s *v1alpha1.Signer) { s.Spec.Backends = []v1alpha1.Backend{b} })
	}
	for name, c := range map[string]struct {
		signer  *v1alpha1.Signer
		backend string
		kind    Kind
		// err is a part of the error; empty for none.
		err string
	}{
		"the only one":                       {newSigner(), "", Root, ""},
		"by name":                            {newSigner(vault, managed("b")), "local", Root, ""},
		"the only managed one":               {newSigner(vault), "", Intermediate, ""},
		"one of several":                     {newSigner(managed("b")), "", Root, "Signer internal has several managed CAs: say which with --backend, one of local, b"},
		"unknown backend":                    {newSigner(vault), "other", Root, `--backend "other": Signer internal has no such backend, it has local, vault`},
		"a Secret's":                         {newSigner(secret), "files", Root, "not a CA that Certwright manages. its CA is in the Secret our-ca: put another one there"},
		"a Secret's, compromised":            {only(secret), "", Compromised, "put another one there"},
		"a key outside":                      {newSigner(hsm), "hsm", Compromised, "outside Kubernetes"},
		"a server's":                         {newSigner(vault), "vault", Intermediate, "its CA is a server's (vault): it is replaced there"},
		"none is managed":                    {only(vault), "", Root, "backend vault of Signer internal: not a CA that Certwright manages"},
		"no backend":                         {change(func(s *v1alpha1.Signer) { s.Spec.Backends = nil }), "", Root, "has no backend"},
		"under way":                          {as(func(b *v1alpha1.BackendStatus) { b.Rotation = rotating("Signing", nil) }), "", Root, "being replaced already, in phase Signing since 2026-05-01T12:00:00Z: kubectl certwright ca status internal"},
		"under way, the intermediate":        {as(func(b *v1alpha1.BackendStatus) { b.Rotation = rotating("Publishing", nil) }), "", Intermediate, ""},
		"under way, and stolen":              {as(func(b *v1alpha1.BackendStatus) { b.Rotation = rotating("Publishing", nil) }), "", Compromised, ""},
		"not known yet":                      {as(func(b *v1alpha1.BackendStatus) { b.Root = "" }), "", Root, "its CA is not known yet: is certwright-signer running"},
		"issuer not known yet":               {as(func(b *v1alpha1.BackendStatus) { b.Issuer = "" }), "", Intermediate, "its CA is not known yet"},
		"no status":                          {change(func(s *v1alpha1.Signer) { s.Status = v1alpha1.SignerStatus{} }), "", Compromised, "its CA is not known yet"},
		"asked already":                      {annotated(v1alpha1.AnnotationRotateRoot, oldRoot), "", Root, "asked for already and has not begun"},
		"asked for another one before":       {annotated(v1alpha1.AnnotationRotateRoot, newRoot), "", Root, ""},
		"the intermediate, asked already":    {annotated(v1alpha1.AnnotationRotateIntermediate, oldIssuer), "", Intermediate, "asked for already"},
		"the intermediate, and then all":     {annotated(v1alpha1.AnnotationRotateIntermediate, oldIssuer), "", Root, ""},
		"asked already, and stolen":          {annotated(v1alpha1.AnnotationRotateRoot, oldRoot), "", Compromised, ""},
		"said to be stolen already":          {annotated(v1alpha1.AnnotationCompromisedRoot, oldRoot), "", Compromised, "asked for already"},
		"said to be stolen already, in time": {annotated(v1alpha1.AnnotationCompromisedRoot, oldRoot), "", Intermediate, "asked for already"},
	} {
		ca, err := Choose(c.signer, c.backend)
		if err == nil {
			err = ca.Check(c.kind)
		}
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: got %v, want %q", name, err, c.err)
		}
		if err == nil && ca.Backend.Name != "local" {
			t.Errorf("%s: got backend %s", name, ca.Backend.Name)
		}
	}
}

// Of a CA in a Secret, the one that was there before can be dropped at once.
func TestCompromisedSecret(t *testing.T) {
	t.Parallel()
	signer := newSigner()
	signer.Spec.Backends[0].CA = &v1alpha1.CA{SecretRef: &v1alpha1.SecretRef{Name: "our-ca"}}
	for phase, root := range map[v1alpha1.RotationPhase]string{v1alpha1.RotationPublishing: oldRoot, v1alpha1.RotationSigning: newRoot} {
		signer.Status.Backends[0].Rotation, signer.Status.Backends[0].Root = rotating(phase, nil), root
		ca, err := Choose(signer, "")
		if err == nil {
			err = ca.Check(Compromised)
		}
		if err != nil || ca.fingerprint(Compromised) != oldRoot {
			t.Errorf("%s: got %s, %v", phase, ca.fingerprint(Compromised), err)
		}
		f := &follower{before: ca, kind: Compromised, say: func(string) {}}
		after := signer.DeepCopy()
		for done, rotation := range map[bool]*v1alpha1.Rotation{false: rotating(phase, nil), true: nil} {
			after.Status.Backends[0].Root, after.Status.Backends[0].Rotation = newRoot, rotation
			if f.done = false; f.look(after) != nil || f.done != done {
				t.Errorf("%s: done: got %v, want %v", phase, f.done, done)
			}
		}
		if steps := strings.Join(ca.steps(Compromised, Radius{}), " "); !strings.Contains(steps, "the CA that is in the Secret now signs") {
			t.Errorf("got %s", steps)
		}
	}
}

func TestUnknownSigner(t *testing.T) {
	t.Parallel()
	_, err := newRotator(t, interceptor.Funcs{}).Signer(t.Context(), "example.com/internal")
	if err == nil || !strings.Contains(err.Error(), `there is no Signer "example.com/internal": kubectl get signers`) {
		t.Errorf("got %v", err)
	}
}

func TestStart(t *testing.T) {
	t.Parallel()
	for kind, want := range map[Kind][2]string{
		Root:         {v1alpha1.AnnotationRotateRoot, oldRoot},
		Intermediate: {v1alpha1.AnnotationRotateIntermediate, oldIssuer},
		Compromised:  {v1alpha1.AnnotationCompromisedRoot, oldRoot},
	} {
		r := newRotator(t, interceptor.Funcs{}, newSigner())
		signer, err := r.Signer(t.Context(), "internal")
		if err != nil {
			t.Fatal(err)
		}
		ca, err := Choose(signer, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Start(t.Context(), ca, kind); err != nil {
			t.Fatal(err)
		}
		if signer, err = r.Signer(t.Context(), "internal"); err != nil {
			t.Fatal(err)
		}
		if len(signer.Annotations) != 1 || signer.Annotations[want[0]] != want[1] {
			t.Errorf("%s: got %v", kind, signer.Annotations)
		}
	}
}

func TestStartRefused(t *testing.T) {
	t.Parallel()
	signers := schema.GroupResource{Group: "certwright.dev", Resource: "signers"}
	for want, refusal := range map[string]error{
		"replaced since it was shown":                             apierrors.NewConflict(signers, "internal", errors.New("uid mismatch")),
		"--verb=patch --resource=signers.certwright.dev":          apierrors.NewForbidden(signers, "internal", errors.New(`User "bob" cannot patch resource "signers"`)),
		"annotating the Signer: Internal error occurred: webhook": apierrors.NewInternalError(errors.New("webhook")),
	} {
		r := newRotator(t, interceptor.Funcs{Patch: func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
			return refusal
		}}, newSigner())
		ca, err := Choose(newSigner(), "")
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Start(t.Context(), ca, Root); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestAnnounce(t *testing.T) {
	t.Parallel()
	signer := newSigner()
	r := newRotator(t, interceptor.Funcs{}, signer, issued(t, "web", "example.com/internal", 48*time.Hour, time.Hour),
		issued(t, "of-another", "example.com/other", 99*time.Hour, 0), issued(t, "expired", "example.com/internal", 99*time.Hour, 100*time.Hour))
	ca, err := Choose(signer, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []Kind{Root, Intermediate, Compromised} {
		var out strings.Builder
		if err := Announce(&out, terminal.Palette{}, ca, kind, r.Radius(t.Context(), "example.com/internal")); err != nil {
			t.Fatal(err)
		}
		fleettest.Golden(t, string(kind), out.String())
	}
}

// Who may not see everything is told what is missing, and goes on.
func TestRadiusWithoutRights(t *testing.T) {
	t.Parallel()
	r := newRotator(t, interceptor.Funcs{List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
		return apierrors.NewForbidden(schema.GroupResource{Resource: "things"}, "", errors.New(`User "bob" cannot list resource "things"`))
	}})
	var out strings.Builder
	if err := r.Radius(t.Context(), "example.com/internal").WriteText(&out, terminal.Palette{}); err != nil {
		t.Fatal(err)
	}
	for _, resource := range []string{"pods", "certificatesigningrequests.certificates.k8s.io", "podcertificaterequests.certificates.k8s.io"} {
		if !strings.Contains(out.String(), "kubectl create clusterrole NAME --verb=list --resource="+resource+"\n") {
			t.Errorf("got\n%s\nwithout %s", &out, resource)
		}
	}
	if strings.Contains(out.String(), "no pods") {
		t.Errorf("got\n%s", &out)
	}
}
