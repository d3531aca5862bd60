// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// What follows is told while the fleet of TestAFleetOfPodsLosesNoHandshake goes on.

// All pods of a component go while requests come in: none is lost, and each gets exactly one certificate.
func restartsLoseNoRequest(t *testing.T) {
	for _, c := range []struct {
		name, component string
		deleteOptions   []client.DeleteOption
	}{
		{"Approver", approver, nil},
		{"Signer", signer, nil},
		// As kubectl delete --force does: at some moment between signing and writing, and with hardly any time to end well.
		{"SignerKilled", signer, []client.DeleteOption{client.GracePeriodSeconds(0)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := tell(t)
			s.signer()
			someone := s.requester()
			s.policy(forPeople(someone))
			history := s.watchRequests()
			s.issued(s.request(someone))

			stream := s.startRequests(someone, 10*time.Millisecond)
			s.until("requests to come in", soon, stream.atLeast(20))
			s.replacePods(c.component, c.deleteOptions...)
			names := s.stopRequests(stream)
			s.figure("%d requests came in meanwhile", len(names))
			for _, name := range names {
				s.issuedOnce(history, name)
			}
		})
	}
}

// stream is a stream of requests.
type stream struct {
	stop  context.CancelFunc
	done  chan error
	names chan string
}

func (r *stream) atLeast(n int) func(context.Context) error {
	return func(context.Context) error {
		if got := len(r.names); got < n {
			return fmt.Errorf("there are %d", got)
		}
		return nil
	}
}

// most is how many requests a stream has at most.
const most = 400

// startRequests has this user make one request after the other, until they are stopped or enough.
func (s *story) startRequests(as user, every time.Duration, options ...option) *stream {
	ctx, stop := context.WithTimeout(s.ctx, 50*time.Second)
	r := &stream{stop: stop, done: make(chan error, 1), names: make(chan string, most)}
	s.Cleanup(stop)
	go func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for range most {
			select {
			case <-ctx.Done():
				r.done <- nil
				return
			case <-ticker.C:
			}
			o, err := s.newRequest(options...)
			if err == nil {
				err = as.Create(s.ctx, o)
			}
			if err != nil {
				r.done <- err
				return
			}
			r.names <- o.Name
		}
		r.done <- nil
	}()
	return r
}

// stopRequests stops the stream and returns the names of its requests.
func (s *story) stopRequests(r *stream) (names []string) {
	s.Helper()
	r.stop()
	s.must(<-r.done, "making requests")
	close(r.names)
	for name := range r.names {
		names = append(names, name)
	}
	return names
}

// replacePods deletes all pods of a component at once and waits until others are ready in their place.
func (s *story) replacePods(component string, options ...client.DeleteOption) {
	s.Helper()
	old := s.componentPods(component)
	for i := range old {
		s.must(client.IgnoreNotFound(admin.Delete(s.ctx, &old[i], options...)), "deleting a pod of %s", component)
	}
	s.replaced(component, old)
}

// replaced waits until none of the old pods is there and two others are ready.
func (s *story) replaced(component string, old []corev1.Pod) {
	s.Helper()
	s.until("new pods of "+component, starting, func(ctx context.Context) error { return replacedBy(ctx, component, old) })
}

// replacedBy complains until none of the old pods of a component is there any more, and two are ready.
func replacedBy(ctx context.Context, component string, old []corev1.Pod) error {
	pods, err := componentPods(ctx, component)
	if err != nil {
		return err
	}
	ready := 0
	for _, pod := range pods {
		if slices.ContainsFunc(old, func(o corev1.Pod) bool { return o.UID == pod.UID }) {
			return fmt.Errorf("pod %s is still there", pod.Name)
		}
		if slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		}) {
			ready++
		}
	}
	if ready < 2 {
		return fmt.Errorf("%d pods are ready", ready)
	}
	return nil
}

func (s *story) componentPods(component string) []corev1.Pod {
	s.Helper()
	pods, err := componentPods(s.ctx, component)
	s.must(err, "listing the pods of %s", component)
	return pods
}

func componentPods(ctx context.Context, component string) ([]corev1.Pod, error) {
	var list corev1.PodList
	err := admin.List(ctx, &list, client.InNamespace(systemNamespace), client.MatchingLabels{"app.kubernetes.io/component": component[len("certwright-"):]})
	return list.Items, err
}

// issuedOnce waits until the request has its certificate, and checks that it never had another or any other verdict.
func (s *story) issuedOnce(h *history, name string) {
	s.Helper()
	s.until("the certificate of request "+name, time.Minute, func(context.Context) error {
		versions := h.of(name)
		if last := versions[len(versions)-1]; len(last.Status.Certificate) == 0 {
			return fmt.Errorf("its conditions are %+v", last.Status.Conditions)
		}
		return nil
	})
	var first []byte
	for _, version := range h.of(name) {
		for _, c := range version.Status.Conditions {
			if c.Type != certificatesv1.CertificateApproved {
				s.Errorf("request %s was %s: %s", name, c.Type, c.Message)
			}
		}
		switch got := version.Status.Certificate; {
		case first == nil && len(got) > 0:
			first = got
		case !bytes.Equal(first, got):
			s.Errorf("the certificate of request %s changed", name)
		}
	}
}

// The pods of the webhook go one after the other: no pod that asks is refused by a verdict meanwhile. The API server may
// lose a connection that it keeps to a replica which ends; then the pod is admitted when it is tried again, as controllers
// do. How often that happened is logged.
func restartOfTheWebhookRefusesNoPod(t *testing.T) {
	s := tell(t)
	s.makeServiceAccounts("app")
	ctx, stop := context.WithCancel(s.ctx)
	s.Cleanup(stop)
	var clients errgroup.Group
	var tried, lost atomic.Int64
	for range 4 { // so that there is always a request under way
		clients.Go(func() error { return s.admitUntil(ctx, &tried, &lost) })
	}
	for _, pod := range s.componentPods(webhook) {
		s.must(client.IgnoreNotFound(admin.Delete(s.ctx, &pod)), "deleting a pod of the webhook")
		s.replaced(webhook, []corev1.Pod{pod})
	}
	stop()
	s.must(clients.Wait(), "admitting pods while the webhook restarts")
	s.figure("%d pods were admitted; the API server lost its connection to the webhook %d times", tried.Load(), lost.Load())
	if tried.Load() < 100 {
		s.Errorf("only %d pods were tried", tried.Load())
	}
}

// admitUntil keeps creating pods that ask, in dry runs, until ctx ends. It counts the pods, and the lost connections.
func (s *story) admitUntil(ctx context.Context, tried, lost *atomic.Int64) error {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		var verdict error
		err := poll(s.ctx, 5*time.Second, func(ctx context.Context) error {
			pod := s.newPod("", s.annotated("app"), "app", demo("app", 1000, "server"))
			pod.GenerateName = "app-"
			err := admin.Create(ctx, pod, client.DryRunAll)
			switch {
			case err != nil && strings.Contains(err.Error(), "failed to call webhook"):
				lost.Add(1)
				return err
			case err != nil:
				verdict = err
			case len(pod.Spec.InitContainers) != 1:
				verdict = errors.New("a pod was admitted without an agent")
			}
			return nil
		})
		if err := errors.Join(err, verdict); err != nil {
			return err
		}
		tried.Add(1)
	}
}
