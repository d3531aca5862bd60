// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package abilitytest has clusters of which tests say what they can do.
package abilitytest

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Served is an API server that has these resources, by group and version; nil for those of one is an answer that fails.
type Served map[string][]string

// ServerResourcesForGroupVersion implements ability.Discovery.
func (s Served) ServerResourcesForGroupVersion(gv string) (*metav1.APIResourceList, error) {
	names, ok := s[gv]
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{}, gv)
	}
	if names == nil {
		return nil, errors.New("the API server is away")
	}
	list := &metav1.APIResourceList{GroupVersion: gv}
	for _, n := range names {
		list.APIResources = append(list.APIResources, metav1.APIResource{Name: n})
	}
	return list, nil
}

// Kubelets lists nodes whose kubelets are of these versions, two at a time as an API server does with more of them. An empty one is an
// answer that fails: "nodes is forbidden".
type Kubelets []string

// Get implements client.Reader. Nobody should ask for one node.
func (k Kubelets) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return errors.New("nodes are listed")
}

// List implements client.Reader.
func (k Kubelets) List(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
	var options client.ListOptions
	start := 0
	if options.ApplyOptions(opts); options.Continue != "" {
		if _, err := fmt.Sscanf(options.Continue, "from %d", &start); err != nil {
			return err
		}
	}
	nodes := list.(*corev1.NodeList)
	for i, v := range k[start:] {
		if v == "" {
			return errors.New("nodes is forbidden")
		}
		if i == 2 {
			nodes.Continue = fmt.Sprintf("from %d", start+i)
			break
		}
		nodes.Items = append(nodes.Items, corev1.Node{Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{KubeletVersion: v}}})
	}
	return nil
}
