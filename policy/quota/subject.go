// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package quota

import (
	"fmt"
	"strconv"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

// subject is whose requests are counted together. All of it is vouched for by the API server.
type subject struct {
	policy string
	per    v1alpha1.QuotaSubject
	// kind and who say which one: a namespace, a pod by its UID, or a user, which a service account is as well.
	kind, who string
}

// subjectOf returns whom a request counts for. A requester that is not of the kind that the quota is for counts by itself.
func subjectOf(policy string, per v1alpha1.QuotaSubject, r csr.Requester) subject {
	s := subject{policy: policy, per: per}
	if per == v1alpha1.PerPolicy {
		return s
	}
	s.kind, s.who = "user", r.Username
	switch per {
	case v1alpha1.PerNamespace:
		if namespace, _, ok := r.ServiceAccount(); ok {
			s.kind, s.who = "namespace", namespace
		}
	case v1alpha1.PerPod:
		if pod, ok := r.Pod(); ok {
			s.kind, s.who = "pod with UID", string(pod.UID)
		}
	}
	return s
}

func (s subject) String() string {
	if s.kind == "" {
		return "everybody together"
	}
	return s.kind + " " + strconv.QuoteToASCII(s.who)
}

// Wait says why a request waits, and for how long at least.
type Wait struct {
	Policy string
	// Quota that is used up.
	Quota v1alpha1.Quota
	// Subject whose quota it is, in words.
	Subject string
	// Full is true if too many requests are unfinished, and false if too many were approved lately.
	Full bool
	// Ahead is how many others wait that came before.
	Ahead int
	// Until is when the request can be let through at the earliest, or, if Full, when it is worth asking again.
	Until time.Time
	// Again is when the request must ask again to keep its place: at Until, and at least once in an hour.
	Again time.Time
}

// String says it in sentences.
func (w *Wait) String() string {
	why := fmt.Sprintf("approves at most %d requests in %s for each %s, and %s has used them up", w.Quota.Requests, w.Quota.Period.Duration, w.Quota.Per, w.Subject)
	if w.Full {
		why = fmt.Sprintf("has at most %d unfinished requests for each %s, and %s has as many", w.Quota.MaxPending, w.Quota.Per, w.Subject)
	}
	return fmt.Sprintf("CertificatePolicy %q %s. The request waits until %s at least; requests ahead of it: %d.", w.Policy, why, w.Until.UTC().Format(time.RFC3339), w.Ahead)
}
