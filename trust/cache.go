// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"crypto/sha256"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/certwright/certwright/api/v1alpha1"
)

// ConfigMapCache keeps all ConfigMaps out of the cache of a manager but the published ones and those of Certwright's namespace, which
// may be sources. What is the same in many namespaces takes memory once.
func ConfigMapCache(namespace string) cache.ByObject {
	return cache.ByObject{
		Transform: new(pool).share,
		Namespaces: map[string]cache.Config{
			cache.AllNamespaces: {FieldSelector: fields.OneTermEqualSelector("metadata.name", v1alpha1.TrustConfigMap)},
			namespace:           {},
		},
	}
}

// maxPool is how many bytes a pool holds. All that is published fits many times, and whoever may write one of the ConfigMaps has no more
// kept than that.
const maxPool = 8 * maxBundleBytes

// pool holds entries of ConfigMaps. The zero value is empty. It is safe for concurrent use.
type pool struct {
	mu     sync.Mutex
	size   int
	texts  map[[sha256.Size]byte]string
	binary map[[sha256.Size]byte][]byte
}

// share is a transform of a cache. It gives ConfigMaps entries of the pool in place of their own where these are the same.
func (p *pool) share(object any) (any, error) {
	m, ok := object.(*corev1.ConfigMap)
	if !ok {
		return object, nil // a tombstone
	}
	m.ManagedFields = nil
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.texts == nil || p.size > maxPool {
		p.size, p.texts, p.binary = 0, map[[sha256.Size]byte]string{}, map[[sha256.Size]byte][]byte{}
	}
	for key, text := range m.Data {
		m.Data[key] = pooled(p, p.texts, text)
	}
	for key, value := range m.BinaryData {
		m.BinaryData[key] = pooled(p, p.binary, value)
	}
	return m, nil
}

func pooled[T string | []byte](p *pool, known map[[sha256.Size]byte]T, entry T) T {
	sum := sha256.Sum256([]byte(entry))
	if same, ok := known[sum]; ok {
		return same
	}
	known[sum] = entry
	p.size += len(entry)
	return entry
}
