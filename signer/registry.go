// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

// BackendConfig is all that a backend is made from.
type BackendConfig struct {
	// Signer is the name of the Signer, SignerName its spec.signerName.
	Signer, SignerName string
	// IsCA is the Signer's limit of that name.
	IsCA bool
	// Backend is the backend's entry in the Signer.
	Backend v1alpha1.Backend
}

// NewBackend makes a backend. It is the one place that knows all kinds of backends.
type NewBackend func(BackendConfig) (Backend, error)

// Registry keeps the backends of every Signer. When a Signer's spec changes, those backends that do not change live on, as
// they may know things that cannot be read again, such as the last good CA. It is safe for concurrent use.
type Registry struct {
	reader     client.Reader
	newBackend NewBackend

	mu    sync.Mutex
	known map[types.UID]*Signer
}

// Signer is a v1alpha1.Signer made ready to sign.
type Signer struct {
	name       string
	signerName string
	generation int64
	limits     limits
	members    []*member
}

// NewRegistry returns a registry that reads Signers from a cache with the index v1alpha1.IndexSignerName.
func NewRegistry(reader client.Reader, newBackend NewBackend) *Registry {
	return &Registry{reader: reader, newBackend: newBackend, known: map[types.UID]*Signer{}}
}

// Lookup returns the Signer that owns a signerName, or nil if none does. An error means that it cannot sign now.
func (r *Registry) Lookup(ctx context.Context, signerName string) (*Signer, error) {
	owner, err := r.owner(ctx, signerName)
	if err != nil || owner == nil {
		return nil, err
	}
	return r.load(owner)
}

// owner returns the Signer that owns a signerName: the oldest, should there be several, so that a later one takes nothing
// away from it. It belongs to the cache: do not modify it.
func (r *Registry) owner(ctx context.Context, signerName string) (*v1alpha1.Signer, error) {
	var list v1alpha1.SignerList
	if err := r.reader.List(ctx, &list, client.MatchingFields{v1alpha1.IndexSignerName: signerName}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing signers: %w", err)
	}
	if len(list.Items) == 0 {
		return nil, nil
	}
	oldest := &list.Items[0]
	for i := range list.Items[1:] {
		other := &list.Items[i+1]
		if cmp.Or(other.CreationTimestamp.Compare(oldest.CreationTimestamp.Time), cmp.Compare(other.Name, oldest.Name)) < 0 {
			oldest = other
		}
	}
	return oldest, nil
}

// load returns the Signer made from the object, from before if its spec is the same.
func (r *Registry) load(object *v1alpha1.Signer) (*Signer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.known[object.UID]
	if known != nil && known.generation >= object.Generation {
		return known, nil
	}
	s, err := known.next(object, r.newBackend)
	if err != nil {
		return nil, err
	}
	r.known[object.UID] = s
	known.close(s)
	return s, nil
}

// Check checks what can be known of a Signer without a cluster: its signerName, its limits and the configuration of its
// backends. The error holds a *field.Error for each field that is wrong.
func Check(object *v1alpha1.Signer, newBackend NewBackend) error {
	s, err := (*Signer)(nil).next(object, newBackend)
	s.close(nil)
	return err
}

// next makes the object ready to sign, with those backends of s, which may be nil, that stay as they are. The error is a
// *CheckError that holds every mistake, with the reason of the first.
func (s *Signer) next(object *v1alpha1.Signer, newBackend NewBackend) (*Signer, error) {
	var reason string
	var errs field.ErrorList
	wrong := func(why string, list ...*field.Error) {
		if len(list) > 0 {
			reason, errs = cmp.Or(reason, why), append(errs, list...)
		}
	}
	spec := field.NewPath("spec")
	if csr.IsKubernetesSigner(object.Spec.SignerName) {
		wrong(ReasonSignerNameReserved, field.Invalid(spec.Child("signerName"), object.Spec.SignerName, "belongs to Kubernetes and is never signed for"))
	}
	compiled, list := compileLimits(object.Spec.Limits, spec.Child("limits"))
	wrong(ReasonLimitsInvalid, list...)
	made := &Signer{name: object.Name, signerName: object.Spec.SignerName, generation: object.Generation, limits: compiled}
	if len(object.Spec.Backends) == 0 {
		wrong(ReasonBackendInvalid, field.Required(spec.Child("backends"), "at least one is needed"))
	}
	for i := range object.Spec.Backends {
		config := BackendConfig{Signer: object.Name, SignerName: object.Spec.SignerName, IsCA: object.Spec.Limits.IsCA, Backend: object.Spec.Backends[i]}
		m := s.member(config)
		if m == nil {
			config.Backend = *config.Backend.DeepCopy()
			m, list = newMember(config, newBackend, spec.Child("backends").Index(i))
			wrong(ReasonBackendInvalid, list...)
		}
		made.members = append(made.members, m)
	}
	if err := errs.ToAggregate(); err != nil {
		made.close(s)
		return nil, &CheckError{Reason: reason, Err: err}
	}
	return made, nil
}

// member returns the Signer's backend that was made from the same configuration, or nil.
func (s *Signer) member(config BackendConfig) *member {
	if s == nil {
		return nil
	}
	for _, m := range s.members {
		if equality.Semantic.DeepEqual(m.config, config) {
			return m
		}
	}
	return nil
}

// close closes those backends of s that are not kept by the other one; each may be nil.
func (s *Signer) close(other *Signer) {
	if s == nil {
		return
	}
	for _, m := range s.members {
		if other == nil || !slices.Contains(other.members, m) {
			m.close()
		}
	}
}

// former returns the signerNames of the Signers that had this name and are gone: all but the one with the UID that has it
// now.
func (r *Registry) former(name string, now types.UID) map[types.UID]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	gone := map[types.UID]string{}
	for uid, s := range r.known {
		if s.name == name && uid != now {
			gone[uid] = s.signerName
		}
	}
	return gone
}

// forget drops a Signer that is gone.
func (r *Registry) forget(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[uid].close(nil)
	delete(r.known, uid)
}
