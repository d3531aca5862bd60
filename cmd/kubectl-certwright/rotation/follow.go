// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/fleet"
	"github.com/certwright/certwright/rights"
)

const (
	// rewatch is how long to wait before a watch that ended is begun again.
	rewatch = time.Second
	// patience is how long the controller may take to begin before people are told that it has not.
	patience = time.Minute
)

// Follow calls say with each phase as it comes, until the CA is replaced.
func (r *Rotator) Follow(ctx context.Context, c CA, kind Kind, say func(string)) error {
	f := &follower{before: c, kind: kind, say: say}
	slow := r.Clock.NewTimer(patience)
	defer slow.Stop()
	for {
		if err := r.follow(ctx, f, slow.C()); err != nil || f.done {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not waiting any longer, and it goes on without: kubectl certwright ca status %s: %w", c.Signer.Name, ctx.Err())
		case <-r.Clock.After(rewatch):
		}
	}
}

// follow looks at the Signer and then at each change of it, until the watch ends.
func (r *Rotator) follow(ctx context.Context, f *follower, slow <-chan time.Time) error {
	right := rights.Right{Verb: "list", Group: v1alpha1.GroupVersion.Group, Resource: "signers"}
	var list v1alpha1.SignerList
	named := client.MatchingFields{"metadata.name": f.before.Signer.Name}
	if err := r.Client.List(ctx, &list, named); err != nil {
		return right.ExplainWaiting(ctx, "listing Signers", err)
	}
	i := slices.IndexFunc(list.Items, func(s v1alpha1.Signer) bool { return s.Name == f.before.Signer.Name })
	if i < 0 {
		return fmt.Errorf("the Signer %s is gone", f.before.Signer.Name)
	}
	if err := f.look(&list.Items[i]); err != nil || f.done {
		return err
	}
	changes, err := r.Client.Watch(ctx, &list, named, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}})
	if err != nil {
		right.Verb = "watch"
		return right.ExplainWaiting(ctx, "watching Signers", err)
	}
	defer changes.Stop()
	for !f.done {
		select {
		case <-ctx.Done():
			return nil
		case <-slow:
			f.hurry()
		case e, open := <-changes.ResultChan():
			signer, ok := e.Object.(*v1alpha1.Signer)
			switch {
			case !open || e.Type == watch.Error:
				return nil
			case !ok || signer.Name != f.before.Signer.Name:
			case e.Type == watch.Deleted:
				return fmt.Errorf("the Signer %s is gone", signer.Name)
			default:
				if err := f.look(signer); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// follower holds what was told already.
type follower struct {
	before CA
	kind   Kind
	say    func(string)
	told   string
	begun  bool
	done   bool
}

// look tells what is new.
func (f *follower) look(signer *v1alpha1.Signer) error {
	if signer.UID != f.before.Signer.UID {
		return fmt.Errorf("the Signer %s was replaced by another one of its name", signer.Name)
	}
	now, err := Choose(signer, f.before.Backend.Name)
	if err != nil {
		return err
	}
	words := now.words()
	switch s := now.Status; {
	case s.Root == "" || s.Issuer == "":
		return nil
	case f.kind == Root && s.Rotation != nil:
		f.begun = true
	case !f.replaced(s):
		return nil
	default:
		f.begun, f.done = true, true
		words = fmt.Sprintf("Done: the root is %s, and %s signs.", s.Root, s.Issuer)
	}
	if words != f.told {
		f.told = words
		f.say(words)
	}
	return nil
}

// replaced tells whether what was to be replaced is. A rotation in phases replaces the root before it has ended.
func (f *follower) replaced(s v1alpha1.BackendStatus) bool {
	if f.kind == Intermediate {
		return s.Issuer != f.before.Status.Issuer
	}
	return s.Root != f.before.fingerprint(f.kind) && s.Rotation == nil
}

// hurry says what to look at if nothing happens.
func (f *follower) hurry() {
	if !f.begun {
		f.say(fmt.Sprintf("Nothing has happened for %s: is certwright-signer running, and what does kubectl describe signer %s say?", fleet.Span(patience), f.before.Signer.Name))
	}
}

// words say how far the replacement of the root is.
func (c CA) words() string {
	r := c.Status.Rotation
	if r == nil {
		return ""
	}
	var text string
	switch r.Phase {
	case v1alpha1.RotationPublishing:
		text = fmt.Sprintf("Publishing since %s: root %s is trusted beside %s, which signs", stamp(r.Since.Time), short(r.NewRoot), short(r.OldRoot))
	default:
		text = fmt.Sprintf("%s since %s: root %s signs, %s is still trusted", r.Phase, stamp(r.Since.Time), short(r.NewRoot), short(r.OldRoot))
	}
	if r.Until != nil {
		text += fmt.Sprintf(", until %s at least", stamp(r.Until.Time))
	}
	return text + "."
}

// short is enough of a fingerprint to tell two apart.
func short(fingerprint string) string { return fingerprint[:min(len(fingerprint), 12)] }
