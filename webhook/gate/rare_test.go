// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"k8s.io/utils/clock"
)

// What is rare has turns of its own, and takes none of the others.
func TestTurnsOfTheRare(t *testing.T) {
	pods, rare := newSlow(), newSlow()
	g, podServer := serve(t, clock.RealClock{}, pods)
	rareServer := httptest.NewServer(g.WrapRare(rare))
	defer rareServer.Close()
	answered := make(chan answer)
	for _, server := range []*httptest.Server{podServer, rareServer} {
		for _, size := range []int{small - 1, small} {
			go func() { answered <- post(server, size) }()
		}
	}
	for range 2 {
		<-pods.entered
		<-rare.entered
	}
	if len(g.pods.small) != 1 || len(g.pods.large) != 1 || len(g.rare.small) != 1 || len(g.rare.large) != 1 {
		t.Errorf("taken: %d and %d for pods, %d and %d for the rare, want 1 each", len(g.pods.small), len(g.pods.large), len(g.rare.small), len(g.rare.large))
	}
	close(pods.answer)
	close(rare.answer)
	for range 4 {
		if got := <-answered; got.err != nil || got.status != http.StatusOK {
			t.Errorf("got %+v", got)
		}
	}
}
