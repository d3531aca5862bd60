// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/fair"
)

// among returns a publisher for so many namespaces.
func among(n int) *ConfigMaps {
	var namespaces []client.Object
	for i := range n {
		namespaces = append(namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n%d", i)}})
	}
	return NewConfigMaps(fake.NewClientBuilder().WithObjects(namespaces...).Build(), "n0", true, clocktesting.NewFakePassiveClock(metav1.Now().Time))
}

// A namespace that is made, or tampered with, while thousands are given a new root is not the last of them.
func TestNewNamespacesComeFirst(t *testing.T) {
	p := among(1000)
	queue := priorityqueue.New("test", func(o *priorityqueue.Opts[reconcile.Request]) { o.RateLimiter = fair.Backoff() })
	defer queue.ShutDown()
	named := func(name string) reconcile.Request {
		return reconcile.Request{NamespacedName: types.NamespacedName{Name: name}}
	}
	everywhere := p.everywhere()
	everywhere.Generic(t.Context(), event.GenericEvent{}, queue)
	everywhere.Create(t.Context(), event.CreateEvent{Object: &v1alpha1.Signer{}}, queue)
	everywhere.Delete(t.Context(), event.DeleteEvent{Object: &v1alpha1.Signer{}}, queue)
	queue.Add(named("new"))
	queue.Add(named("n999")) // which waits already
	first := map[string]bool{}
	for range 2 {
		item, _ := queue.Get()
		first[item.Name] = true
		queue.Done(item)
	}
	if !first["new"] || !first["n999"] {
		t.Errorf("the first are %v", first)
	}
	left := map[string]bool{}
	for len(left) < 999 {
		item, _ := queue.Get()
		left[item.Name] = true
		queue.Done(item)
	}
	if left["new"] || left["n999"] || queue.Len() != 0 {
		t.Errorf("%d are left, and those are there again: %t, %t", queue.Len(), left["new"], left["n999"])
	}
}

// Etcd holds a ConfigMap for each namespace: whoever fills it so is told before it is full.
func TestManyCopiesAreToldOf(t *testing.T) {
	p := among(1000)
	for name, c := range map[string]struct {
		b    mapped
		want string
	}{
		"little":                   {mapped{text: strings.Repeat("x", 2<<10), in: labels.Everything()}, ""},
		"much":                     {mapped{text: strings.Repeat("x", 170<<10), stores: map[string][]byte{"a": make([]byte, 130<<10)}, in: labels.Everything()}, "takes 300 KiB in each of 1000 namespaces, 292 MiB in all"},
		"without room for formats": {mapped{text: strings.Repeat("x", 170<<10), stores: map[string][]byte{"a": make([]byte, 130<<10)}, noRoom: true, in: labels.Everything()}, "no truststores"},
		"where it is not":          {mapped{text: strings.Repeat("x", 900<<10), in: labels.Nothing()}, ""},
		"where it is selected":     {mapped{text: strings.Repeat("x", 900<<10), in: labels.SelectorFromSet(labels.Set{"a": "b"})}, ""},
	} {
		p.bundles["example.com/internal"] = c.b
		if got := strings.Join(p.Warnings(t.Context(), "example.com/internal"), "; "); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: warnings %q, want %q", name, got, c.want)
		}
	}
}
