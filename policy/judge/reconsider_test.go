// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/policy"
)

func TestReconsider(t *testing.T) {
	good := generation("p", 1, "a.example.com")
	others := generation("p", 1, "a.example.com")
	others.Spec.Requesters.ServiceAccounts = []string{"other"}
	for name, c := range map[string]struct {
		cached, live []*v1alpha1.CertificatePolicy
		want         policy.Verdict
		lists        int32 // of live policies
	}{
		"still no policy":                      {nil, nil, policy.NoOpinion, 0},
		"still none that selects":              {[]*v1alpha1.CertificatePolicy{others}, nil, policy.NoOpinion, 0},
		"a policy that the caches do not know": {nil, []*v1alpha1.CertificatePolicy{good}, policy.NoOpinion, 0},
		"a policy that permits":                {[]*v1alpha1.CertificatePolicy{good}, nil, policy.Permit, 0},
		"a refusal is decided live":            {[]*v1alpha1.CertificatePolicy{generation("p", 1)}, []*v1alpha1.CertificatePolicy{generation("p", 2, "a.example.com")}, policy.Permit, 1},
		"a refusal":                            {[]*v1alpha1.CertificatePolicy{generation("p", 1)}, []*v1alpha1.CertificatePolicy{generation("p", 1)}, policy.Deny, 1},
	} {
		t.Run(name, func(t *testing.T) {
			cached, live := newStore(t, cluster()...), newStore(t, cluster()...)
			for store, policies := range map[*store][]*v1alpha1.CertificatePolicy{cached: c.cached, live: c.live} {
				for _, p := range policies {
					if err := store.Create(t.Context(), p.DeepCopy()); err != nil {
						t.Fatal(err)
					}
				}
			}
			d, err := newJudge(cached, live).Reconsider(t.Context(), request("a.example.com"))
			if err != nil || d.Verdict != c.want {
				t.Errorf("got %v, %v, want %v", d.Verdict, err, c.want)
			}
			if got := live.lists.Load(); got != c.lists {
				t.Errorf("%d lists of live policies, want %d", got, c.lists)
			}
		})
	}
	t.Run("a broken policy", func(t *testing.T) {
		cached := newStore(t, cluster(generation("p", 1, broken))...)
		if d, err := newJudge(cached, newStore(t)).Reconsider(t.Context(), request("a.example.com")); err == nil || !strings.HasSuffix(err.Error(), ": p") {
			t.Errorf("got %v, %v, want to wait until it is mended", d.Verdict, err)
		}
	})
	t.Run("trouble", func(t *testing.T) {
		boom := errors.New("boom")
		cached := newStore(t)
		cached.trouble = boom
		if _, err := newJudge(cached, newStore(t)).Reconsider(t.Context(), request("a.example.com")); !errors.Is(err, boom) {
			t.Errorf("got %v, want %v", err, boom)
		}
	})
}

func TestWaitingForAddressesSaysForHowLong(t *testing.T) {
	ownOnly := generation("p", 1)
	ownOnly.Spec.Allow.IPAddresses = []string{"pod"}
	store := newStore(t, cluster(ownOnly)...)
	req := request()
	req.IPAddresses = []netip.Addr{netip.MustParseAddr("10.1.2.3")}
	_, err := newJudge(store, store).Decide(t.Context(), req)
	var wait *WaitError
	if !errors.As(err, &wait) || wait.After != addressesAfter {
		t.Errorf("got %v, want to wait for %s", err, addressesAfter)
	}
}

// The index is made once for the same policies, in whatever order a cache lists them, and anew for others.
func TestIndexIsMadeOnce(t *testing.T) {
	j := newJudge(nil, nil)
	p, q := j.Compile(generation("p", 1, "a.example.com")).Policy, j.Compile(generation("q", 1, "b.example.com")).Policy
	first := j.index(signerName, []*policy.Policy{p, q})
	if j.index(signerName, []*policy.Policy{q, p}) != first {
		t.Error("made again for the same policies in another order")
	}
	newer := j.Compile(generation("q", 2, "c.example.com")).Policy
	for name, policies := range map[string][]*policy.Policy{"one less": {p}, "one more": {p, q, newer}, "a newer generation": {p, newer}} {
		if j.index(signerName, policies) == first {
			t.Errorf("%s: the old one is used", name)
		}
		first = j.index(signerName, []*policy.Policy{p, q})
	}
	if j.index("example.com/other", []*policy.Policy{p, q}) == first {
		t.Error("signerNames share one")
	}
	j.forgetAllBut(nil)
	if len(j.sets) > 0 {
		t.Error("the policies that are gone are kept alive")
	}
}
