// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// pageSize is how many objects are asked for at a time, as by kubectl.
const pageSize = 500

// paged is a client that lists in pages. In one answer, all pods of a large cluster cost the API server hundreds of megabytes.
type paged struct{ client.WithWatch }

// List implements client.Reader. The list is that of one moment, however many pages it takes.
func (p paged) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	empty := list.DeepCopyObject()
	var all []runtime.Object
	for next := ""; ; {
		page := empty.DeepCopyObject().(client.ObjectList) // what is decoded into one list twice overwrites what was there
		err := p.WithWatch.List(ctx, page, append(slices.Clone(options), client.Limit(pageSize), client.Continue(next))...)
		if apierrors.IsResourceExpired(err) && next != "" { // that moment is forgotten: all at once, then
			return p.WithWatch.List(ctx, list, options...)
		}
		if err != nil {
			return err
		}
		items, err := meta.ExtractList(page)
		if err != nil {
			return err
		}
		all = append(all, items...)
		if next = page.GetContinue(); next == "" {
			list.SetResourceVersion(page.GetResourceVersion())
			return meta.SetList(list, all)
		}
	}
}
