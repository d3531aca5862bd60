// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

const (
	// flood is how many requests one namespace makes at once; quiet how many another one makes, one after the other.
	flood, quiet = 300, 12
)

// One namespace asks for far more than its quota: its requests wait, and are approved later. Another one notices nothing.
func TestAFloodOfOneNamespaceLeavesAnotherAlone(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	calm := s.name + "-calm"
	s.makeNamespace(calm)
	s.policy(func(p *v1alpha1.CertificatePolicySpec) {
		p.Requesters.NamespaceSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpIn, Values: []string{s.namespace, calm}},
		}}
		p.Allow.CommonNames = []string{"*"}
		minute := metav1.Duration{Duration: time.Minute}
		p.Quotas = []v1alpha1.Quota{
			{Per: v1alpha1.PerNamespace, Requests: 360, Period: minute, Burst: 60},
			// Both have room in this one: what waits for the other takes none of it.
			{Per: v1alpha1.PerPolicy, Requests: 720, Period: minute, Burst: 120},
		}
	})
	s.makeServiceAccounts("app")
	s.make(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: calm, Name: "app"}})
	neighbour := s.serviceAccount(calm, "app")
	before := s.timesToCertificate(neighbour, nil)

	s.makeMany(s.serviceAccount(s.namespace, "app"), flood)
	waiting := s.waiting()
	if len(waiting) == 0 {
		s.Fatal("no request of the flood waits")
	}
	during := s.timesToCertificate(neighbour, func() {
		if len(s.waiting()) == 0 {
			s.Error("the flood is over before its neighbour has its certificate")
		}
	})
	s.figure("time to a certificate beside %d that wait: p50 %s before, %s during (%.1f times); p99 %s before, %s during (%.1f times)",
		len(waiting), before.at(50), during.at(50), during.at(50).Seconds()/before.at(50).Seconds(),
		before.at(99), during.at(99), during.at(99).Seconds()/before.at(99).Seconds())

	last := &waiting[len(waiting)-1]
	s.contains("the event", s.warned(last, "QuotaExceeded"), "360 requests in 1m0s", "Namespace", s.namespace)
	s.until("the flood to be approved in its turn", starting, func(context.Context) error {
		if n := len(s.waiting()); n > 0 {
			return fmt.Errorf("%d requests wait", n)
		}
		return nil
	})
	s.issued(last)
}

// makeMany makes that many requests as fast as the API server takes them.
func (s *story) makeMany(as user, count int) {
	s.Helper()
	var makers errgroup.Group
	makers.SetLimit(16)
	for range count {
		makers.Go(func() error {
			o, err := s.newRequest()
			if err != nil {
				return err
			}
			return as.Create(s.ctx, o)
		})
	}
	s.must(makers.Wait(), "making %d requests", count)
}

// waiting returns the requests of the story that nobody has decided about.
func (s *story) waiting() []certificatesv1.CertificateSigningRequest {
	s.Helper()
	var list certificatesv1.CertificateSigningRequestList
	s.must(admin.List(s.ctx, &list, client.MatchingFields{"spec.signerName": s.signerName}), "listing requests")
	return slices.DeleteFunc(list.Items, func(o certificatesv1.CertificateSigningRequest) bool { return len(o.Status.Conditions) > 0 })
}

// times are in ascending order.
type times []time.Duration

// at returns the time that so many of a hundred do not exceed.
func (t times) at(percentile int) time.Duration {
	return t[(len(t)-1)*percentile/100].Round(time.Millisecond)
}

// timesToCertificate makes some requests, one after the other, and returns how long each took. Done is called after each.
func (s *story) timesToCertificate(as user, done func()) (all times) {
	s.Helper()
	for range quiet {
		o := s.request(as)
		created := time.Now()
		s.must(s.watchUntilIssued(o), "waiting for the certificate of request %s", o.Name)
		all = append(all, time.Since(created))
		if done != nil {
			done()
		}
	}
	slices.Sort(all)
	return all
}

// watchUntilIssued returns as soon as the request has its certificate.
func (s *story) watchUntilIssued(o *certificatesv1.CertificateSigningRequest) error {
	ctx, cancel := context.WithTimeout(s.ctx, starting)
	defer cancel()
	watcher, err := watchRequests(ctx, "metadata.name="+o.Name, o.ResourceVersion)
	if err != nil {
		return err
	}
	defer watcher.Stop()
	for event := range watcher.ResultChan() {
		if now, ok := event.Object.(*certificatesv1.CertificateSigningRequest); ok && len(now.Status.Certificate) > 0 {
			return nil
		}
	}
	return errors.New("it has none")
}
