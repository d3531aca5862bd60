// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/signer/acme/server"
)

// acmez keeps every directory that it ever saw.
func TestDirectoriesAreBounded(t *testing.T) {
	h, s, clk := newHostile(t)
	large := func(n int) {
		h.extra = `,"meta":{"profiles":{"` + fmt.Sprint(n) + `":"` + strings.Repeat("x", 60<<10) + `"}}`
	}
	adopted := map[string]bool{}
	for n := range 60 { // one each minute
		large(n)
		d, err := s.Refresh(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		used, err := s.Directory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		profile := fmt.Sprint(server.Profiles(used))
		if fmt.Sprint(server.Profiles(d)) != profile {
			t.Error("what Refresh returns is not what is used")
		}
		adopted[profile] = true
		clk.SetTime(clk.Now().Add(time.Minute))
	}
	if len(adopted) != 6 || !adopted["[0]"] || !adopted["[50]"] {
		t.Errorf("within an hour the directories %v were taken, want one each ten minutes", adopted)
	}
	h.extra = `,"meta":{"termsOfService":"` + strings.Repeat("x", 64<<10) + `"}`
	if _, err := s.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "longer than the 65536 bytes") {
		t.Errorf("the error is %v", err)
	}
}

// What a server answers leads to hosts that its directory names, and to no other one that its certificate is good for.
func TestAnswersThatLeadElsewhere(t *testing.T) {
	h, s, _ := newHostile(t)
	inner, _, _ := newHostile(t) // shows the same certificate
	inner.answer = func(http.ResponseWriter, *http.Request) {}
	h.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		w.Header().Add("Link", fmt.Sprintf(`<%s/alternate>;rel="alternate"`, inner.URL))
		fmt.Fprint(w, "no certificate")
	}
	ctx, mine := t.Context(), account(t)
	for name, call := range map[string]func() error{
		"order":         func() error { _, _, err := s.Order(ctx, mine, inner.URL+"/order"); return err },
		"authorization": func() error { _, err := s.Authorization(ctx, mine, inner.URL+"/authorization"); return err },
		"challenge":     func() error { _, _, err := s.Validate(ctx, mine, inner.URL+"/challenge"); return err },
		"finalize": func() error {
			_, _, err := s.Finalize(ctx, mine, server.Order{Location: h.URL + "/order", Status: "ready", Finalize: inner.URL + "/finalize"}, []byte("der"))
			return err
		},
		"certificate": func() error { _, err := s.Chains(ctx, mine, inner.URL+"/certificate"); return err },
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), "its directory does not name") {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
	if _, err := s.Chains(ctx, mine, h.URL+"/certificate"); err == nil { // acmez goes on without an alternate that it cannot get
		t.Error("there is a certificate")
	}
	if n := inner.calls.Load(); n > 0 {
		t.Errorf("another host was asked %d times", n)
	}
}
