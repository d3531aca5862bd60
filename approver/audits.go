// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package approver

import (
	"context"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"k8s.io/utils/lru"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/excerpt"
	"github.com/certwright/certwright/policy"
)

// publishEvery is how often the counters of a policy in mode Audit change in its status.
const publishEvery = 30 * time.Second

// Audits counts what policies in mode Audit would have decided, each request once. It is safe for concurrent use.
type Audits struct {
	clock clock.PassiveClock

	mu     sync.Mutex
	counts map[string]*count // by the name of the policy
	seen   *lru.Cache        // of sighting
}

// count is of one generation of a policy.
type count struct {
	version
	now         v1alpha1.AuditStatus
	published   v1alpha1.AuditStatus
	publishedAt time.Time
}

// version of a policy; the zero value stands for one that is not known yet.
type version struct {
	uid        types.UID
	generation int64
}

// sighting of a request by a count.
type sighting struct {
	*count
	request types.UID
}

// NewAudits returns counters that start now.
func NewAudits(clock clock.PassiveClock) *Audits {
	return &Audits{clock: clock, counts: map[string]*count{}, seen: lru.New(remembered)}
}

// Record counts what the policies say to a request, and returns what was not counted before.
func (a *Audits) Record(object *certificatesv1.CertificateSigningRequest, audits []policy.Audit) []policy.Audit {
	a.mu.Lock()
	defer a.mu.Unlock()
	var counted []policy.Audit
	for _, audit := range audits {
		c := a.counts[audit.Policy]
		if c == nil {
			c = a.start(audit.Policy, version{})
		}
		key := sighting{c, object.UID}
		if _, again := a.seen.Get(key); again {
			continue
		}
		a.seen.Add(key, nil)
		counted = append(counted, audit)
		if len(audit.Violations) == 0 {
			c.now.Permitted++
			continue
		}
		c.now.Denied++
		c.now.LastDenied = &v1alpha1.AuditDenial{Request: object.Name, Time: a.second(), Message: excerpt.Of(denial(audit), maxAudit)}
	}
	return counted
}

// Status returns the counters of a policy as they are to be published: they change once in a while only. A new generation
// starts anew.
func (a *Audits) Status(p *v1alpha1.CertificatePolicy) *v1alpha1.AuditStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.Spec.Mode != v1alpha1.ModeAudit {
		delete(a.counts, p.Name)
		return nil
	}
	v := version{p.UID, p.Generation}
	c := a.counts[p.Name]
	switch {
	case c == nil || c.version != (version{}) && c.version != v:
		c = a.start(p.Name, v)
	case c.version == version{}:
		c.version = v
	}
	if now := a.clock.Now(); now.Sub(c.publishedAt) >= publishEvery {
		c.published, c.publishedAt = c.now, now
	}
	return c.published.DeepCopy()
}

func (a *Audits) start(name string, v version) *count {
	c := &count{version: v, now: v1alpha1.AuditStatus{Since: a.second()}}
	a.counts[name] = c
	return c
}

// second is the time as the API server keeps it.
func (a *Audits) second() metav1.Time { return metav1.NewTime(a.clock.Now().Truncate(time.Second)) }

// denial says in words what a policy has against a request.
func denial(audit policy.Audit) string {
	return policy.Decision{Verdict: policy.Deny, Denials: []policy.Denial{policy.Denial(audit)}}.Message()
}

// report counts what policies in mode Audit would have decided, and tells once about those that would have denied.
func (r *Reconciler) report(ctx context.Context, object *certificatesv1.CertificateSigningRequest, audits []policy.Audit) {
	denied := policy.Decision{Verdict: policy.Deny}
	for _, audit := range r.Audits.Record(object, audits) {
		r.Metrics.audited(audit)
		if len(audit.Violations) > 0 {
			denied.Denials = append(denied.Denials, policy.Denial(audit))
		}
	}
	if len(denied.Denials) > 0 {
		r.Teller.Remark(ctx, object, ReasonAuditDenies, "In mode Audit, so that it changes nothing, this would have been denied. "+denied.Message())
	}
}
