// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package memory_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/certwright/certwright/signer/venafi/memory"
)

var key = client.ObjectKey{Namespace: "certwright-system", Name: "certwright-venafi-internal.venafi"}

func newSecret(f interceptor.Funcs) *memory.Secret {
	c := fake.NewClientBuilder().WithInterceptorFuncs(f).Build()
	return &memory.Secret{Client: c, Reader: c, Key: key}
}

func set(name, value string) func(map[string][]byte) error {
	return func(data map[string][]byte) error {
		data[name] = []byte(value)
		return nil
	}
}

func TestSecret(t *testing.T) {
	s := newSecret(interceptor.Funcs{})
	if data, err := s.Read(t.Context()); err != nil || len(data) != 0 {
		t.Fatalf("a Secret that does not exist holds %v, error %v", data, err)
	}
	for _, name := range []string{"a", "b"} {
		if err := s.Change(t.Context(), set(name, "1")); err != nil {
			t.Fatal(err)
		}
	}
	if data, err := s.Read(t.Context()); err != nil || string(data["a"])+string(data["b"]) != "11" {
		t.Errorf("it holds %v, error %v", data, err)
	}
	broken := errors.New("broken")
	if err := s.Change(t.Context(), func(map[string][]byte) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got error %v", err)
	}
}

// Another replica may write between reading and writing.
func TestSecretChangedMeanwhile(t *testing.T) {
	for _, exists := range []bool{false, true} {
		t.Run(fmt.Sprint(exists), func(t *testing.T) {
			var other *memory.Secret
			meddling := false
			meddle := func() {
				if meddling {
					meddling = false
					_ = other.Change(context.Background(), set("other", "1"))
				}
			}
			s := newSecret(interceptor.Funcs{
				Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
					meddle()
					return c.Create(ctx, o, opts...)
				},
				Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
					meddle()
					return c.Update(ctx, o, opts...)
				},
			})
			other = s
			if exists {
				if err := s.Change(t.Context(), set("first", "1")); err != nil {
					t.Fatal(err)
				}
			}
			meddling = true
			if err := s.Change(t.Context(), set("own", "1")); err != nil {
				t.Fatal(err)
			}
			if data, err := s.Read(t.Context()); err != nil || string(data["own"])+string(data["other"]) != "11" {
				t.Errorf("it holds %v, error %v", data, err)
			}
		})
	}
}

// Neither memory nor the Secret grows without end.
func TestOrdersAreBounded(t *testing.T) {
	s := newSecret(interceptor.Funcs{})
	clock := clocktesting.NewFakeClock(time.Now())
	o := memory.NewOrders(s, clock)
	for i := range 20_500 {
		clock.Step(time.Second)
		k := fmt.Sprintf("key-%05d", i)
		o.Remember(k, fmt.Sprintf("id-%d", i))
	}
	find := func(i int) string {
		id, err := o.Find(t.Context(), fmt.Sprintf("key-%05d", i))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	if find(0) != "" || find(9_999) != "" || find(10_000) != "id-10000" || find(20_499) != "id-20499" {
		t.Error("memory does not hold the newest")
	}
	for i := 15_000; i < 20_500; i += 2 {
		if i%500 == 0 {
			o.Keep(t.Context(), fmt.Sprintf("key-%05d", i))
		}
	}
	var secret corev1.Secret
	if err := s.Reader.Get(t.Context(), key, &secret); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(secret.Data["orders"]), `"id"`); n != 11 {
		t.Errorf("the Secret holds %d orders, want the 11 that wait", n)
	}
}

// Orders of many at once are all written, and read by the next process.
func TestOrdersInParallel(t *testing.T) {
	s := newSecret(interceptor.Funcs{})
	clock := clocktesting.NewFakeClock(time.Now())
	o := memory.NewOrders(s, clock)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			k := fmt.Sprintf("key-%d", i)
			if id, err := o.Find(t.Context(), k); err != nil || id != "" {
				t.Errorf("found %q, error %v", id, err)
			}
			o.Remember(k, fmt.Sprintf("id-%d", i))
			o.Keep(t.Context(), k)
		})
	}
	all.Wait()
	if err := o.Saved(t.Context()); err != nil {
		t.Error(err)
	}
	next := memory.NewOrders(s, clock)
	for i := range 50 {
		if id, err := next.Find(t.Context(), fmt.Sprintf("key-%d", i)); err != nil || id != fmt.Sprintf("id-%d", i) {
			t.Errorf("found %q, error %v", id, err)
		}
	}
	next.Forget(t.Context(), "key-7")
	if id, err := memory.NewOrders(s, clock).Find(t.Context(), "key-7"); err != nil || id != "" {
		t.Errorf("found %q after it was forgotten, error %v", id, err)
	}
}

func TestIsID(t *testing.T) {
	for text, want := range map[string]bool{
		"b30736b0-bce1-11eb-9af9-c947417e28d0": true, "": false, "..": false, "a/b": false, "a%2fb": false, "a b": false, strings.Repeat("a", 65): false,
	} {
		if memory.IsID(text) != want {
			t.Errorf("IsID(%q) is %t", text, !want)
		}
	}
}
