// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer/breaker"
	"github.com/certwright/certwright/signer/podcert/naming"
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

// Registry keeps the backends of every Signer, and what is known of requests that they have begun with. When a Signer's spec changes,
// those backends that do not change live on, as they may know things that cannot be read again, such as the last good CA. It is safe
// for concurrent use.
type Registry struct {
	reader     client.Reader
	newBackend NewBackend
	clock      clock.PassiveClock
	metrics    *Metrics
	memory     *memory
	// changed names the Signers of which something changed that their status should say.
	changed chan event.GenericEvent

	mu     sync.Mutex
	known  map[types.UID]*Signer
	looked map[string]time.Time
}

// Signer is a v1alpha1.Signer made ready to sign.
type Signer struct {
	name       string
	signerName string
	generation int64
	limits     limits
	pods       *naming.Template
	members    []*member
}

// Pods says what those get whose kubelets ask; nil if the Signer does not sign for them.
func (s *Signer) Pods() *naming.Template { return s.pods }

// NewRegistry returns a registry that reads Signers from a cache with the index v1alpha1.IndexSignerName.
func NewRegistry(reader client.Reader, newBackend NewBackend, clk clock.PassiveClock, metrics *Metrics) *Registry {
	return &Registry{
		reader: reader, newBackend: newBackend, clock: clk, metrics: metrics, memory: newMemory(clk),
		changed: make(chan event.GenericEvent, 1024), known: map[types.UID]*Signer{}, looked: map[string]time.Time{},
	}
}

// maker makes the backends of one Signer.
type maker struct {
	newBackend NewBackend
	clock      clock.PassiveClock
	// onChange is told of each change of a backend's state.
	onChange func(backend string, from, to breaker.State)
}

// maker returns what makes the backends of the object.
func (r *Registry) maker(object *v1alpha1.Signer) maker {
	name, signerName := object.Name, object.Spec.SignerName
	return maker{newBackend: r.newBackend, clock: r.clock, onChange: func(backend string, _, to breaker.State) {
		r.metrics.became(signerName, backend, to)
		r.announce(name)
	}}
}

// announce has the status of a Signer looked at. If too many are waiting for that, it is looked at in its time.
func (r *Registry) announce(name string) {
	select {
	case r.changed <- event.GenericEvent{Object: &v1alpha1.Signer{ObjectMeta: metav1.ObjectMeta{Name: name}}}:
	default:
	}
}

// look has the status of a Signer looked at soon, however often that is asked for.
func (r *Registry) look(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.clock.Now(); now.Sub(r.looked[name]) >= time.Second {
		r.looked[name] = now
		r.announce(name)
	}
}

// expedite makes all backends due for a probe.
func (r *Registry) expedite() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.known {
		s.expedite()
	}
}

func (s *Signer) expedite() {
	for _, m := range s.members {
		m.breaker.Expedite()
	}
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
	s, err := known.next(object, r.maker(object))
	if err != nil {
		return nil, err
	}
	r.known[object.UID] = s
	known.close(s)
	r.metrics.backends(known, s)
	return s, nil
}

// Check checks what can be known of a Signer without a cluster: its signerName, its limits, the configuration of its backends, and
// the trust anchors that it adds. The error holds a *field.Error for each field that is wrong.
func Check(object *v1alpha1.Signer, newBackend NewBackend) error {
	s, err := (*Signer)(nil).next(object, maker{newBackend: newBackend, clock: clock.RealClock{}, onChange: func(string, breaker.State, breaker.State) {}})
	s.close(nil)
	if added := checkAdded(object.Spec.TrustBundle, field.NewPath("spec", "trustBundle")); err == nil && added != nil {
		err = &CheckError{Reason: ReasonTrustIncomplete, Err: added}
	} else if added != nil {
		err = &CheckError{Reason: reasonOf(err), Err: utilerrors.NewAggregate([]error{err, added})}
	}
	return err
}

// checkAdded checks what a Signer says about its trust bundle. Such a mistake keeps nobody from signing.
func checkAdded(b v1alpha1.TrustBundle, path *field.Path) error {
	var errs field.ErrorList
	if b.ConfigMap != nil {
		if _, err := metav1.LabelSelectorAsSelector(&b.ConfigMap.NamespaceSelector); err != nil {
			errs = append(errs, field.Invalid(path.Child("configMap", "namespaceSelector"), field.OmitValueType{}, err.Error()))
		}
	}
	for i, s := range b.Additional {
		if s.PEM == "" {
			continue
		}
		if _, err := parseAnchors(s.PEM); err != nil {
			errs = append(errs, field.Invalid(path.Child("additional").Index(i).Child("pem"), field.OmitValueType{}, err.Error()))
		}
	}
	return errs.ToAggregate()
}

// next makes the object ready to sign, with those backends of s, which may be nil, that stay as they are. The error is a
// *CheckError that holds every mistake, with the reason of the first.
func (s *Signer) next(object *v1alpha1.Signer, by maker) (*Signer, error) {
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
	pods, list := naming.Compile(object.Spec.PodCertificates, spec.Child("podCertificates"))
	wrong(ReasonPodCertificatesInvalid, list...)
	made := &Signer{name: object.Name, signerName: object.Spec.SignerName, generation: object.Generation, limits: compiled, pods: pods}
	if len(object.Spec.Backends) == 0 {
		wrong(ReasonBackendInvalid, field.Required(spec.Child("backends"), "at least one is needed"))
	}
	for i := range object.Spec.Backends {
		config := BackendConfig{Signer: object.Name, SignerName: object.Spec.SignerName, IsCA: object.Spec.Limits.IsCA, Backend: object.Spec.Backends[i]}
		m := s.member(config)
		if m == nil {
			config.Backend = *config.Backend.DeepCopy()
			m, list = newMember(config, by, spec.Child("backends").Index(i))
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
	r.metrics.backends(r.known[uid], nil)
	delete(r.looked, r.known[uid].name)
	delete(r.known, uid)
}
