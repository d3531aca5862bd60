// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"

	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/internal/example"
	"github.com/certwright/certwright/signer/issue"
)

// Who waits for a backend that is not fit to sign must read why at once; that one is about to begin is nothing to tell.
func TestWhyNothingIsSignedIsTold(t *testing.T) {
	lost := &signer.CheckError{Reason: "SecretNotFound", Err: errors.New("Secret certwright-system/ca does not exist")}
	for name, c := range map[string]struct {
		b    *example.Able
		look bool
		told string
	}{
		"it was not looked at yet":         {example.NewAble(example.Now, example.Root.Certificate), false, ""},
		"it has no anchors to tell":        {&example.Able{Anchored: example.Anchored{Backend: example.Honest, Err: lost}}, true, "Secret certwright-system/ca does not exist"},
		"it is down":                       {&example.Able{Anchored: example.Anchored{Backend: example.Honest, Anchors: []*x509.Certificate{example.Root.Certificate}}, Wrong: lost}, true, "Secret certwright-system/ca does not exist"},
		"it is down, and has none to tell": {&example.Able{Anchored: example.Anchored{Backend: example.Honest, Err: lost}, Wrong: lost}, true, "down since 2026-05-04T03:04:01Z: Secret certwright-system/ca does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWatcher(t, example.Signer("local"))
			w.backends["local"] = c.b
			for _, o := range []client.Object{example.Approved(t, nil), example.Policy()} {
				if err := w.api.Client.Create(t.Context(), o); err != nil {
					t.Fatal(err)
				}
			}
			if c.look {
				_, _ = w.check(t, "internal")
			}
			w.api.Pass(-2 * recheck) // the request is young
			w.api.Writes = nil
			_, _ = w.signing.Reconcile(t.Context(), w.stored(t))
			if told := len(w.api.Writes) > 0; told != (c.told != "") {
				t.Fatalf("writes %q, want an event: %t", w.api.Writes, c.told != "")
			}
			var events eventsv1.EventList
			if err := w.api.Client.List(t.Context(), &events); err != nil {
				t.Fatal(err)
			}
			if c.told != "" && !slices.ContainsFunc(events.Items, func(e eventsv1.Event) bool {
				return e.Reason == issue.ReasonNotSignedYet && strings.Contains(e.Note, c.told)
			}) {
				t.Errorf("the events are %v, want one with %q", events.Items, c.told)
			}
		})
	}
}
