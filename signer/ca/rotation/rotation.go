// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rotation decides how the root of a CA is replaced by another one without a verifier noticing: first both roots are
// published while the old one signs; when everybody had time to learn of the new one, that signs; and when the last certificate
// below the old one has expired, that is dropped.
//
// It is pure: what was written down and what is known now go in, the step that is due and what to write down come out. Each step is
// one write, and whoever reads what was written goes on from there. No wait gets shorter by a crash, an outage or a clock that is set
// while somebody waits.
package rotation

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
)

// maxMargin is how far the clocks of those who sign may lie apart, and how long one that no longer leads may go on to sign. What one makes
// is valid by all of them: its life begins as much earlier (authority.Backdate).
const maxMargin = 5 * time.Minute

// State is what is written down of a CA's rotation. The zero value is a CA that nothing is known of.
type State struct {
	// Phase is empty while no root is being replaced.
	Phase v1alpha1.RotationPhase `json:"phase,omitempty"`
	// Since is when the phase began.
	Since time.Time `json:"since,omitzero"`
	// Published is when both roots were first seen in the published trust bundle.
	Published time.Time `json:"published,omitzero"`
	// Longest is the longest lifetime that was granted below the current root, OldLongest that below the old one. Each is written down
	// before such a certificate is signed.
	Longest    Lifetime `json:"longest,omitzero"`
	OldLongest Lifetime `json:"oldLongest,omitzero"`
}

// Lifetime is a duration that is written as Go writes it, such as 24h0m0s.
type Lifetime time.Duration

// MarshalText implements encoding.TextMarshaler.
func (l Lifetime) MarshalText() ([]byte, error) { return []byte(time.Duration(l).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *Lifetime) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err == nil && d < 0 {
		err = fmt.Errorf("lifetime %s is less than nothing", d)
	}
	*l = Lifetime(d)
	return err
}

// Encode returns the state as it is written down.
func (s State) Encode() ([]byte, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encoding the state of a rotation: %w", err)
	}
	return text, nil
}

// Decode reads a state; nothing is the zero value.
func Decode(text []byte) (s State, err error) {
	if len(text) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return State{}, fmt.Errorf("decoding the state of a rotation: %w", err)
	}
	switch {
	case s.Phase == "" && s.Since.IsZero():
	case s.Phase != v1alpha1.RotationPublishing && s.Phase != v1alpha1.RotationSigning:
		return State{}, fmt.Errorf("phase %q is not one of %s, %s", s.Phase, v1alpha1.RotationPublishing, v1alpha1.RotationSigning)
	case s.Since.IsZero():
		return State{}, fmt.Errorf("phase %s has no time at which it began", s.Phase)
	}
	return s, nil
}

// Step is one change of what is written down, and of the CA with it.
type Step int

// Steps. None of them leaves out another one, but Replace.
const (
	None    Step = iota
	Raise        // write down a longer lifetime
	Renew        // replace the intermediate
	Begin        // make another root and publish it beside the old one
	Seen         // write down that both roots are published
	Switch       // sign below the new root
	Finish       // drop the old root
	Replace      // make everything new, and drop all that was there
)

// Facts are what is known now.
type Facts struct {
	Now time.Time
	// Propagation is how long everybody who verifies has to learn of a new root.
	Propagation time.Duration
	// Absent is true if there is no CA, and one is to be made; Due if the root is to be replaced; Compromised if it is to be at once; Renew
	// if the intermediate is.
	Absent, Due, Compromised, Renew bool
	// MaxDuration is the longest lifetime that may be granted now.
	MaxDuration time.Duration
	// OldNotAfter is when the old root expires, and all below it; zero if that is not known.
	OldNotAfter time.Time
	// Seen returns whether all roots are in the bundle that is published now. It is asked only where that matters.
	Seen func() (bool, error)
	// Behind returns whether the bundle that is published now has not reached all places yet where pods read it.
	Behind func() bool
	// Over returns whether a time has come, as far as this process can know.
	Over func(until time.Time) bool
	// Time returns what another clock says that it is. It is asked only where that matters.
	Time func() (time.Time, error)
}

// Next returns the step that is due, and the state after it.
func (s State) Next(f Facts) (Step, State, error) {
	now := f.Now.UTC().Round(0)
	switch {
	case f.Absent, f.Compromised, f.Renew, s.Phase == "" && f.Due:
		return s.making(f)
	case time.Duration(s.Longest) < f.MaxDuration:
		return Raise, s.Raise(f.MaxDuration), nil
	case s.Phase == v1alpha1.RotationPublishing && s.Published.IsZero():
		if now.Before(s.Since.Add(f.Propagation)) && f.Behind() { // nobody holds up all others for ever
			return None, s, nil
		}
		at, ok, err := f.seenAt(time.Time{})
		if err != nil || !ok {
			return None, s, err
		}
		s.Published = at
		return Seen, s, nil
	case s.Phase == v1alpha1.RotationPublishing && f.Over(s.Until(f)):
		// A bundle that was taken away meanwhile is not what everybody had time to learn from.
		at, ok, err := f.seenAt(s.Until(f))
		if err != nil || !ok {
			return None, s, err
		}
		return Switch, s.Switched(at, f.MaxDuration), nil
	case s.Phase == v1alpha1.RotationSigning && f.Over(s.Until(f)):
		until := s.Until(f)
		if now.Before(until.Add(until.Sub(s.Since))) && f.Behind() {
			return None, s, nil
		}
		if _, ok, err := f.at(until); err != nil || !ok {
			return None, s, err
		}
		return Finish, State{Longest: s.Longest}, nil
	}
	return None, s, nil
}

// making returns the step that makes certificates.
func (s State) making(f Facts) (Step, State, error) {
	at, err := f.Agreed()
	switch {
	case err != nil:
		return None, s, err
	case f.Absent, f.Compromised:
		return Replace, State{Longest: Lifetime(f.MaxDuration)}, nil
	case f.Renew:
		return Renew, s, nil
	}
	s.Phase, s.Since, s.Published = v1alpha1.RotationPublishing, at, time.Time{}
	return Begin, s, nil
}

// seenAt reports whether the roots are seen in the bundle, and if a time has come by both clocks, which time it is.
func (f Facts) seenAt(until time.Time) (at time.Time, ok bool, err error) {
	if seen, err := f.Seen(); err != nil || !seen {
		return at, false, err
	}
	return f.at(until)
}

// at reports whether a time has come by the other clock as well, and the later of both times.
func (f Facts) at(until time.Time) (at time.Time, ok bool, err error) {
	other, err := f.Time()
	if err != nil {
		return at, false, err
	}
	ahead := f.Now.Sub(other)
	if ahead.Abs() > maxMargin {
		word := "ahead of"
		if ahead < 0 {
			word = "behind"
		}
		return at, false, fmt.Errorf("the clock of the node that this runs on is %s %s the API server's: set right the one that is wrong", ahead.Abs().Round(time.Minute), word)
	}
	if at = f.Now; other.After(at) {
		at = other
	}
	return at.UTC().Round(0), !other.Before(until), nil
}

// Agreed returns the later of both clocks' times, of which only Now and Time need to be known. It is an error if they lie far apart: a
// process that begins on a machine whose clock is wrong cannot know that by itself, and what is made by a clock that is ahead is not valid
// when it is needed, or in use when it should be.
func (f Facts) Agreed() (time.Time, error) {
	at, _, err := f.at(time.Time{})
	return at, err
}

// Switched returns the state after other roots took the place of those that were there.
func (s State) Switched(now time.Time, longest time.Duration) State {
	return State{
		Phase: v1alpha1.RotationSigning, Since: now.UTC().Round(0),
		Longest: Lifetime(longest), OldLongest: max(s.OldLongest, s.Longest),
	}
}

// Raise returns the state in which a certificate may live that long.
func (s State) Raise(lifetime time.Duration) State {
	s.Longest = max(s.Longest, Lifetime(lifetime))
	return s
}

// Until returns when the phase ends at the earliest; zero while nobody can know.
func (s State) Until(f Facts) time.Time {
	switch {
	case s.Phase == v1alpha1.RotationPublishing && !s.Published.IsZero():
		return s.Published.Add(f.Propagation)
	case s.Phase == v1alpha1.RotationSigning:
		until := s.Since.Add(time.Duration(s.OldLongest)).Add(min(f.Propagation, maxMargin))
		if !f.OldNotAfter.IsZero() && f.OldNotAfter.Before(until) {
			return f.OldNotAfter
		}
		return until
	}
	return time.Time{}
}

// Due returns when a root that is valid from one time to another is to be replaced: when two thirds of its life have passed, or
// earlier if the rest would be too short to wait for everybody twice.
func Due(notBefore, notAfter time.Time, propagation time.Duration) time.Time {
	life := notAfter.Sub(notBefore)
	due := notBefore.Add(life / 3 * 2)
	if early := notAfter.Add(-2 * propagation); early.Before(due) {
		due = early
	}
	if first := notBefore.Add(life / 3); due.Before(first) {
		return first
	}
	return due
}
