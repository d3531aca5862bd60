// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package managed

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca/entry"
	"github.com/certwright/certwright/signer/ca/rotation"
)

var now = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

func newConfig(t testing.TB, isCA bool) Config {
	t.Helper()
	c, err := NewConfig(v1alpha1.ManagedCA{}, "example.com/internal", isCA, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// take takes a step, and reads what comes out.
func take(t testing.TB, c Config, a *CA, step rotation.Step, phase v1alpha1.RotationPhase) (*CA, entry.Data) {
	t.Helper()
	state := rotation.State{Phase: phase, Longest: rotation.Lifetime(time.Hour)}
	if phase != "" {
		state.Since = now
	}
	data, err := a.Take(c, step, state, now)
	if err != nil {
		t.Fatal(err)
	}
	next, err := Parse(data)
	if err != nil {
		t.Fatalf("after step %d: %v", step, err)
	}
	return next, data
}

// phases are a CA in all phases.
func phases(t testing.TB, c Config) (idle, publishing, signing *CA, data map[v1alpha1.RotationPhase]entry.Data) {
	t.Helper()
	data = map[v1alpha1.RotationPhase]entry.Data{}
	idle, data[""] = take(t, c, &CA{}, rotation.Replace, "")
	publishing, data[v1alpha1.RotationPublishing] = take(t, c, idle, rotation.Begin, v1alpha1.RotationPublishing)
	signing, data[v1alpha1.RotationSigning] = take(t, c, publishing, rotation.Switch, v1alpha1.RotationSigning)
	return idle, publishing, signing, data
}

func TestSteps(t *testing.T) {
	for name, isCA := range map[string]bool{"leaves": false, "CAs": true} {
		t.Run(name, func(t *testing.T) {
			c := newConfig(t, isCA)
			idle, publishing, signing, _ := phases(t, c)
			old, root := idle.Root, publishing.Next
			if old.Equal(root) || bytes.Equal(old.RawSubject, root.RawSubject) || bytes.Equal(old.SubjectKeyId, root.SubjectKeyId) {
				t.Error("two roots have a name or a key in common")
			}
			want(t, "idle", idle, old, nil, []*x509.Certificate{old})
			want(t, "publishing", publishing, old, nil, []*x509.Certificate{old, root})
			if !publishing.Authority.Cert.Equal(idle.Authority.Cert) {
				t.Error("another intermediate signs while the new root is published")
			}
			want(t, "signing", signing, root, signing.cross, []*x509.Certificate{root, old})
			if signing.cross == nil || !bytes.Equal(signing.cross.RawSubject, root.RawSubject) || signing.cross.CheckSignatureFrom(old) != nil {
				t.Errorf("no certificate of the new root by the old one")
			}
			if signing.Authority.Root() != signing.Root {
				t.Error("the chain leads to the old root")
			}
			done, data := take(t, c, signing, rotation.Finish, "")
			want(t, "done", done, root, nil, []*x509.Certificate{root})
			if got, want := slices.Sorted(maps.Keys(data)), []string{"root.crt", "root.key", "rotation.json", "tls.crt", "tls.key"}; !slices.Equal(got, want) {
				t.Errorf("at last there are the keys %q, want %q", got, want)
			}
			renewed, _ := take(t, c, signing, rotation.Renew, v1alpha1.RotationSigning)
			want(t, "renewed", renewed, root, signing.cross, []*x509.Certificate{root, old})
			if renewed.Authority.Cert.Equal(signing.Authority.Cert) {
				t.Error("the intermediate was not renewed")
			}
			for phase, a := range map[string]*CA{"idle": idle, "publishing": publishing, "signing": signing} {
				replaced, data := take(t, c, a, rotation.Replace, "")
				want(t, phase+", replaced", replaced, replaced.Root, nil, []*x509.Certificate{replaced.Root})
				for name, text := range data {
					for _, root := range []*x509.Certificate{old, root} {
						if bytes.Contains(text, signer.EncodePEM(root)) {
							t.Errorf("%s, replaced: %s holds a root of before", phase, name)
						}
					}
				}
			}
		})
	}
}

func want(t *testing.T, phase string, a *CA, root, cross *x509.Certificate, anchors []*x509.Certificate) {
	t.Helper()
	issuers := []*x509.Certificate{a.Authority.Cert}
	if cross != nil {
		issuers = append(issuers, cross)
	}
	if !a.Root.Equal(root) || a.Authority.Cert.CheckSignatureFrom(root) != nil {
		t.Errorf("%s: another root signs", phase)
	}
	if !slices.EqualFunc(a.Authority.Issuers, issuers, (*x509.Certificate).Equal) || !slices.EqualFunc(a.Authority.Anchors, anchors, (*x509.Certificate).Equal) {
		t.Errorf("%s: %d issuers, %d anchors, or others than wanted", phase, len(a.Authority.Issuers), len(a.Authority.Anchors))
	}
}

// The key of a root that was replaced is of use to thieves only.
func TestOldKeyIsGone(t *testing.T) {
	idle, _, _, data := phases(t, newConfig(t, false))
	key, err := entry.EncodeKey(idle.rootKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range data[v1alpha1.RotationSigning] {
		if bytes.Contains(text, key) {
			t.Errorf("%s holds the key of the old root", name)
		}
	}
}

// Roots of earlier versions have no room for a cross certificate: they are replaced without one.
func TestRootWithoutRoom(t *testing.T) {
	c := newConfig(t, false)
	idle, _ := take(t, c, &CA{}, rotation.Replace, "")
	template := *idle.Root
	template.MaxPathLen = 1
	var err error
	if idle.Root, err = c.sign(&template, &template, idle.rootKey.Public(), idle.rootKey); err != nil {
		t.Fatal(err)
	}
	idle, _ = take(t, c, idle, rotation.Renew, "")
	publishing, _ := take(t, c, idle, rotation.Begin, v1alpha1.RotationPublishing)
	signing, data := take(t, c, publishing, rotation.Switch, v1alpha1.RotationSigning)
	if want(t, "signing", signing, publishing.Next, nil, []*x509.Certificate{publishing.Next, idle.Root}); entry.Has(data, entryCross) {
		t.Error("there is a cross certificate that no verifier could use")
	}
}

func TestTamperedIsRefused(t *testing.T) {
	c := newConfig(t, false)
	_, _, _, data := phases(t, c)
	_, _, _, other := phases(t, c)
	const publishing, signing = v1alpha1.RotationPublishing, v1alpha1.RotationSigning
	set := func(name string, value []byte) func(entry.Data) { return func(d entry.Data) { d[name] = value } }
	for name, x := range map[string]struct {
		phase  v1alpha1.RotationPhase
		change func(entry.Data)
		reason string
	}{
		"another's next root":             {publishing, set(entryNext, other[publishing][entryNext]), "KeyMismatch"},
		"another's next root and key":     {publishing, func(d entry.Data) { d[entryNext], d[entryNextKey] = other[""][entryRoot], other[""][entryRootKey] }, "KeyMismatch"},
		"no next root":                    {publishing, set(entryNext, nil), "SecretIncomplete"},
		"no key of the next root":         {publishing, set(entryNextKey, nil), "SecretIncomplete"},
		"two next roots":                  {publishing, set(entryNext, slices.Concat(data[publishing][entryNext], other[publishing][entryNext])), "CertificateInvalid"},
		"no cross certificate":            {publishing, set(entryCross, nil), "SecretIncomplete"},
		"another's cross certificate":     {signing, set(entryCross, other[signing][entryCross]), "CertificateInvalid"},
		"an intermediate as cross":        {signing, set(entryCross, data[""]["tls.crt"]), "KeyMismatch"},
		"no old root":                     {signing, set(entryOld, nil), "SecretIncomplete"},
		"another's old root":              {signing, set(entryOld, other[signing][entryOld]), "CertificateInvalid"},
		"an old root that is no root":     {signing, set(entryOld, data[""]["tls.crt"]), "NoTrustAnchor"},
		"an intermediate of the old root": {signing, func(d entry.Data) { d["tls.crt"], d["tls.key"] = data[""]["tls.crt"], data[""]["tls.key"] }, "NoTrustAnchor"},
		"the phase is lost":               {signing, set(entryState, nil), "SecretIncomplete"},
		"the phase of before":             {signing, set(entryState, data[publishing][entryState]), "SecretIncomplete"},
		"the phase is garbage":            {publishing, set(entryState, []byte("garbage")), "SecretIncomplete"},
		"a root smuggled in":              {"", set(entryOld, other[""][entryRoot]), "SecretIncomplete"},
		"a next root smuggled in":         {signing, set(entryNext, other[""][entryRoot]), "SecretIncomplete"},
	} {
		t.Run(name, func(t *testing.T) {
			d := maps.Clone(data[x.phase])
			x.change(d)
			a, err := Parse(d)
			var check *signer.CheckError
			if !errors.As(err, &check) || check.Reason != x.reason || a != nil {
				t.Errorf("error %v, want one of reason %s", err, x.reason)
			}
		})
	}
}

func TestRenewalDue(t *testing.T) {
	a, _ := take(t, newConfig(t, false), &CA{}, rotation.Replace, "")
	life := a.issuer.NotAfter.Sub(a.issuer.NotBefore)
	for at, due := range map[time.Time]bool{
		now: false, a.issuer.NotBefore.Add(life/3*2 - time.Second): false, a.issuer.NotBefore.Add(life / 3 * 2): true,
		a.Root.NotAfter.Add(-time.Hour): true, a.Root.NotAfter: false,
	} {
		if got := a.RenewalDue(at); got != due {
			t.Errorf("at %s it is due: %t", at, got)
		}
	}
}
