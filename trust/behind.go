// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/excerpt"
)

const (
	// maxNamed is how many namespaces a warning names.
	maxNamed = 3
	// maxReason is how many bytes of the reason it gives.
	maxReason = 300
)

// lack is what a namespace does not have, by key of its ConfigMap, and why.
type lack struct {
	keys   []string
	reason string
}

func (p *ConfigMaps) fallsBehind(namespace string, l lack) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.behind[namespace] = l
}

func (p *ConfigMaps) caughtUp(namespace string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.behind, namespace)
}

// Warnings says what of a signerName's bundle is not where it should be, such as in a namespace whose quota leaves no room for it.
func (p *ConfigMaps) Warnings(signerName string) []string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var warnings []string
	if p.bundles[signerName].noRoom {
		warnings = append(warnings, fmt.Sprintf("no truststores are published: with those of older Signers, the trust bundles of all would be longer than the %d bytes that fit into ConfigMap %s",
			maxBundleBytes, v1alpha1.TrustConfigMap))
	}
	mine := func(key string) bool {
		return key == v1alpha1.TrustConfigMapKey(signerName) ||
			slices.ContainsFunc(formats, func(f v1alpha1.TrustFormat) bool { return key == v1alpha1.TrustFormatKey(signerName, f) })
	}
	var lacking []string
	for _, namespace := range slices.Sorted(maps.Keys(p.behind)) {
		if slices.ContainsFunc(p.behind[namespace].keys, mine) {
			lacking = append(lacking, namespace)
		}
	}
	if len(lacking) == 0 {
		return warnings
	}
	named, more := lacking, ""
	if len(lacking) > maxNamed {
		named, more = lacking[:maxNamed], " and others"
	}
	return append(warnings, fmt.Sprintf("%d namespaces do not have the current trust bundle (%s%s): ConfigMap %s/%s: %s",
		len(lacking), strings.Join(named, ", "), more, lacking[0], v1alpha1.TrustConfigMap, excerpt.Line(p.behind[lacking[0]].reason, maxReason)))
}
