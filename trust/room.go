// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/certwright/certwright/api/v1alpha1"
)

// fits returns an error if the PEM of a bundle and of those that a namespace may have beside it do not fit into a ConfigMap.
func (p *ConfigMaps) fits(signerName string, b mapped) error {
	size := b.textSize()
	if size == 0 {
		return nil
	}
	for other, o := range p.bundles {
		if other != signerName {
			size += o.textSize()
		}
	}
	if size > maxBundleBytes {
		return fmt.Errorf("with this bundle of %d bytes those of all Signers would be %d bytes long: at most %d fit into ConfigMap %s", len(b.text), size, maxBundleBytes, v1alpha1.TrustConfigMap)
	}
	return nil
}

// makeRoom decides whose truststores there is room for beside the PEM of all: those of older Signers come first. That way nobody who adds a
// format takes one from others, and no format keeps the root of another Signer from being replaced.
func (p *ConfigMaps) makeRoom() {
	size := 0
	for _, b := range p.bundles {
		size += b.textSize()
	}
	byAge := slices.SortedFunc(maps.Keys(p.bundles), func(x, y string) int {
		return cmp.Or(p.bundles[x].since.Compare(p.bundles[y].since), cmp.Compare(x, y))
	})
	for _, signerName := range byAge {
		b := p.bundles[signerName]
		b.noRoom = size+b.storesSize() > maxBundleBytes
		if !b.noRoom {
			size += b.storesSize()
		}
		p.bundles[signerName] = b
	}
}

// maxCopiesBytes is how much the ConfigMaps of all namespaces may take for one Signer before a person is warned: etcd holds it, twice and
// more while a root is replaced, and by default takes 2 GiB in all.
const maxCopiesBytes = 256 << 20

// copies says if a bundle takes much room in this many namespaces together; it is empty if not.
func (b mapped) copies(namespaces int) string {
	each := b.textSize()
	if !b.noRoom {
		each += b.storesSize()
	}
	if all := each * namespaces; all > maxCopiesBytes {
		return fmt.Sprintf("the trust bundle takes %d KiB in each of %d namespaces, %d MiB in all, and as much again for a while when a root is replaced: see that etcd has room, leave out publicRoots or formats, or have bundles in ClusterTrustBundles",
			each>>10, namespaces, all>>20)
	}
	return ""
}

// published are the truststores that there is room for.
func (b mapped) published() map[string][]byte {
	if b.noRoom {
		return nil
	}
	return b.stores
}

// textSize is how many bytes of a ConfigMap the PEM takes: none if no namespace is to have it.
func (b mapped) textSize() int {
	if _, selects := b.in.Requirements(); !selects {
		return 0
	}
	return len(b.text)
}

func (b mapped) storesSize() int {
	size := 0
	if _, selects := b.in.Requirements(); selects {
		for _, store := range b.stores {
			size += len(store)
		}
	}
	return size
}
