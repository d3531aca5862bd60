// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/excerpt"
)

const (
	// maxNamed is how many namespaces a warning names.
	maxNamed = 3
	// maxReason is how many bytes of the reason it gives.
	maxReason = 300
)

func (p *ConfigMaps) isStuck(namespace, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stuck[namespace] = reason
}

func (p *ConfigMaps) unstuck(namespace string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.stuck, namespace)
}

// Behind returns the namespaces that should have what was published last for a signerName, and have something else. It is an error
// if nothing was published since the start.
func (p *ConfigMaps) Behind(ctx context.Context, signerName string) ([]string, error) {
	p.mu.RLock()
	b, known := p.bundles[signerName]
	p.mu.RUnlock()
	if !known {
		return nil, fmt.Errorf("no trust bundle of %s was published since this process began", signerName)
	}
	behind, err := p.behind(ctx, signerName, b)
	for i := range behind {
		behind[i] = "namespace " + behind[i]
	}
	return behind, err
}

// behind returns the names of the namespaces that should have a bundle and do not, sorted.
func (p *ConfigMaps) behind(ctx context.Context, signerName string, b mapped) ([]string, error) {
	var namespaces corev1.NamespaceList
	if err := p.client.List(ctx, &namespaces, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing namespaces: %w", err)
	}
	var behind []string
	for i := range namespaces.Items {
		namespace := &namespaces.Items[i]
		if isGoing(namespace) {
			continue
		}
		var current corev1.ConfigMap
		err := p.client.Get(ctx, client.ObjectKey{Namespace: namespace.Name, Name: v1alpha1.TrustConfigMap}, &current, client.UnsafeDisableDeepCopy)
		if client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("reading ConfigMap %s/%s: %w", namespace.Name, v1alpha1.TrustConfigMap, err)
		}
		if b.isDue(signerName, namespace, &current) && !b.isIn(signerName, &current) {
			behind = append(behind, namespace.Name)
		}
	}
	slices.Sort(behind)
	return behind, nil
}

// selected returns how many namespaces a bundle is for.
func (p *ConfigMaps) selected(ctx context.Context, b mapped) (n int, err error) {
	if b.textSize() == 0 {
		return 0, nil
	}
	var namespaces corev1.NamespaceList
	if err := p.client.List(ctx, &namespaces, client.UnsafeDisableDeepCopy); err != nil {
		return 0, fmt.Errorf("listing namespaces: %w", err)
	}
	for i := range namespaces.Items {
		if b.in.Matches(labels.Set(namespaces.Items[i].Labels)) {
			n++
		}
	}
	return n, nil
}

// isDue reports whether a namespace is to have the bundle: if it is selected, or has it already.
func (b mapped) isDue(signerName string, namespace *corev1.Namespace, current *corev1.ConfigMap) bool {
	_, there := current.Data[v1alpha1.TrustConfigMapKey(signerName)]
	return there || b.in.Matches(labels.Set(namespace.Labels))
}

// isIn reports whether a ConfigMap holds the bundle in all its formats.
func (b mapped) isIn(signerName string, current *corev1.ConfigMap) bool {
	for key, store := range b.published() {
		if !bytes.Equal(current.BinaryData[key], store) {
			return false
		}
	}
	return current.Data[v1alpha1.TrustConfigMapKey(signerName)] == b.text
}

// Warnings says whether truststores of a signerName have no room, whether its bundle takes much of etcd's, and which namespaces cannot be
// given its bundle, such as one whose quota is used up.
func (p *ConfigMaps) Warnings(ctx context.Context, signerName string) []string {
	p.mu.RLock()
	b, known := p.bundles[signerName]
	some := len(p.stuck) > 0
	p.mu.RUnlock()
	if !known {
		return nil
	}
	var warnings []string
	if b.noRoom {
		warnings = append(warnings, fmt.Sprintf("no truststores are published: with those of older Signers, the trust bundles of all would be longer than the %d bytes that fit into ConfigMap %s",
			maxBundleBytes, v1alpha1.TrustConfigMap))
	}
	if n, err := p.selected(ctx, b); err != nil {
		warnings = append(warnings, err.Error())
	} else if much := b.copies(n); much != "" {
		warnings = append(warnings, much)
	}
	if !some {
		return warnings
	}
	behind, err := p.behind(ctx, signerName, b)
	if err != nil {
		return append(warnings, fmt.Sprintf("looking which namespaces have the trust bundle: %v", err))
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	behind = slices.DeleteFunc(behind, func(namespace string) bool { return p.stuck[namespace] == "" })
	if len(behind) == 0 {
		return warnings
	}
	named, more := behind, ""
	if len(behind) > maxNamed {
		named, more = behind[:maxNamed], " and others"
	}
	return append(warnings, fmt.Sprintf("%d namespaces do not have the current trust bundle (%s%s): ConfigMap %s/%s: %s",
		len(behind), strings.Join(named, ", "), more, behind[0], v1alpha1.TrustConfigMap, excerpt.Line(p.stuck[behind[0]], maxReason)))
}
