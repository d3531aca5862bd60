// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package hsm_test

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/certwright/certwright/cmd/certwright-kms/hsm"
	"github.com/certwright/certwright/signer/ca/device"
)

// spied returns the URI of a key behind OpenSC's spy, which writes down what the module is asked for, and what counts a word there.
func spied(t *testing.T, object string) (uri string, count func(word string) int) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "spy.log")
	t.Setenv("PKCS11SPY", softHSM)
	t.Setenv("PKCS11SPY_OUTPUT", log)
	return "pkcs11:token=test;object=" + object + "?module-path=" + spy, func(word string) int {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), ": "+word+"\n")
	}
}

// Tokens lock themselves after a few wrong PINs.
func TestWrongPINIsTriedOnce(t *testing.T) {
	uri, count := spied(t, "ECDSA-P256")
	chain := string(certificates["ECDSA-P256"])
	wrong := rand.Text() // as the process remembers them all
	w := newWorld(t, uri, chain, wrong)
	for range 20 {
		wantReason(t, w.sign(5*time.Second), "PINRefused")
		wantReason(t, w.Check(t.Context()), "PINRefused")
		w.clock.Step(time.Hour)
	}
	other := newWorld(t, uri, chain, wrong)
	wantReason(t, other.Check(t.Context()), "PINRefused")
	if n := count("C_Login"); n != 1 {
		t.Errorf("the wrong PIN was tried %d times", n)
	}
	if err := w.Check(t.Context()); err == nil || strings.Contains(err.Error(), wrong) {
		t.Errorf("%v: it must not repeat the PIN", err)
	}
	w.setPIN(rand.Text())
	w.clock.Step(device.RetryPause)
	wantReason(t, w.sign(5*time.Second), "PINRefused")
	if n := count("C_Login"); n != 2 {
		t.Errorf("after another wrong PIN, %d were tried, want 2", n)
	}
	w.setPIN(pin)
	w.clock.Step(device.RetryPause)
	if err := w.sign(5 * time.Second); err != nil {
		t.Errorf("with the right PIN: %v", err)
	}
	if n := count("C_Login"); n != 3 {
		t.Errorf("%d PINs were tried, want 3", n)
	}
}

// Several Signers may use one token, each with a wrong PIN of its own, or all with the same.
func TestWrongPINsOfSeveralSigners(t *testing.T) {
	uri, count := spied(t, "ECDSA-P256")
	chain := string(certificates["ECDSA-P256"])
	var worlds []*world
	same, other := rand.Text(), rand.Text()
	for _, pin := range []string{same, same, same, other} {
		worlds = append(worlds, newWorld(t, uri, chain, pin))
	}
	for range 10 {
		var all sync.WaitGroup
		for _, w := range worlds {
			all.Go(func() { wantReason(t, w.Check(t.Context()), "PINRefused") })
		}
		all.Wait()
		for _, w := range worlds {
			w.clock.Step(time.Hour)
		}
	}
	if n := count("C_Login"); n != 2 {
		t.Errorf("two wrong PINs were tried %d times", n)
	}
}

// What works is not given up for a Secret that changes.
func TestPINChangesWhileSigning(t *testing.T) {
	w := newWorld(t, uriOf("test", "ECDSA-P256"), string(certificates["ECDSA-P256"]), pin)
	for _, next := range []string{"0000", pin} {
		if err := w.sign(5 * time.Second); err != nil {
			t.Fatal(err)
		}
		w.setPIN(next)
		w.clock.Step(device.ProofInterval)
		if err := w.Check(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if n := w.opened.Load(); n != 1 {
		t.Errorf("the key was opened %d times, want 1", n)
	}
}

func TestSignaturesNeedNoOpening(t *testing.T) {
	uri, count := spied(t, "ECDSA-P256")
	w := newWorld(t, uri, string(certificates["ECDSA-P256"]), pin)
	for range 50 {
		if err := w.sign(5 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	for word, want := range map[string]int{"C_Login": 1, "C_FindObjectsInit": 1, "C_OpenSession": 2, "C_Initialize": 1, "C_SignInit": 51} {
		if got := count(word); got != want {
			t.Errorf("%s was called %d times, want %d", word, got, want)
		}
	}
}

func TestMayTry(t *testing.T) {
	for name, c := range map[string]struct {
		flags  uint
		pin    string
		reason string
	}{
		"no PIN":    {pkcs11.CKF_LOGIN_REQUIRED, "", "PINRequired"},
		"locked":    {pkcs11.CKF_USER_PIN_LOCKED, "1", "TokenLocked"},
		"final try": {pkcs11.CKF_USER_PIN_FINAL_TRY | pkcs11.CKF_USER_PIN_COUNT_LOW, "1", "PINRefused"},
	} {
		t.Run(name, func(t *testing.T) { wantReason(t, hsm.MayTry(c.flags, c.pin), c.reason) })
	}
	if err := hsm.MayTry(pkcs11.CKF_USER_PIN_COUNT_LOW, "1"); err != nil {
		t.Errorf("one wrong PIN before: %v", err)
	}
}
