// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/policy"
)

func TestBrokenPolicies(t *testing.T) {
	ctx := context.Background()
	t.Run("last good generation stays in force", func(t *testing.T) {
		j := newJudge(newStore(t), newStore(t, cluster(generation("p", 2, "b.example.com", broken))...))
		j.Compile(generation("p", 1, "a.example.com"))
		if d := decide(t, j, request("a.example.com")); d.Verdict != policy.Permit {
			t.Errorf("got %v", d.Verdict)
		}
		if d := decide(t, j, request("b.example.com")); d.Verdict != policy.Deny {
			t.Errorf("the good part of a broken policy decides %v", d.Verdict)
		}
	})
	t.Run("last good generation speaks of its own signerNames", func(t *testing.T) {
		moved := generation("p", 2, broken)
		moved.Spec.SignerNames = []string{"example.com/other"}
		j := newJudge(newStore(t), newStore(t, cluster(moved)...))
		j.Compile(generation("p", 1, "a.example.com"))
		if d := decide(t, j, request("a.example.com")); d.Verdict != policy.Permit {
			t.Errorf("got %v for the signerName of the last good generation", d.Verdict)
		}
		other := request("a.example.com")
		other.SignerName = "example.com/other"
		if d := decide(t, j, other); d.Verdict != policy.NoOpinion {
			t.Errorf("got %v for the signerName of the broken generation", d.Verdict)
		}
	})
	t.Run("never good: refusals wait", func(t *testing.T) {
		for _, more := range [][]client.Object{nil, {generation("q", 1, "b.example.com")}} {
			world := cluster(append(more, generation("p", 1, "a.example.com", broken), generation("p2", 1, broken))...)
			d, err := newJudge(newStore(t, world...), newStore(t, world...)).Decide(ctx, request("a.example.com"))
			if err == nil || !strings.HasSuffix(err.Error(), "(kubectl describe certificatepolicy): p, p2") || !reflect.DeepEqual(d, policy.Decision{}) {
				t.Errorf("got %+v, %v", d, err)
			}
		}
	})
	t.Run("never good: permits of others do not wait", func(t *testing.T) {
		live := newStore(t, cluster(generation("p", 1, broken), generation("q", 1, "a.example.com"))...)
		for _, cached := range []*store{live, newStore(t)} {
			if d := decide(t, newJudge(cached, live), request("a.example.com")); d.Verdict != policy.Permit || d.Policy != "q" {
				t.Errorf("got %+v", d)
			}
		}
	})
	t.Run("never good, of another signer: nothing waits", func(t *testing.T) {
		other := generation("p", 1, broken)
		other.Spec.SignerNames = []string{"example.com/other"}
		live := newStore(t, cluster(other, generation("q", 1, "a.example.com"))...)
		if d := decide(t, newJudge(live, live), request("b.example.com")); d.Verdict != policy.Deny {
			t.Errorf("got %+v", d)
		}
	})
	t.Run("never good, in mode Audit: nothing waits", func(t *testing.T) {
		trial := generation("p", 1, broken)
		trial.Spec.Mode = v1alpha1.ModeAudit
		live := newStore(t, cluster(trial, generation("q", 1, "b.example.com"))...)
		if d := decide(t, newJudge(live, live), request("a.example.com")); d.Verdict != policy.Deny {
			t.Errorf("got %+v", d)
		}
	})
	t.Run("mended", func(t *testing.T) {
		cached := newStore(t)
		j := newJudge(cached, newStore(t, cluster(generation("p", 1, broken))...))
		if _, err := j.Decide(ctx, request("a.example.com")); err == nil {
			t.Fatal("no error while it is broken")
		}
		j.live = newStore(t, cluster(generation("p", 2, "a.example.com"))...)
		if d := decide(t, j, request("a.example.com")); d.Verdict != policy.Permit {
			t.Errorf("got %+v", d)
		}
	})
}

func TestCompileGoesForwardOnly(t *testing.T) {
	j := newJudge(nil, nil)
	check := func(name string, got Compiled, generation, inForce int64, good bool) {
		t.Helper()
		if got.Generation != generation || got.InForce != inForce || (got.Policy != nil) != (inForce > 0) || (got.Err == nil) != good {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	check("first is broken", j.Compile(generation("p", 1, broken)), 1, 0, false)
	check("good", j.Compile(generation("p", 2, "a.example.com")), 2, 2, true)
	first := j.Compile(generation("p", 2, "a.example.com")).Policy
	check("same again, other contents", j.Compile(generation("p", 2, broken)), 2, 2, true)
	check("older", j.Compile(generation("p", 1, "b.example.com")), 2, 2, true)
	check("broken", j.Compile(generation("p", 4, broken)), 4, 2, false)
	check("between", j.Compile(generation("p", 3, "b.example.com")), 4, 2, false)
	if got := j.Compile(generation("p", 4, broken)).Policy; got != first {
		t.Error("compiled again without need")
	}
	check("good again", j.Compile(generation("p", 5, "b.example.com")), 5, 5, true)
	again := generation("p", 1, "c.example.com")
	again.UID = "another"
	check("made anew under its name", j.Compile(again), 1, 1, true)
}

// TestStaleCacheDoesNotTurnBack decides with a cache that still holds an older generation than was seen.
func TestStaleCacheDoesNotTurnBack(t *testing.T) {
	cached, live := newStore(t, cluster(generation("p", 1, "a.example.com"))...), newStore(t, cluster(generation("p", 2, "b.example.com"))...)
	j := newJudge(cached, live)
	j.Compile(generation("p", 2, "b.example.com"))
	if d := decide(t, j, request("a.example.com")); d.Verdict != policy.Deny {
		t.Errorf("got %v for what generation 1 allowed", d.Verdict)
	}
}

func TestForgetting(t *testing.T) {
	live := newStore(t, cluster(generation("kept", 1, "a.example.com"))...)
	j := newJudge(newStore(t), live)
	for _, name := range []string{"kept", "gone", "gone too"} {
		j.Compile(generation(name, 1, "a.example.com"))
	}
	before := j.compiled["kept"].Policy
	decide(t, j, request("a.example.com"))
	if len(j.compiled) != 1 || j.compiled["kept"].Policy != before {
		t.Errorf("remembers %v", j.compiled)
	}
}

func TestConcurrency(t *testing.T) {
	store := newStore(t, cluster(generation("p", 1, "a.example.com"), generation("q", 1, broken))...)
	j := newJudge(store, store)
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			for n := range int64(20) {
				j.Compile(generation("p", n, "a.example.com"))
				j.Compile(generation(fmt.Sprint("r", i), n, broken))
				if d, err := j.Decide(context.Background(), request("a.example.com")); err != nil || d.Verdict != policy.Permit {
					t.Errorf("got %v, %v", d.Verdict, err)
				}
				if d, err := j.Decide(context.Background(), request("b.example.com")); err == nil {
					t.Errorf("got %v for what must wait", d.Verdict)
				}
			}
		})
	}
	wait.Wait()
}
