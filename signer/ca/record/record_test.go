// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"maps"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca/authority"
	"github.com/certwright/certwright/signer/ca/entry"
	"github.com/certwright/certwright/signer/ca/rotation"
)

var (
	now             = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	one, two, three = newRoot("1"), newRoot("2"), newRoot("3")
)

func newRoot(name string) *x509.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now, NotAfter: now.Add(time.Hour), BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return c
}

// text tells the roots of a record, such as "1>2-3": 1 signs, 2 is next, 3 is old.
func text(r *Record) string {
	names := func(certs []*x509.Certificate) (s string) {
		for _, c := range certs {
			s += c.Subject.CommonName
		}
		return s
	}
	return names(r.Current) + ">" + names(r.Next) + "-" + names(r.Old)
}

func read(s string) *Record {
	certs := func(names string) (all []*x509.Certificate) {
		for _, n := range names {
			all = append(all, map[rune]*x509.Certificate{'1': one, '2': two, '3': three}[n])
		}
		return all
	}
	current, rest, _ := strings.Cut(s, ">")
	next, old, _ := strings.Cut(rest, "-")
	return &Record{Current: certs(current), Next: certs(next), Old: certs(old)}
}

func TestTake(t *testing.T) {
	for name, c := range map[string]struct {
		before  string
		step    rotation.Step
		anchors string
		want    string
	}{
		"begin":                            {"1>-", rotation.Begin, "2", "1>2-"},
		"begin in place of another":        {"1>2-", rotation.Begin, "3", "1>3-2"},
		"begin with an old one":            {"1>-2", rotation.Begin, "3", "1>3-2"},
		"begin with one of before":         {"1>2-3", rotation.Begin, "3", "1>3-23"},
		"seen":                             {"1>2-3", rotation.Seen, "2", "1>2-3"},
		"raise":                            {"1>2-3", rotation.Raise, "2", "1>2-3"},
		"switch":                           {"1>2-", rotation.Switch, "2", "2>-1"},
		"switch with an old one":           {"1>2-3", rotation.Switch, "2", "2>-13"},
		"switch to what was old":           {"1>3-23", rotation.Switch, "3", "3>-12"},
		"switch to more than there was":    {"1>12-", rotation.Switch, "12", "12>-"},
		"finish":                           {"2>-13", rotation.Finish, "2", "2>-"},
		"compromised":                      {"1>2-3", rotation.Replace, "3", "3>-"},
		"nothing is lost without a word":   {"1>2-3", rotation.None, "", "1>2-3"},
		"the intermediate is of no weight": {"1>2-3", rotation.Renew, "1", "1>2-3"},
	} {
		t.Run(name, func(t *testing.T) {
			before := read(c.before)
			if got := text(before.Take(c.step, rotation.State{}, read(c.anchors).Current, nil)); got != c.want {
				t.Errorf("%s becomes %s, want %s", c.before, got, c.want)
			}
			if got := text(before); got != c.before {
				t.Errorf("what it was before became %s", got)
			}
		})
	}
}

func TestAdopt(t *testing.T) {
	state := rotation.State{Phase: v1alpha1.RotationPublishing, Since: now, Published: now, Longest: 2, OldLongest: 3}
	signing := rotation.State{Phase: v1alpha1.RotationSigning, Since: now, Longest: 1, OldLongest: 3}
	for name, c := range map[string]struct {
		before, anchors, want string
		state                 rotation.State
	}{
		"another beside it":  {"1>-", "12", "12>-", rotation.State{Longest: 3}},
		"one of two":         {"12>-", "2", "2>-1", signing},
		"back to the former": {"1>2-", "1", "1>-2", signing},
		"another order":      {"12>-", "21", "21>-", rotation.State{Longest: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			before := read(c.before)
			before.State = state
			got := before.Adopt(now, 1, read(c.anchors).Current)
			if text(got) != c.want || got.State != c.state {
				t.Errorf("%s becomes %s with %+v, want %s with %+v", c.before, text(got), got.State, c.want, c.state)
			}
		})
	}
}

func TestEncoding(t *testing.T) {
	for _, s := range []string{"1>-", "1>2-", "1>23-", "12>-3"} {
		r := read(s)
		if r.Next != nil {
			r.State = rotation.State{Phase: v1alpha1.RotationPublishing, Since: now, Longest: 5}
		}
		data, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Parse(data); err != nil || text(got) != s || got.State != r.State {
			t.Errorf("%s is read as %v, error %v", s, got, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	whole := signer.EncodePEM(one)
	for name, data := range map[string]entry.Data{
		"nothing":             {},
		"no current root":     {"next-anchors.crt": whole},
		"cut off":             {"anchors.crt": whole[:100]},
		"garbage behind":      {"anchors.crt": whole, "old-anchors.crt": []byte("garbage")},
		"a phase without":     {"anchors.crt": whole, "rotation.json": []byte(`{"phase":"Publishing","since":"2026-05-04T03:02:01Z"}`)},
		"a state of garbage":  {"anchors.crt": whole, "rotation.json": []byte("garbage")},
		"a key among anchors": {"anchors.crt": []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")},
	} {
		t.Run(name, func(t *testing.T) {
			var check *signer.CheckError
			if r, err := Parse(data); r != nil || !errors.As(err, &check) {
				t.Errorf("got %v, error %v", r, err)
			}
		})
	}
}

// ca is an authority below a root of its own.
func ca(t *testing.T, name string) *authority.Authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now, NotAfter: now.Add(time.Hour), BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a, err := authority.New([]*x509.Certificate{cert}, nil, key)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// The CA of before is kept from when other roots are published until they sign, and at no other time.
func TestBefore(t *testing.T) {
	by, other := ca(t, "by"), ca(t, "other")
	publishing := rotation.State{Phase: v1alpha1.RotationPublishing, Since: now}
	begun := (&Record{Current: by.Anchors}).Take(rotation.Begin, publishing, other.Anchors, by)
	data, err := begun.Encode()
	if err != nil {
		t.Fatal(err)
	}
	read, err := Parse(data)
	if err != nil || read.Before == nil || !read.Before.Cert.Equal(by.Cert) || !by.Key.(*ecdsa.PrivateKey).Equal(read.Before.Key) {
		t.Fatalf("it is read as %+v, error %v", read, err)
	}
	for name, kept := range map[string]*Record{
		"raise": read.Raise(time.Hour), "seen": read.Take(rotation.Seen, publishing, other.Anchors, nil), "begin again": read.Take(rotation.Begin, publishing, []*x509.Certificate{one}, read.Before),
	} {
		if kept.Before != read.Before {
			t.Errorf("%s: it is gone", name)
		}
	}
	for name, gone := range map[string]*Record{
		"switch": read.Take(rotation.Switch, rotation.State{}, other.Anchors, by), "finish": read.Take(rotation.Switch, rotation.State{}, other.Anchors, by).Take(rotation.Finish, rotation.State{}, other.Anchors, by),
		"replace": read.Take(rotation.Replace, rotation.State{}, other.Anchors, by), "adopt": read.Adopt(now, 1, by.Anchors), "forget": read.Forget(),
	} {
		data, err := gone.Encode()
		if err != nil || gone.Before != nil || entry.Has(data, entryBefore) || entry.Has(data, entryBeforeKey) {
			t.Errorf("%s: it is still there, error %v", name, err)
		}
	}
	if read.Before == nil {
		t.Error("what it was before changed")
	}
	otherKey, err := entry.EncodeKey(other.Key)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(entry.Data)
		reason string
	}{
		"no key":             {func(d entry.Data) { delete(d, entryBeforeKey) }, "SecretIncomplete"},
		"another's key":      {func(d entry.Data) { d[entryBeforeKey] = otherKey }, "KeyMismatch"},
		"another CA":         {func(d entry.Data) { d[entryBefore], d[entryBeforeKey] = signer.EncodePEM(other.Cert), otherKey }, "NoTrustAnchor"},
		"garbage":            {func(d entry.Data) { d[entryBefore] = []byte("garbage") }, "CertificateInvalid"},
		"garbage for a key":  {func(d entry.Data) { d[entryBeforeKey] = []byte("garbage") }, "KeyInvalid"},
		"a key in its place": {func(d entry.Data) { d[entryBefore] = otherKey }, "CertificateInvalid"},
	} {
		bad := maps.Clone(data)
		c.change(bad)
		var check *signer.CheckError
		if r, err := Parse(bad); r != nil || !errors.As(err, &check) || check.Reason != c.reason {
			t.Errorf("%s: got %v, error %v, want one of reason %s", name, r, err, c.reason)
		}
	}
}

func TestSets(t *testing.T) {
	a, b := read("112").Current, read("23").Current
	if got := text(&Record{Current: Union(a, b)}); got != "123>-" {
		t.Errorf("all are %s", got)
	}
	if got := text(&Record{Current: Without(a, b)}); got != "11>-" {
		t.Errorf("without the others they are %s", got)
	}
	if !Same(read("12").Current, read("21").Current) || Same(a, b) {
		t.Error("sets differ from themselves, or not from others")
	}
	if len(Valid(a, one.NotAfter)) != 3 || len(Valid(a, one.NotAfter.Add(1))) != 0 {
		t.Error("what has expired is valid, or what is valid has expired")
	}
}
