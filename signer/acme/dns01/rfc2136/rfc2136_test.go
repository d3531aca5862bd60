// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rfc2136

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/hack/servers"
	"github.com/certwright/certwright/signer/acme/dns01/bind9"
	"github.com/certwright/certwright/signer/acme/dns01/txt"
	"github.com/certwright/certwright/signer/remote"
)

const (
	secret  = "c2l4dGVlbiBieXRlcyBhbmQgc29tZSBtb3JlIG9mIHRoZW0="
	other   = "YW5vdGhlciBrZXkgdGhhdCB0aGUgc2VydmVyIGRvZXMgbm90IGtub3c="
	zone    = "example.test."
	name    = "_acme-challenge.www.example.test."
	ns      = "certwright-system"
	refused = "elsewhere.example.test." // the key may not update it
)

// value returns a value for a test: 43 characters, of which the last ones are a number.
func value(n int) string { return fmt.Sprintf("%s%03d", strings.Repeat("v", 40), n) }

// secrets holds the entries of a Secret named tsig.
func secrets(t *testing.T, entries map[string]string) remote.Secrets {
	t.Helper()
	data := map[string][]byte{}
	for k, v := range entries {
		data[k] = []byte(v)
	}
	object := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "tsig"}, Data: data}
	return remote.Secrets{Reader: fake.NewClientBuilder().WithObjects([]client.Object{object}...).Build(), Namespace: ns}
}

// start starts a server that has the zone, and lets each key update one name in it.
func start(t *testing.T, keys ...bind9.Key) *bind9.Server {
	t.Helper()
	var grants strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&grants, "grant %s name %s TXT; ", k.Name, name)
	}
	return bind9.Start(t, bind9.Config{Keys: keys, Zones: []bind9.Zone{{Name: zone, Options: "update-policy { " + grants.String() + "};"}}})
}

func signed(t *testing.T, address string, tsig v1alpha1.TSIG, c clock.PassiveClock, entries map[string]string) *Writer {
	t.Helper()
	tsig.SecretRef = v1alpha1.SecretKeyRef{Name: "tsig", Key: "key"}
	w, err := New(v1alpha1.RFC2136{Server: address, TSIG: &tsig}, secrets(t, entries), c)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// values asks the server for the values at a name.
func values(t *testing.T, s *bind9.Server, name string) []string {
	t.Helper()
	answer, _, err := (&dns.Client{Net: "tcp"}).ExchangeContext(t.Context(), new(dns.Msg).SetQuestion(name, dns.TypeTXT), s.Address())
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, rr := range answer.Answer {
		found = append(found, strings.Join(rr.(*dns.TXT).Txt, ""))
	}
	slices.Sort(found)
	return found
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWritesAndRemovesExactlyItsValue(t *testing.T) {
	for _, algorithm := range []string{"hmac-sha1", "hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512"} {
		t.Run(algorithm, func(t *testing.T) {
			s := start(t, bind9.Key{Name: "certwright", Algorithm: algorithm, Secret: secret})
			w := signed(t, s.Address(), v1alpha1.TSIG{KeyName: "Certwright.", Algorithm: algorithm}, clock.RealClock{}, map[string]string{"key": secret})
			apex, wildcard := txt.Record{Zone: zone, Name: name, Value: value(1)}, txt.Record{Zone: zone, Name: name, Value: value(2)}
			must(t, w.Check(t.Context()))
			must(t, w.Present(t.Context(), apex))
			must(t, w.Present(t.Context(), wildcard))
			must(t, w.Present(t.Context(), apex))
			if got := values(t, s, name); !slices.Equal(got, []string{value(1), value(2)}) {
				t.Errorf("after three calls for two values: %v", got)
			}
			must(t, w.CleanUp(t.Context(), apex))
			must(t, w.CleanUp(t.Context(), apex))
			if got := values(t, s, name); !slices.Equal(got, []string{value(2)}) {
				t.Errorf("after one was removed: %v", got)
			}
			must(t, w.CleanUp(t.Context(), wildcard))
			if got := values(t, s, name); len(got) > 0 {
				t.Errorf("after both were removed: %v", got)
			}
		})
	}
}

// An attacker who gets many values written at one name keeps others from theirs for no longer than their own last, and the
// server's answers from growing.
func TestBoundsTheValuesAtAName(t *testing.T) {
	s := start(t, bind9.Key{Name: "k", Algorithm: "hmac-sha256", Secret: secret})
	w := signed(t, s.Address(), v1alpha1.TSIG{KeyName: "k"}, clock.RealClock{}, map[string]string{"key": secret})
	for i := range txt.MaxValues {
		must(t, w.Present(t.Context(), txt.Record{Zone: zone, Name: name, Value: value(i)}))
	}
	one := txt.Record{Zone: zone, Name: name, Value: value(txt.MaxValues)}
	var misconfigured *txt.ConfigError
	if err := w.Present(t.Context(), one); !errors.Is(err, txt.ErrFull) || errors.As(err, &misconfigured) {
		t.Errorf("one value too many: %v, want trouble that passes", err)
	}
	must(t, w.Present(t.Context(), txt.Record{Zone: zone, Name: name, Value: value(3)})) // is there
	must(t, w.CleanUp(t.Context(), txt.Record{Zone: zone, Name: name, Value: value(0)}))
	must(t, w.Present(t.Context(), one))
	if got := values(t, s, name); len(got) != txt.MaxValues || !slices.Contains(got, one.Value) {
		t.Errorf("%d values: %v", len(got), got)
	}
}

func TestWithoutSignature(t *testing.T) {
	s := bind9.Start(t, bind9.Config{Zones: []bind9.Zone{{Name: zone, Options: "allow-update { 127.0.0.1; };"}, {Name: "static.test."}}})
	w, err := New(v1alpha1.RFC2136{Server: s.Address()}, remote.Secrets{}, clock.RealClock{})
	must(t, err)
	must(t, w.Check(t.Context()))
	must(t, w.Present(t.Context(), txt.Record{Zone: zone, Name: name, Value: value(1)}))
	if got := values(t, s, name); !slices.Equal(got, []string{value(1)}) {
		t.Errorf("values %v", got)
	}
	wantMisconfigured(t, w.Present(t.Context(), txt.Record{Zone: "static.test.", Name: "_acme-challenge.static.test.", Value: value(1)}),
		"refuses to update _acme-challenge.static.test.: let the signer's address update")
}

func wantMisconfigured(t *testing.T, err error, words string) {
	t.Helper()
	var misconfigured *txt.ConfigError
	if !errors.As(err, &misconfigured) || !strings.Contains(err.Error(), words) {
		t.Errorf("error %v: want a ConfigError that says %q", err, words)
	}
}

// Each mistake of an administrator has words that say what to do, and none shows a secret.
func TestMistakes(t *testing.T) {
	s := start(t, bind9.Key{Name: "k", Algorithm: "hmac-sha256", Secret: secret})
	here := txt.Record{Zone: zone, Name: name, Value: value(1)}
	late := testingclock.NewFakePassiveClock(time.Now().Add(-time.Hour))
	for title, c := range map[string]struct {
		tsig    v1alpha1.TSIG
		clock   clock.PassiveClock
		entries map[string]string
		record  txt.Record
		want    string
	}{
		"key name":    {v1alpha1.TSIG{KeyName: "nobody"}, clock.RealClock{}, map[string]string{"key": secret}, here, "does not know the TSIG key nobody."},
		"algorithm":   {v1alpha1.TSIG{KeyName: "k", Algorithm: "hmac-sha512"}, clock.RealClock{}, map[string]string{"key": secret}, here, "with algorithm hmac-sha512"},
		"secret":      {v1alpha1.TSIG{KeyName: "k"}, clock.RealClock{}, map[string]string{"key": other}, here, "has another secret for the TSIG key k."},
		"clock":       {v1alpha1.TSIG{KeyName: "k"}, late, map[string]string{"key": secret}, here, "the clocks"},
		"no base64":   {v1alpha1.TSIG{KeyName: "k"}, clock.RealClock{}, map[string]string{"key": "%%%%" + other}, here, "Secret tsig, entry key, is not in base64"},
		"no entry":    {v1alpha1.TSIG{KeyName: "k"}, clock.RealClock{}, map[string]string{"other": other}, here, "certwright-system/tsig"},
		"not granted": {v1alpha1.TSIG{KeyName: "k"}, clock.RealClock{}, map[string]string{"key": secret}, txt.Record{Zone: zone, Name: refused, Value: value(1)}, "let the key k. update TXT records there"},
		"no zone":     {v1alpha1.TSIG{KeyName: "k"}, clock.RealClock{}, map[string]string{"key": secret}, txt.Record{Zone: "example.org.", Name: "_acme-challenge.example.org.", Value: value(1)}, "does not have the zone example.org."},
		"not in zone": {v1alpha1.TSIG{KeyName: "k"}, clock.RealClock{}, map[string]string{"key": secret}, txt.Record{Zone: zone, Name: "_acme-challenge.example.org.", Value: value(1)}, "is not in its zone"},
	} {
		t.Run(title, func(t *testing.T) {
			w := signed(t, s.Address(), c.tsig, c.clock, c.entries)
			for _, err := range []error{w.Present(t.Context(), c.record), w.CleanUp(t.Context(), c.record)} {
				wantMisconfigured(t, err, c.want)
				if err != nil && (strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), other)) {
					t.Errorf("the error shows the secret: %v", err)
				}
			}
		})
	}
	if got := values(t, s, name); len(got) > 0 {
		t.Errorf("something was written: %v", got)
	}
}

func TestServerTrouble(t *testing.T) {
	s := start(t, bind9.Key{Name: "k", Algorithm: "hmac-sha256", Secret: secret})
	w := signed(t, s.Address(), v1alpha1.TSIG{KeyName: "k"}, clock.RealClock{}, map[string]string{"key": secret})
	record := txt.Record{Zone: zone, Name: name, Value: value(1)}
	wantTrouble := func(state string, err error) {
		t.Helper()
		var misconfigured *txt.ConfigError
		if err == nil || errors.As(err, &misconfigured) || !strings.Contains(err.Error(), s.Address()) {
			t.Errorf("with the server %s: %v, want trouble that names the server", state, err)
		}
	}
	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	wantTrouble("paused", w.Present(ctx, record))
	s.Resume()
	must(t, w.Present(t.Context(), record))
	s.Stop()
	wantTrouble("stopped", w.CleanUp(t.Context(), record))
	wantTrouble("stopped", w.Check(t.Context()))
}

// Somebody on the way who has no key cannot say that an update was made, nor that it never will be.
func TestUnsignedAnswersAreNotBelieved(t *testing.T) {
	for title, answer := range map[string]func(*dns.Msg) *dns.Msg{
		"done":    func(q *dns.Msg) *dns.Msg { return new(dns.Msg).SetReply(q) },
		"refused": func(q *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeRefused) },
		"other key": func(q *dns.Msg) *dns.Msg {
			return new(dns.Msg).SetReply(q).SetTsig("other.", dns.HmacSHA256, 300, time.Now().Unix())
		},
		"other secret": func(q *dns.Msg) *dns.Msg {
			return new(dns.Msg).SetReply(q).SetTsig("k.", dns.HmacSHA256, 300, time.Now().Unix())
		},
		"old": func(q *dns.Msg) *dns.Msg {
			return new(dns.Msg).SetReply(q).SetTsig("right.", dns.HmacSHA256, 300, time.Now().Add(-time.Hour).Unix())
		},
	} {
		t.Run(title, func(t *testing.T) {
			address := fakeServer(t, answer)
			key := "k"
			if title == "old" {
				key = "right" // the fake knows this one, and its answer is a replay
			}
			w := signed(t, address, v1alpha1.TSIG{KeyName: key}, clock.RealClock{}, map[string]string{"key": secret})
			err := w.CleanUp(t.Context(), txt.Record{Zone: zone, Name: name, Value: value(1)})
			var misconfigured *txt.ConfigError
			if err == nil || errors.As(err, &misconfigured) || !strings.Contains(err.Error(), "nothing it says is believed") {
				t.Errorf("error %v: want trouble, as the answer proves nothing", err)
			}
		})
	}
}

// fakeServer plays somebody on the way to the server. It stands in for what no server can be made to do.
func fakeServer(t *testing.T, answer func(*dns.Msg) *dns.Msg) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", servers.Address(t))
	must(t, err)
	server := &dns.Server{
		Listener: listener, TsigSecret: map[string]string{"k.": other, "other.": other, "right.": secret},
		MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept },
		Handler:       dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(answer(q)) }),
	}
	var running sync.WaitGroup
	running.Go(func() { _ = server.ActivateAndServe() }) // it ends with an error when its socket is closed
	t.Cleanup(func() {
		_ = listener.Close()
		running.Wait()
	})
	return listener.Addr().String()
}
