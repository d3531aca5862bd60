// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// A certificate costs the controllers two writes, and no event when all is well.
func TestInvariant10_TwoWritesAndNoEvent(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	someone := s.requester()
	s.policy(forPeople(someone))
	history := s.watchRequests()
	var requests []*certificatesv1.CertificateSigningRequest
	for range 10 {
		requests = append(requests, s.request(someone))
	}
	for _, r := range requests {
		s.issued(r)
	}
	s.issued(s.request(someone)) // what would come late has come by now
	for _, r := range requests {
		s.until("the watch to see the certificate of "+r.Name, soon, func(context.Context) error {
			if versions := history.of(r.Name); len(versions[len(versions)-1].Status.Certificate) == 0 {
				return fmt.Errorf("it saw %d versions", len(versions))
			}
			return nil
		})
		versions := history.of(r.Name)
		if len(versions) != 3 {
			s.Fatalf("request %s had %d versions, want 3: created, approved, issued", r.Name, len(versions))
		}
		if approved := versions[1].Status; len(approved.Conditions) != 1 || approved.Conditions[0].Type != certificatesv1.CertificateApproved || len(approved.Certificate) != 0 {
			s.Errorf("the first write was no approval alone: %+v", approved)
		}
		if issued := versions[2].Status; len(issued.Conditions) != 1 {
			s.Errorf("the second write changed the conditions: %+v", issued.Conditions)
		}
		events, err := eventsAbout(s.ctx, r)
		s.must(err, "listing events")
		for _, e := range events {
			s.Errorf("request %s has an event: %s: %s", r.Name, e.Reason, e.Message)
		}
	}
}

// history is every version of every request for a story's signerName, in order.
type history struct {
	mu       sync.Mutex
	versions map[string][]*certificatesv1.CertificateSigningRequest
	// first is when a request was seen for the first time, took how long it then took to its certificate.
	first map[string]time.Time
	took  map[string]time.Duration
}

// watchRequests records from now until the story ends.
func (s *story) watchRequests() *history {
	s.Helper()
	selector := "spec.signerName=" + s.signerName
	list, err := kube.CertificatesV1().CertificateSigningRequests().List(s.ctx, metav1.ListOptions{FieldSelector: selector})
	s.must(err, "listing requests")
	watcher, err := watchRequests(s.ctx, selector, list.ResourceVersion)
	s.must(err, "watching requests")
	s.Cleanup(watcher.Stop)
	h := &history{versions: map[string][]*certificatesv1.CertificateSigningRequest{}, first: map[string]time.Time{}, took: map[string]time.Duration{}}
	go h.record(watcher)
	return h
}

// watchRequests watches those that a field selector selects, from a resource version on.
func watchRequests(ctx context.Context, selector, from string) (watch.Interface, error) {
	return keepWatching(ctx, from, func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		options.FieldSelector = selector
		return kube.CertificatesV1().CertificateSigningRequests().Watch(ctx, options)
	})
}

// keepWatching watches from a resource version on, and goes on where it was when the API server ends the watch, as it does with one
// that does not take its events quickly enough.
func keepWatching(ctx context.Context, from string, begin cache.WatchFuncWithContext) (watch.Interface, error) {
	return watchtools.NewRetryWatcherWithContext(ctx, from, &cache.ListWatch{WatchFuncWithContext: begin})
}

func (h *history) record(watcher watch.Interface) {
	for event := range watcher.ResultChan() {
		if o, ok := event.Object.(*certificatesv1.CertificateSigningRequest); ok && event.Type != watch.Deleted {
			h.mu.Lock()
			h.versions[o.Name] = append(h.versions[o.Name], o)
			if h.first[o.Name].IsZero() {
				h.first[o.Name] = time.Now()
			}
			if _, done := h.took[o.Name]; !done && len(o.Status.Certificate) > 0 {
				h.took[o.Name] = time.Since(h.first[o.Name])
			}
			h.mu.Unlock()
		}
	}
}

// times returns how long all requests that have a certificate took to it.
func (h *history) times() times {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Values(h.took))
}

// of returns the versions of one request so far, at least an empty one.
func (h *history) of(name string) []*certificatesv1.CertificateSigningRequest {
	h.mu.Lock()
	defer h.mu.Unlock()
	if versions := h.versions[name]; len(versions) > 0 {
		return versions[:len(versions):len(versions)]
	}
	return []*certificatesv1.CertificateSigningRequest{newCSR()}
}
