// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package fair

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

func request(name string) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Name: name}}
}

// byLetter is the key of items that are named after whom they belong to.
func byLetter(item string) string { return item[:1] }

func TestKeysAreServedInTurns(t *testing.T) {
	for name, c := range map[string]struct{ pushed, want string }{
		"one key, in order":          {"a1 a2 a3", "a1 a2 a3"},
		"two keys":                   {"a1 a2 a3 b1 b2", "a1 b1 a2 b2 a3"},
		"a key that comes late":      {"a1 a2 a3 a4 b1", "a1 b1 a2 a3 a4"},
		"three keys of unequal size": {"a1 a2 a3 b1 c1 c2", "a1 b1 c1 a2 c2 a3"},
		"nothing":                    {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			q := New(byLetter)
			for _, item := range strings.Fields(c.pushed) {
				q.Push(item)
				q.Touch(item)
			}
			var popped []string
			for n := q.Len(); n > 0; n-- {
				if q.Len() != n {
					t.Errorf("length %d, want %d", q.Len(), n)
				}
				popped = append(popped, q.Pop())
			}
			if got := strings.Join(popped, " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// A key that has an item waits for at most one item of each other key, however items come and go.
func TestNobodyWaitsForMoreThanOneOfEachOther(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	q := New(byLetter)
	pending := map[string][]string{}
	passed := map[string]map[string]int{} // key, and how often each other one was served since it waits
	for i := range 20000 {
		if key := string(rune('a' + random.IntN(6))); random.IntN(2) == 0 {
			item := fmt.Sprint(key, i)
			q.Push(item)
			if pending[key] = append(pending[key], item); passed[key] == nil {
				passed[key] = map[string]int{}
			}
		}
		if q.Len() == 0 || random.IntN(3) == 0 {
			continue
		}
		item := q.Pop()
		key := byLetter(item)
		if pending[key][0] != item {
			t.Fatalf("got %s, want %s first", item, pending[key][0])
		}
		delete(passed, key)
		if pending[key] = pending[key][1:]; len(pending[key]) > 0 {
			passed[key] = map[string]int{}
		}
		for other, served := range passed {
			if served[key]++; other != key && served[key] > 1 {
				t.Fatalf("%s was served %d times while %s waited", key, served[key], other)
			}
		}
	}
	total := 0
	for _, items := range pending {
		total += len(items)
	}
	if total != q.Len() || len(q.items) != len(q.turns) || len(q.items) > 6 {
		t.Errorf("%d items, want %d; %d keys, %d turns", q.Len(), total, len(q.items), len(q.turns))
	}
}

// TestNoisyNamespaceDelaysNobody floods the very queue that a controller gets, while all of its workers are busy.
func TestNoisyNamespaceDelaysNobody(t *testing.T) {
	const flood, workers = 5000, 8
	queue := NewQueue(func(r reconcile.Request) string { return byLetter(r.Name) })("test", Backoff())
	defer queue.ShutDown()
	for i := range flood {
		queue.Add(request(fmt.Sprintf("noisy-%d", i)))
	}
	busy := make([]reconcile.Request, workers)
	for i := range busy {
		busy[i], _ = queue.Get()
	}
	queue.Add(request("quiet"))
	served := slices.IndexFunc(make([]struct{}, workers), func(struct{}) bool {
		queue.Done(busy[0])
		next, _ := queue.Get()
		busy = append(busy[1:], next)
		return next.Name == "quiet"
	})
	if served < 0 || served > 1 {
		t.Errorf("the quiet namespace was served after %d others (-1: not within %d)", served, workers)
	}
	if queue.Len() < flood-2*workers {
		t.Errorf("%d are left in the queue", queue.Len())
	}
}

func TestSameRequestIsQueuedOnce(t *testing.T) {
	queue := NewQueue(func(reconcile.Request) string { return "" })("", Backoff())
	defer queue.ShutDown()
	for range 3 {
		queue.Add(request("web"))
	}
	if queue.Len() != 1 {
		t.Errorf("%d are queued, want 1", queue.Len())
	}
}

func TestBackoff(t *testing.T) {
	limiter := Backoff()
	var last time.Duration
	for range 20 {
		last = limiter.When(request("broken"))
	}
	if first := limiter.When(request("other")); first != 100*time.Millisecond || last != time.Minute {
		t.Errorf("another one is tried after %s, want 100ms; a broken one after %s, want 1m at most", first, last)
	}
}

func TestByRequester(t *testing.T) {
	named := func(name, username string) *certificatesv1.CertificateSigningRequest {
		return &certificatesv1.CertificateSigningRequest{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       certificatesv1.CertificateSigningRequestSpec{Username: username},
		}
	}
	key := ByRequester(fake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(
		named("web", "system:serviceaccount:shop:web"), named("api", "system:serviceaccount:shop:api"),
		named("job", "system:serviceaccount:batch:job"), named("alice", "alice"), named("shop", "shop"), named("namespace", "namespace shop"),
		named("malformed", "system:serviceaccount:shop"),
	).Build())
	same := func(a, b string) bool { return key(request(a)) == key(request(b)) }
	if !same("web", "api") {
		t.Error("service accounts of one namespace are kept apart")
	}
	if !same("gone", "gone too") {
		t.Error("requests that are gone take turns of their own")
	}
	all := []string{"web", "job", "alice", "shop", "namespace", "malformed", "gone"}
	for i, a := range all {
		for _, b := range all[:i] {
			if same(a, b) {
				t.Errorf("%s and %s share a key", a, b)
			}
		}
	}
}

// Requests that live in the namespace of their pod are in the same turn as those which the pod makes itself.
func TestByNamespace(t *testing.T) {
	one := reconcile.Request{NamespacedName: types.NamespacedName{Namespace: "shop", Name: "req-1"}}
	if got, want := ByNamespace(one), Requester("system:serviceaccount:shop:web"); got != want {
		t.Errorf("key %q, want %q", got, want)
	}
}
