// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/fleet/fleettest"
)

func TestFollow(t *testing.T) {
	t.Parallel()
	until := ptr.To(metav1.NewTime(fleettest.Now.Add(time.Hour)))
	status := func(root, issuer string, rotation *v1alpha1.Rotation) v1alpha1.BackendStatus {
		return v1alpha1.BackendStatus{Name: "local", Root: root, Issuer: issuer, Rotation: rotation}
	}
	phases := []v1alpha1.BackendStatus{
		status(oldRoot, oldIssuer, rotating(v1alpha1.RotationPublishing, nil)),
		status(oldRoot, oldIssuer, rotating(v1alpha1.RotationPublishing, nil)), // nothing new
		status(oldRoot, oldIssuer, rotating(v1alpha1.RotationPublishing, until)),
		{Name: "local"}, // nothing known for a moment
		status(newRoot, newIssuer, rotating(v1alpha1.RotationSigning, until)),
		status(newRoot, newIssuer, nil),
	}
	done := "Done: the root is " + newRoot + ", and " + newIssuer + " signs."
	for name, c := range map[string]struct {
		kind   Kind
		states []v1alpha1.BackendStatus
		want   []string
	}{
		"root": {Root, phases, []string{
			"Publishing since 2026-05-01T12:00:00Z: root 111111111111 is trusted beside 0123456789ab, which signs.",
			"Publishing since 2026-05-01T12:00:00Z: root 111111111111 is trusted beside 0123456789ab, which signs, until 2026-05-01T13:00:00Z at least.",
			"Signing since 2026-05-01T12:00:00Z: root 111111111111 signs, 0123456789ab is still trusted, until 2026-05-01T13:00:00Z at least.",
			done,
		}},
		"intermediate": {Intermediate, []v1alpha1.BackendStatus{status(oldRoot, oldIssuer, nil), status(oldRoot, newIssuer, nil)}, []string{
			"Done: the root is " + oldRoot + ", and " + newIssuer + " signs.",
		}},
		"intermediate while the root is replaced": {Intermediate, []v1alpha1.BackendStatus{status(oldRoot, newIssuer, rotating(v1alpha1.RotationPublishing, nil))}, []string{
			"Done: the root is " + oldRoot + ", and " + newIssuer + " signs.",
		}},
		"compromised": {Compromised, []v1alpha1.BackendStatus{status(oldRoot, oldIssuer, rotating(v1alpha1.RotationSigning, nil)), status(newRoot, newIssuer, nil)}, []string{done}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			signer := newSigner()
			r := newRotator(t, interceptor.Funcs{Watch: func(ctx context.Context, k client.WithWatch, list client.ObjectList, opts ...client.ListOption) (watch.Interface, error) {
				w, err := k.Watch(ctx, list, opts...)
				for _, state := range c.states {
					var live v1alpha1.Signer
					if err := k.Get(ctx, client.ObjectKey{Name: "internal"}, &live); err != nil {
						t.Error(err)
					}
					live.Status.Backends = []v1alpha1.BackendStatus{state}
					if err := k.Update(ctx, &live); err != nil {
						t.Error(err)
					}
				}
				return w, err
			}}, signer)
			var got []string
			ca, err := Choose(signer, "")
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Follow(t.Context(), ca, c.kind, func(words string) { got = append(got, words) }); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

func TestFollowSaysThatNothingHappens(t *testing.T) {
	t.Parallel()
	signer := newSigner()
	clock := clocktesting.NewFakeClock(fleettest.Now)
	r := newRotator(t, interceptor.Funcs{Watch: func(ctx context.Context, k client.WithWatch, list client.ObjectList, opts ...client.ListOption) (watch.Interface, error) {
		clock.Step(patience)
		return k.Watch(ctx, list, opts...)
	}}, signer)
	r.Clock = clock
	ca, err := Choose(signer, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = r.Follow(ctx, ca, Root, func(words string) {
		if !strings.HasPrefix(words, "Nothing has happened for 1m: is certwright-signer running") {
			t.Errorf("got %q", words)
		}
		cancel()
	})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "it goes on without: kubectl certwright ca status internal") {
		t.Errorf("got %v", err)
	}
}

func TestFollowEndsWithTheSigner(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(ctx context.Context, k client.Client) error
		want   string
	}{
		"deleted": {func(ctx context.Context, k client.Client) error { return k.Delete(ctx, newSigner()) }, "the Signer internal is gone"},
		"replaced": {func(ctx context.Context, k client.Client) error {
			other := newSigner()
			other.UID = "another"
			return errors.Join(k.Delete(ctx, newSigner()), k.Create(ctx, other))
		}, "the Signer internal was replaced by another one of its name"},
		"without the backend": {func(ctx context.Context, k client.Client) error {
			var changed v1alpha1.Signer
			if err := k.Get(ctx, client.ObjectKey{Name: "internal"}, &changed); err != nil {
				return err
			}
			changed.Spec.Backends[0].Name = "other"
			return k.Update(ctx, &changed)
		}, "has no such backend"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changed := false
			r := newRotator(t, interceptor.Funcs{List: func(ctx context.Context, k client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				if !changed {
					changed = true
					if err := c.change(ctx, k); err != nil {
						t.Error(err)
					}
				}
				return k.List(ctx, list, opts...)
			}}, newSigner())
			ca, err := Choose(newSigner(), "")
			if err != nil {
				t.Fatal(err)
			}
			err = r.Follow(t.Context(), ca, Root, func(words string) { t.Errorf("got %q", words) })
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
