// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/keystore"
)

// formats are all formats that a bundle may be published in besides PEM.
var formats = []v1alpha1.TrustFormat{v1alpha1.TrustFormatPKCS12, v1alpha1.TrustFormatJKS}

// contents is what a ConfigMap should hold.
type contents struct {
	texts  map[string]string // in PEM, by key
	stores map[string][]byte // truststores, by key
	owners []metav1.OwnerReference
}

// desired returns what the ConfigMap of a namespace should hold: what was published for the Signers that exist, if the namespace is
// to have it or has it already; and what is there for those of which nothing was published yet, such as right after a start.
func desired(bundles map[string]mapped, signers []v1alpha1.Signer, namespace *corev1.Namespace, current *corev1.ConfigMap) contents {
	want := contents{texts: map[string]string{}, stores: map[string][]byte{}}
	for i := range signers {
		signerName := signers[i].Spec.SignerName
		key := v1alpha1.TrustConfigMapKey(signerName)
		text, stores := current.Data[key], storesOf(signerName, current)
		if b, known := bundles[signerName]; known && b.isDue(signerName, namespace, current) {
			text, stores = b.text, b.published()
		}
		if text != "" {
			want.texts[key] = text
			maps.Copy(want.stores, stores)
			want.owners = append(want.owners, ownerReference(&signers[i]))
		}
	}
	slices.SortFunc(want.owners, func(a, b metav1.OwnerReference) int { return cmp.Compare(a.Name, b.Name) })
	return want
}

// storesOf returns the truststores of a signerName that are there.
func storesOf(signerName string, current *corev1.ConfigMap) map[string][]byte {
	stores := map[string][]byte{}
	for _, format := range formats {
		key := v1alpha1.TrustFormatKey(signerName, format)
		if store, there := current.BinaryData[key]; there {
			stores[key] = store
		}
	}
	return stores
}

// truststores returns a bundle in these formats, by key of the ConfigMap. The same bundle always gives the same bytes.
func truststores(signerName string, bundle Bundle, formats []v1alpha1.TrustFormat) (map[string][]byte, error) {
	stores := map[string][]byte{}
	for _, format := range formats {
		store, err := keystore.Truststore(keystore.Format(format), bundle.Anchors, keystore.DefaultPassword)
		if err != nil {
			return nil, fmt.Errorf("encoding the trust bundle of %s: %w", signerName, err)
		}
		stores[v1alpha1.TrustFormatKey(signerName, format)] = store
	}
	return stores, nil
}

func (w contents) empty() bool { return len(w.texts) == 0 }

// String tells contents apart. Truststores follow from the texts, so that their keys are enough.
func (w contents) String() string {
	return fmt.Sprint(w.texts, slices.Sorted(maps.Keys(w.stores)), w.owners)
}

// is reports whether a ConfigMap is as it should be: not there if there is nothing to publish.
func (w contents) is(current *corev1.ConfigMap) bool {
	if !exists(current) || w.empty() {
		return !exists(current) && w.empty()
	}
	return w.areIn(current) && equality.Semantic.DeepEqual(current.OwnerReferences, w.owners)
}

// areIn reports whether a ConfigMap holds this and nothing else.
func (w contents) areIn(current *corev1.ConfigMap) bool {
	return maps.Equal(current.Data, w.texts) && maps.EqualFunc(current.BinaryData, w.stores, bytes.Equal)
}

func exists(current *corev1.ConfigMap) bool {
	return current.UID != "" || current.ResourceVersion != ""
}
