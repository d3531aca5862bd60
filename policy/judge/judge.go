// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package judge applies the policies that are in force to a request: it compiles CertificatePolicies, gathers the facts
// and decides. Approver and signer each have a judge of their own and ask it the same question.
//
// A permit may rest on caches, which lag by moments. Anything else is decided a second time on what the API server says
// now, so that nobody is refused because a cache had not yet heard of a pod, a Service or a policy.
package judge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/facts"
)

// Judge decides about requests. It is safe for concurrent use.
type Judge struct {
	cached client.Reader
	live   client.Reader
	facts  facts.Gatherer

	mu       sync.Mutex
	compiled map[types.UID]Compiled
	sets     map[string]set // by signerName
}

// set is the index of policies that was made last.
type set struct {
	members map[*policy.Policy]bool
	index   *policy.Set
}

// Compiled is what became of the newest known generation of a CertificatePolicy.
type Compiled struct {
	// Generation that was compiled last.
	Generation int64
	// Policy in force; nil if no generation was ever good. It is older than Generation when Err is set.
	Policy *policy.Policy
	// InForce is the generation of Policy.
	InForce int64
	// Err says what is wrong with Generation.
	Err error
}

// New returns a judge that reads through the cache first and asks the API server before it refuses. The facts' pods are
// always read from the API server.
func New(cached, live client.Reader, trustDomain, clusterDomain string) *Judge {
	return &Judge{
		cached:   cached,
		live:     live,
		facts:    facts.Gatherer{TrustDomain: trustDomain, ClusterDomain: clusterDomain, Pods: live},
		compiled: map[types.UID]Compiled{},
		sets:     map[string]set{},
	}
}

// Index adds to a manager's cache the index v1alpha1.IndexSignerName. Call it once, before the cache starts.
func Index(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &v1alpha1.CertificatePolicy{}, v1alpha1.IndexSignerName, func(o client.Object) []string {
		return o.(*v1alpha1.CertificatePolicy).Spec.SignerNames
	})
	if err != nil {
		return fmt.Errorf("indexing certificate policies: %w", err)
	}
	err = indexer.IndexField(ctx, &v1alpha1.Signer{}, v1alpha1.IndexSignerName, func(o client.Object) []string {
		return []string{o.(*v1alpha1.Signer).Spec.SignerName}
	})
	if err != nil {
		return fmt.Errorf("indexing signers: %w", err)
	}
	return nil
}

// Follow has the judge compile every CertificatePolicy as it comes, so that the last good version of one that breaks is known
// even if no request asked for it, and in replicas that do not lead. Call it once, before the cache starts.
func (j *Judge) Follow(ctx context.Context, informers cache.Informers) error {
	informer, err := informers.GetInformer(ctx, &v1alpha1.CertificatePolicy{})
	if err != nil {
		return fmt.Errorf("watching certificate policies: %w", err)
	}
	compile := func(object any) {
		if p, ok := object.(*v1alpha1.CertificatePolicy); ok {
			j.Compile(p)
		}
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    compile,
		UpdateFunc: func(_, object any) { compile(object) },
	})
	if err != nil {
		return fmt.Errorf("watching certificate policies: %w", err)
	}
	return nil
}

// WaitError is why a request cannot be decided about yet, where that is known to pass soon.
type WaitError struct {
	// After is when to ask again.
	After time.Duration
	// Reason says what is missing.
	Reason string
}

func (e *WaitError) Error() string { return e.Reason }

// Wait says when to look again at a request of this age that could not be decided, and whether to tell: what passes by itself
// within moments is not told, and is looked at the more rarely the longer it lasts. Again is 0 for any error but a WaitError.
func Wait(err error, age time.Duration) (again time.Duration, tell bool) {
	const moments = time.Minute
	var wait *WaitError
	if !errors.As(err, &wait) {
		return 0, true
	}
	return max(wait.After, min(age/2, moments)), age > moments
}

// addressesAfter is how long a kubelet takes, as a rule, to tell the addresses of a pod whose containers run.
const addressesAfter = 2 * time.Second

// Decide decides about a request. An error, such as a *WaitError, is trouble and never a verdict: ask again later.
func (j *Judge) Decide(ctx context.Context, req csr.Request) (policy.Decision, error) {
	_, d, err := j.DecideNaming(ctx, req, nil)
	return d, err
}

// Naming fills in what a request asks for from the facts about its requester. Its error is returned as it is, and means that nothing was decided.
type Naming func(req csr.Request, facts policy.Facts) (csr.Request, error)

// DecideNaming is Decide for a request that is named by facts. It returns the request that was decided about: named by the very facts that
// the decision rests on, so that it is never denied a name for what changed between the two. A request that no policy speaks of may
// be left unnamed.
func (j *Judge) DecideNaming(ctx context.Context, req csr.Request, naming Naming) (csr.Request, policy.Decision, error) {
	named, d, _, err := j.decideCached(ctx, req, naming)
	if err != nil || d.Verdict == policy.Permit {
		return named, d, err
	}
	var live v1alpha1.CertificatePolicyList
	if err := j.live.List(ctx, &live); err != nil {
		return req, policy.Decision{}, fmt.Errorf("listing certificate policies: %w", err)
	}
	j.forgetAllBut(live.Items)
	named, d, wait, err := j.decide(ctx, j.live, req, naming, live.Items)
	d, err = conclude(d, wait, err)
	return named, d, err
}

// Reconsider decides again about a request that no policy selected when Decide was asked before. As long as the caches know of
// none either, that stays so: whoever files thousands of such requests does not have each looked up in the API server over
// and over. Anything else is for Decide.
func (j *Judge) Reconsider(ctx context.Context, req csr.Request) (policy.Decision, error) {
	_, d, err := j.ReconsiderNaming(ctx, req, nil)
	return d, err
}

// ReconsiderNaming is Reconsider for a request that is named by facts, as DecideNaming is Decide.
func (j *Judge) ReconsiderNaming(ctx context.Context, req csr.Request, naming Naming) (csr.Request, policy.Decision, error) {
	named, d, wait, err := j.decideCached(ctx, req, naming)
	if err != nil || d.Verdict == policy.NoOpinion {
		d, err = conclude(d, wait, err)
		return named, d, err
	}
	return j.DecideNaming(ctx, req, naming)
}

func conclude(d policy.Decision, wait, err error) (policy.Decision, error) {
	if err == nil && d.Verdict != policy.Permit && wait != nil {
		return policy.Decision{}, wait
	}
	return d, err
}

func (j *Judge) decideCached(ctx context.Context, req csr.Request, naming Naming) (named csr.Request, d policy.Decision, wait, err error) {
	var cached v1alpha1.CertificatePolicyList
	err = j.cached.List(ctx, &cached, client.MatchingFields{v1alpha1.IndexSignerName: req.SignerName}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return req, policy.Decision{}, nil, fmt.Errorf("listing cached certificate policies: %w", err)
	}
	return j.decide(ctx, j.cached, req, naming, cached.Items)
}

// decide returns the decision of the policies in force for the request's signerName, and in wait why a refusal is not final
// if it is not. What a policy in force speaks of is what its last good generation says; one in mode Audit delays nobody.
func (j *Judge) decide(ctx context.Context, reader client.Reader, req csr.Request, naming Naming, items []v1alpha1.CertificatePolicy) (named csr.Request, d policy.Decision, wait, err error) {
	policies := make([]*policy.Policy, 0, len(items))
	var broken []string
	for i := range items {
		switch c := j.Compile(&items[i]); {
		case c.Policy != nil && c.Policy.SpeaksOf(req.SignerName):
			policies = append(policies, c.Policy)
		case c.Policy == nil && items[i].Spec.Mode != v1alpha1.ModeAudit && slices.Contains(items[i].Spec.SignerNames, req.SignerName):
			broken = append(broken, items[i].Name)
		}
	}
	if len(broken) > 0 {
		slices.Sort(broken)
		wait = fmt.Errorf("a refusal must wait until these certificate policies are mended (kubectl describe certificatepolicy): %s",
			strings.Join(broken, ", "))
	}
	if len(policies) == 0 {
		return req, policy.Decision{}, wait, nil
	}
	gathered, err := j.facts.Gather(ctx, reader, req.Requester)
	if err != nil {
		return req, policy.Decision{}, nil, err
	}
	if naming != nil {
		if req, err = naming(req, gathered); err != nil {
			return req, policy.Decision{}, nil, err
		}
	}
	d = j.index(req.SignerName, policies).Decide(req, gathered)
	if wait == nil && d.AwaitsAddresses(gathered) {
		wait = &WaitError{After: addressesAfter, Reason: fmt.Sprintf(
			"a refusal must wait until the API server knows the addresses of pod %s/%s", gathered.Namespace.Name, gathered.Pod.Name)}
	}
	return req, d, wait, nil
}

// index returns the policies for a signerName as a set, which is made anew only when they are others than the last time.
// They come in any order.
func (j *Judge) index(signerName string, policies []*policy.Policy) *policy.Set {
	j.mu.Lock()
	defer j.mu.Unlock()
	known := j.sets[signerName]
	if len(known.members) == len(policies) && !slices.ContainsFunc(policies, func(p *policy.Policy) bool { return !known.members[p] }) {
		return known.index
	}
	slices.SortFunc(policies, func(a, b *policy.Policy) int { return strings.Compare(a.Name, b.Name) })
	made := set{members: make(map[*policy.Policy]bool, len(policies)), index: policy.NewSet(signerName, policies)}
	for _, p := range policies {
		made.members[p] = true
	}
	j.sets[signerName] = made
	return made.index
}

// Compile compiles a CertificatePolicy, once for each generation. A generation that is wrong leaves the one before it in
// force; a generation older than one already seen is not looked at, as a cache may lag behind.
func (j *Judge) Compile(p *v1alpha1.CertificatePolicy) Compiled {
	j.mu.Lock()
	defer j.mu.Unlock()
	known, ok := j.compiled[p.UID]
	if ok && p.Generation <= known.Generation {
		return known
	}
	known.Generation = p.Generation
	compiled, err := policy.Compile(p)
	if known.Err = err; err == nil {
		known.Policy, known.InForce = compiled, p.Generation
	}
	j.compiled[p.UID] = known
	return known
}

// forgetAllBut drops what was compiled from policies that no longer exist.
func (j *Judge) forgetAllBut(items []v1alpha1.CertificatePolicy) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for uid := range j.compiled {
		if !slices.ContainsFunc(items, func(p v1alpha1.CertificatePolicy) bool { return p.UID == uid }) {
			delete(j.compiled, uid)
			clear(j.sets)
		}
	}
}
