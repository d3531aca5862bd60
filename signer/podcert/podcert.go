// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package podcert signs PodCertificateRequests (KEP-4317), by which kubelets ask for certificates of pods, for those Signers that say so in
// spec.podCertificates: parse, gather, name, decide by the same policies as for all other requests, and sign by the same core. There is
// no approval in between.
//
// Where a kubelet wants to renew, a request that is denied or failed takes from the pod the certificate that it has, though it may be valid
// for long. So trouble, and whatever an administrator may still mend, is no verdict, and of a pod that has started nothing is: the
// request stays as it is, Kubernetes deletes it after a while, and the kubelet asks anew.
package podcert

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	"k8s.io/apimachinery/pkg/util/cache"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/event"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/judge"
	"github.com/certwright/certwright/signer/issue"
	"github.com/certwright/certwright/signer/registry"
)

// Judge decides about a request that is named by facts; an error is trouble that passes.
type Judge interface {
	DecideNaming(ctx context.Context, req csr.Request, naming judge.Naming) (csr.Request, policy.Decision, error)
	// ReconsiderNaming is for a request that no policy selected before.
	ReconsiderNaming(ctx context.Context, req csr.Request, naming judge.Naming) (csr.Request, policy.Decision, error)
}

// Reconciler signs one PodCertificateRequest at a time.
type Reconciler struct {
	*issue.Core
	// Client reads through a cache.
	Client client.Client
	// Version is one that the API server serves.
	Version Version
	// Namespace is the one that the signer runs in.
	Namespace string
	Judge     Judge
	Teller    event.Teller

	// unselected are the UIDs of requests that no policy selected, by all that the API server knows.
	unselected *cache.LRUExpireCache
}

const (
	// maxUnselected is how many requests are remembered that no policy selects; for one that is forgotten policies are listed again.
	maxUnselected = 16384
	// unselectedFor is longer than Kubernetes leaves a request that nobody answers.
	unselectedFor = time.Hour
)

// New returns a reconciler. The version is one that the API server serves, the client reads through a cache, and the namespace is the
// signer's own.
func New(core *issue.Core, c client.Client, version Version, namespace string, judge Judge, teller event.Teller) *Reconciler {
	return &Reconciler{
		Core: core, Client: c, Version: version, Namespace: namespace, Judge: judge, Teller: teller, unselected: cache.NewLRUExpireCache(maxUnselected),
	}
}

// verdict is why a request is never signed, and by which condition that is said.
type verdict struct {
	condition string
	*issue.Refusal
}

func denied(reason, message string) *verdict {
	return &verdict{certificatesv1.PodCertificateRequestConditionTypeDenied, &issue.Refusal{Reason: reason, Message: message}}
}

// Reconcile signs the request if it waits for one of our Signers that signs for pods.
func (r *Reconciler) Reconcile(ctx context.Context, key ctrl.Request) (ctrl.Result, error) {
	object := r.Version.object()
	if err := r.Client.Get(ctx, key.NamespacedName, object); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	request := wide(object)
	if !waits(request) || csr.IsKubernetesSigner(request.Spec.SignerName) {
		return ctrl.Result{}, nil
	}
	s, err := r.Registry.Lookup(ctx, request.Spec.SignerName)
	if err == nil && (s == nil || s.Pods == nil) {
		return ctrl.Result{}, nil // not one of ours
	}
	var issued issue.Issued
	var by string
	if err == nil {
		issued, by, err = r.sign(ctx, request, s)
	}
	var no *verdict
	switch {
	case errors.As(err, &no):
		return ctrl.Result{}, r.refuse(ctx, object, no)
	case err != nil:
		return r.later(ctx, object, err)
	}
	return r.issue(ctx, object, issued, by)
}

// waits reports whether nothing was said about a request yet, and its pod may still want an answer.
func waits(request *certificatesv1beta1.PodCertificateRequest) bool {
	return len(request.Status.Conditions) == 0 && request.DeletionTimestamp.IsZero()
}

// again is when it is looked again whether a policy speaks of a request, beside when policies change.
const again = 30 * time.Second

// sign returns what is to be written for the request, and the name of the policy that permits it. The error is a *verdict, or trouble.
func (r *Reconciler) sign(ctx context.Context, request *certificatesv1beta1.PodCertificateRequest, s *registry.Signer) (issued issue.Issued, by string, err error) {
	if err := r.guarded(ctx, request.CreationTimestamp); err != nil {
		return issued, "", err
	}
	req, unreadable := csr.ParsePod(request)
	if unreadable != nil {
		if req, err = nameless(request); err != nil {
			return issued, "", refusal(err)
		}
	}
	renewing := false
	defer func() { err = keeping(renewing, err) }()
	decide := r.Judge.DecideNaming
	if _, unselected := r.unselected.Get(request.UID); unselected {
		decide = r.Judge.ReconsiderNaming
	}
	req, decision, err := decide(ctx, req, func(req csr.Request, facts policy.Facts) (csr.Request, error) {
		renewing = facts.Pod != nil && facts.Pod.Started
		if unreadable != nil {
			return req, unreadable
		}
		return s.Pods.Name(req, facts, request.Spec.UnverifiedUserAnnotations)
	})
	switch {
	case err != nil:
		return issued, "", refusal(err)
	case decision.Verdict == policy.Deny:
		return issued, "", denied(issue.ReasonPolicyDenies, decision.Message())
	case decision.Verdict != policy.Permit:
		r.unselected.Add(request.UID, struct{}{}, unselectedFor)
		return issued, "", &judge.WaitError{After: again, Reason: strings.TrimSuffix(decision.Message(), ".")}
	case decision.Approval == v1alpha1.ApprovalManual:
		return issued, "", &judge.WaitError{After: again, Reason: fmt.Sprintf(
			"CertificatePolicy %q would permit it by a person's approval, and nobody can approve what a kubelet asks for: deliver the certificate by the agent, or have another policy permit it", decision.Policy)}
	}
	issued, err = r.Sign(ctx, req, decision.MaxDuration, s)
	if refused := (*issue.Refusal)(nil); errors.As(err, &refused) {
		return issued, "", &verdict{certificatesv1.PodCertificateRequestConditionTypeFailed, refused}
	}
	return issued, decision.Policy, err
}

// nameless says who asks, of a request that cannot be represented: whether that is a verdict rests on the pod.
func nameless(request *certificatesv1beta1.PodCertificateRequest) (csr.Request, error) {
	requester, err := csr.PodRequester(request)
	return csr.Request{Name: request.Name, UID: request.UID, SignerName: request.Spec.SignerName, Requester: requester, ForPod: true}, err
}

// keeping returns the error of a request, which is no verdict if the pod has started: it keeps what it has until that ends or somebody
// mends what is wrong.
func keeping(renewing bool, err error) error {
	if no := (*verdict)(nil); renewing && errors.As(err, &no) {
		return &judge.WaitError{After: again, Reason: fmt.Sprintf("the pod keeps the certificate that it has, as it would be refused a new one for %s: %s", no.Reason, strings.TrimSuffix(no.Text(), "."))}
	}
	return err
}

// refusal returns the verdict on a request that cannot be represented, or the error as it is.
func refusal(err error) error {
	if cannot := (*csr.Refusal)(nil); errors.As(err, &cannot) {
		return denied(cannot.Reason, cannot.Error())
	}
	return err
}

// later has the request wait, without a word in it.
func (r *Reconciler) later(ctx context.Context, object client.Object, trouble error) (ctrl.Result, error) {
	return r.Later(object.GetUID(), object.GetCreationTimestamp().Time, trouble, func(why string) {
		note := "The request stays pending and " + why
		if wait := (*judge.WaitError)(nil); errors.As(trouble, &wait) {
			r.Teller.Warn(ctx, object, issue.ReasonNotSignedYet, note) // it is not signed for what the pod's owner can see
			return
		}
		r.Teller.Trouble(ctx, object, issue.ReasonNotSignedYet, note)
	})
}
