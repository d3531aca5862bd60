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
	backends   []namedBackend
}

type namedBackend struct {
	Backend
	name   string
	config BackendConfig
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
// away from it.
func (r *Registry) owner(ctx context.Context, signerName string) (*v1alpha1.Signer, error) {
	var list v1alpha1.SignerList
	if err := r.reader.List(ctx, &list, client.MatchingFields{v1alpha1.IndexSignerName: signerName}); err != nil {
		return nil, fmt.Errorf("listing signers: %w", err)
	}
	if len(list.Items) == 0 {
		return nil, nil
	}
	oldest := slices.MinFunc(list.Items, func(a, b v1alpha1.Signer) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return &oldest, nil
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
	return s, nil
}

// Check checks what can be known of a Signer without a cluster: its signerName, its limits and the configuration of its
// backends. The error holds a *field.Error for each field that is wrong.
func Check(object *v1alpha1.Signer, newBackend NewBackend) error {
	_, err := (*Signer)(nil).next(object, newBackend)
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
	for i, entry := range object.Spec.Backends {
		config := BackendConfig{Signer: object.Name, SignerName: object.Spec.SignerName, IsCA: object.Spec.Limits.IsCA, Backend: entry}
		backend := s.backend(config)
		if backend == nil {
			var err error
			if backend, err = newBackend(config); err != nil {
				wrong(ReasonBackendInvalid, field.Invalid(spec.Child("backends").Index(i), entry.Name, err.Error()))
			}
		}
		made.backends = append(made.backends, namedBackend{Backend: backend, name: entry.Name, config: config})
	}
	if err := errs.ToAggregate(); err != nil {
		return nil, &CheckError{Reason: reason, Err: err}
	}
	return made, nil
}

// backend returns the Signer's backend that was made from the same configuration, or nil.
func (s *Signer) backend(config BackendConfig) Backend {
	if s == nil {
		return nil
	}
	for _, b := range s.backends {
		if equality.Semantic.DeepEqual(b.config, config) {
			return b.Backend
		}
	}
	return nil
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
	delete(r.known, uid)
}
