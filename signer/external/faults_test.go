// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package external_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/external"
)

// isTrouble fails the test unless the error is one that has the request tried again and nothing decided.
func isTrouble(t *testing.T, err error) {
	t.Helper()
	var permanent *signer.PermanentError
	var pending *signer.PendingError
	if err == nil || errors.As(err, &permanent) || errors.As(err, &pending) {
		t.Errorf("got %v (%[1]T), want trouble", err)
	}
}

// hostileBackends returns a function that returns a backend of one hostile server, which does what it is told.
func hostileBackends(t *testing.T) func(t *testing.T, do string) *external.Backend {
	_, socket := overSocket(t, nil)
	startHostile(t, socket)
	return func(t *testing.T, do string) *external.Backend {
		return onSocket(t, socket, map[string]string{"do": do})
	}
}

func TestNonsenseIsTrouble(t *testing.T) {
	backend := hostileBackends(t)
	for _, do := range []string{"nothing", "no certificates", "garbage", "trailing garbage", "too many", "too large", "huge", "silent"} {
		t.Run(do, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			_, err := backend(t, do).Sign(ctx, request(t))
			isTrouble(t, err)
		})
	}
}

func TestNoStatusIsAVerdict(t *testing.T) {
	backend := hostileBackends(t)
	for code := codes.Canceled; code <= codes.Unauthenticated+1; code++ {
		_, err := backend(t, fmt.Sprintf("code %d", code)).Sign(t.Context(), request(t))
		isTrouble(t, err)
		// What requesters may be able to cause must not take the backend out of service.
		var own *signer.RequestError
		if want := code == codes.InvalidArgument || code == codes.OutOfRange || code == codes.AlreadyExists; errors.As(err, &own) != want {
			t.Errorf("%s: the error is a %T", code, err)
		}
	}
}

func TestVerdicts(t *testing.T) {
	backend := hostileBackends(t)
	for _, do := range []string{"refused", "refused, no more"} {
		_, err := backend(t, do).Sign(t.Context(), request(t))
		var permanent *signer.PermanentError
		if !errors.As(err, &permanent) || err.Error() == "" || len(err.Error()) > 1000 {
			t.Errorf("%s: got %v", do, err)
		}
	}
	for do, want := range map[string]signer.PendingError{
		"pending":          {After: 7 * time.Second, Reason: "waiting for a person"},
		"pending, no more": {After: time.Second, Reason: "the external signer needs time"},
	} {
		_, err := backend(t, do).Sign(t.Context(), request(t))
		var pending *signer.PendingError
		if !errors.As(err, &pending) || *pending != want {
			t.Errorf("%s: got %v, want %+v", do, err, want)
		}
	}
}

func TestRenewalAdvice(t *testing.T) {
	backend := hostileBackends(t)
	for do, want := range map[string]time.Time{"renew at": time.Unix(2e9, 0).UTC(), "as asked": {}} {
		b := backend(t, do)
		chain, err := b.Sign(t.Context(), request(t))
		if err != nil {
			t.Fatal(err)
		}
		if at, err := b.RenewAt(t.Context(), chain[0]); err != nil || !at.Equal(want) {
			t.Errorf("%s: renewed best at %s (error %v), want %s", do, at, err, want)
		}
	}
}

func TestCheckQuotesTheProgram(t *testing.T) {
	err := hostileBackends(t)(t, "").Check(t.Context())
	if err == nil || !strings.Contains(err.Error(), "FailedPrecondition: the HSM is asleep") || len(err.Error()) > 1000 || strings.Contains(err.Error(), "\n") {
		t.Errorf("Check returned %v", err)
	}
}

func TestTrustAnchors(t *testing.T) {
	backend := hostileBackends(t)
	for _, do := range []string{"garbage", "anchor that is no CA", "too many", "too large"} {
		if anchors, err := backend(t, do).TrustAnchors(t.Context()); err == nil || len(anchors) > 0 {
			t.Errorf("%s: got %d anchors and error %v", do, len(anchors), err)
		}
	}
	if anchors, err := backend(t, "no anchors").TrustAnchors(t.Context()); err != nil || len(anchors) > 0 {
		t.Errorf("a program that does not know them: got %d anchors and error %v", len(anchors), err)
	}
	if at, err := backend(t, "not after").NotAfter(t.Context()); err != nil || !at.Equal(time.Unix(2e9, 0)) {
		t.Errorf("NotAfter is %s, error %v", at, err)
	}
	b := backend(t, "as asked")
	anchors, err := b.TrustAnchors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if at, err := b.NotAfter(t.Context()); err != nil || !at.Equal(anchors[0].NotAfter) {
		t.Errorf("NotAfter is %s (error %v), and the anchor's %s", at, err, anchors[0].NotAfter)
	}
}
