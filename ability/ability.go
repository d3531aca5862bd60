// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ability finds out what a cluster can do: which resources its API server serves, and whether the kubelets of all nodes
// are new enough to use them. What it cannot find out is an error, and no reason to take a cluster for less able than it is.
package ability

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// again is how often Follow looks again.
	again = time.Minute
	// nodesAtOnce bounds the memory that a look at the nodes takes.
	nodesAtOnce = 500
)

// Discovery is the part of client-go's discovery.DiscoveryInterface that a Cluster needs.
type Discovery interface {
	ServerResourcesForGroupVersion(groupVersion string) (*metav1.APIResourceList, error)
}

// Cluster is where to look.
type Cluster struct {
	// API says what the API server serves.
	API Discovery
	// Nodes lists the nodes. It need not be cached.
	Nodes client.Reader
}

// Serves reports whether the API server serves a resource, such as "podcertificaterequests", of a group and version, such as
// "certificates.k8s.io/v1".
func (c Cluster) Serves(groupVersion, resource string) (bool, error) {
	list, err := c.API.ServerResourcesForGroupVersion(groupVersion)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("asking the API server for its resources of %s: %w", groupVersion, err)
	}
	return slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == resource }), nil
}

// EveryKubelet reports whether there are nodes, and the kubelets of all of them are known to be of the version least or newer.
func (c Cluster) EveryKubelet(ctx context.Context, least *version.Version) (bool, error) {
	some, next := false, ""
	for {
		var nodes corev1.NodeList
		if err := c.Nodes.List(ctx, &nodes, client.Limit(nodesAtOnce), client.Continue(next)); err != nil {
			return false, fmt.Errorf("listing nodes to see whether their kubelets are of version %s or newer: %w", least, err)
		}
		for i := range nodes.Items {
			kubelet, err := version.ParseGeneric(nodes.Items[i].Status.NodeInfo.KubeletVersion)
			if err != nil || !kubelet.AtLeast(least) {
				return false, nil //nolint:nilerr // a version that says nothing is not one that is new enough
			}
			some = true
		}
		if next = nodes.Continue; next == "" {
			return some, nil
		}
	}
}

// Follow looks again every minute, and calls changed when the answer is another one than before in so many looks in a row. What holds from
// then on is the new answer, unless changed returns an error, which ends it. Trouble changes nothing. It returns nil when the context ends.
func Follow[T comparable](ctx context.Context, c clock.WithTicker, before T, look func(context.Context) (T, error), inARow int, changed func(T) error) error {
	ticker := c.NewTicker(again)
	defer ticker.Stop()
	log := ctrl.LoggerFrom(ctx)
	last, seen := before, 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
		now, err := look(ctx)
		if err != nil {
			log.Error(err, "looking whether the cluster can still do what it could", "before", fmt.Sprint(before))
			continue
		}
		if now != last {
			last, seen = now, 0
		}
		if seen++; now == before || seen < inARow {
			continue
		}
		log.Info("what the cluster can do changed", "before", fmt.Sprint(before), "now", fmt.Sprint(now))
		if err := changed(now); err != nil {
			return err
		}
		before = now
	}
}

// Watch is Follow for what runs was built for the answer before: it returns an error that is changed, so the process should end and begin
// anew.
func Watch[T comparable](ctx context.Context, c clock.WithTicker, before T, look func(context.Context) (T, error), inARow int, changed error) error {
	return Follow(ctx, c, before, look, inARow, func(now T) error {
		return fmt.Errorf("%w from %v to %v: restarting", changed, before, now)
	})
}
