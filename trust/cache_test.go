// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// read is a ConfigMap as one that was just read: nothing in it is shared with another.
func read(text string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "x"}}},
		Data:       map[string]string{"a.pem": strings.Clone(text)}, BinaryData: map[string][]byte{"a.p12": []byte(text)},
	}
}

func through(t *testing.T, p *pool, m *corev1.ConfigMap) *corev1.ConfigMap {
	t.Helper()
	shared, err := p.share(m)
	if err != nil {
		t.Fatal(err)
	}
	return shared.(*corev1.ConfigMap)
}

func TestConfigMapsShareWhatIsTheSame(t *testing.T) {
	p := new(pool)
	a, b, other := through(t, p, read("same")), through(t, p, read("same")), through(t, p, read("another"))
	if unsafe.StringData(a.Data["a.pem"]) != unsafe.StringData(b.Data["a.pem"]) || &a.BinaryData["a.p12"][0] != &b.BinaryData["a.p12"][0] {
		t.Error("what is the same is kept twice")
	}
	if b.Data["a.pem"] != "same" || other.Data["a.pem"] != "another" || string(other.BinaryData["a.p12"]) != "another" {
		t.Errorf("they hold %v and %v", b.Data, other.Data)
	}
	if len(a.ManagedFields) > 0 {
		t.Error("managed fields are kept")
	}
	gone := cache.DeletedFinalStateUnknown{Key: "shop/certwright-trust"}
	if got, err := p.share(gone); err != nil || got != gone {
		t.Errorf("a tombstone becomes %v, %v", got, err)
	}
}

// Who may write a ConfigMap of bundles, as a tenant may in its own namespace, does not fill our memory by writing it again and again.
func TestAPoolIsBounded(t *testing.T) {
	p := new(pool)
	const each = 1 << 20
	for i := range 40 {
		through(t, p, read(fmt.Sprintf("%d%s", i, strings.Repeat("x", each/2))))
		if p.size > maxPool+2*each {
			t.Fatalf("the pool holds %d bytes", p.size)
		}
	}
}

// Bundles with public roots are large, and clusters have thousands of namespaces.
func TestManyNamespacesTakeLittleMemory(t *testing.T) {
	p, text := new(pool), strings.Repeat("x", 256<<10)
	all := make([]*corev1.ConfigMap, 1000)
	for i := range all {
		all[i] = through(t, p, read(text))
	}
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	if memory.HeapAlloc > 64<<20 {
		t.Errorf("%d MiB are in use for %d ConfigMaps of the same 512 KiB", memory.HeapAlloc>>20, len(all))
	}
	runtime.KeepAlive(all)
}
