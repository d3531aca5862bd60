// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package approver

import (
	"context"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/quota"
)

// Names of the indices of cached requests by the words in which a policy's approval is written down.
const (
	indexApproved   = "approvedBy"
	indexUnfinished = "approvedAndUnfinishedBy"
)

// index adds the indices that the ledger reads.
func index(ctx context.Context, indexer client.FieldIndexer) error {
	for name, counts := range map[string]func(*certificatesv1.CertificateSigningRequest) bool{
		indexApproved:   func(*certificatesv1.CertificateSigningRequest) bool { return true },
		indexUnfinished: func(o *certificatesv1.CertificateSigningRequest) bool { return !csr.IsFinished(o) },
	} {
		err := indexer.IndexField(ctx, &certificatesv1.CertificateSigningRequest{}, name, func(object client.Object) []string {
			o := object.(*certificatesv1.CertificateSigningRequest)
			if c := approval(o); c != nil && counts(o) {
				return []string{c.Message}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("indexing requests: %w", err)
		}
	}
	return nil
}

// approval returns the condition by which this approver, not a person, approved a request.
func approval(o *certificatesv1.CertificateSigningRequest) *certificatesv1.CertificateSigningRequestCondition {
	for i := range o.Status.Conditions {
		if c := &o.Status.Conditions[i]; c.Type == certificatesv1.CertificateApproved && c.Reason == ReasonPermitted {
			return c
		}
	}
	return nil
}

// ledger is the cache of requests, read for what policies approved.
type ledger struct{ cached client.Reader }

func (l ledger) Approvals(ctx context.Context, name string) ([]quota.Approval, error) {
	return l.list(ctx, indexApproved, name)
}

func (l ledger) Unfinished(ctx context.Context, name string) ([]quota.Approval, error) {
	return l.list(ctx, indexUnfinished, name)
}

func (l ledger) list(ctx context.Context, index, name string) ([]quota.Approval, error) {
	words := policy.Decision{Verdict: policy.Permit, Policy: name}.Message()
	var list certificatesv1.CertificateSigningRequestList
	if err := l.cached.List(ctx, &list, client.MatchingFields{index: words}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	approvals := make([]quota.Approval, 0, len(list.Items))
	for i := range list.Items {
		o := &list.Items[i]
		approvals = append(approvals, quota.Approval{
			UID: o.UID, At: approval(o).LastUpdateTime.Time, Requester: csr.Requester{Username: o.Spec.Username, Extra: o.Spec.Extra},
		})
	}
	return approvals, nil
}

func (l ledger) Undecided(ctx context.Context, name string, uid types.UID) (bool, error) {
	var o certificatesv1.CertificateSigningRequest
	if err := l.cached.Get(ctx, types.NamespacedName{Name: name}, &o, client.UnsafeDisableDeepCopy); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	return o.UID == uid && csr.IsUndecided(&o), nil
}
