// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
)

const (
	day         = 24 * time.Hour
	propagation = time.Hour
)

var now = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

func publishing(published time.Time) State {
	return State{Phase: v1alpha1.RotationPublishing, Since: now.Add(-2 * day), Published: published, Longest: Lifetime(day)}
}

func signing(since time.Time) State {
	return State{Phase: v1alpha1.RotationSigning, Since: since, Longest: Lifetime(time.Hour), OldLongest: Lifetime(day)}
}

func TestNext(t *testing.T) {
	idle := State{Longest: Lifetime(day)}
	for name, c := range map[string]struct {
		state  State
		change func(*Facts)
		step   Step
		want   func(State) State // nil for the same
	}{
		"nothing is due":     {idle, nil, None, nil},
		"nothing is written": {State{}, nil, Raise, func(State) State { return idle }},
		"longer lives":       {idle, func(f *Facts) { f.MaxDuration = 2 * day }, Raise, func(s State) State { s.Longest = Lifetime(2 * day); return s }},
		"shorter lives":      {idle, func(f *Facts) { f.MaxDuration = time.Minute }, None, nil},
		"due": {idle, func(f *Facts) { f.Due = true }, Begin, func(s State) State {
			s.Phase, s.Since = v1alpha1.RotationPublishing, now
			return s
		}},
		"due again while it is under way": {signing(now), func(f *Facts) { f.Due, f.MaxDuration = true, time.Hour }, None, nil},
		"intermediate":                    {publishing(now), func(f *Facts) { f.Renew = true }, Renew, nil},
		"not seen":                        {publishing(time.Time{}), func(f *Facts) { f.Seen = answers(false, nil) }, None, nil},
		"seen":                            {publishing(time.Time{}), nil, Seen, func(s State) State { s.Published = now; return s }},
		"seen by a clock that was ahead":  {publishing(now.Add(day)), nil, None, nil},
		"seen, and some are behind":       {fresh(now.Add(-time.Minute)), behind, None, nil},
		"seen, and some stay behind":      {fresh(now.Add(-propagation)), behind, Seen, func(s State) State { s.Published = now; return s }},
		"over, and some are behind":       {signing(now.Add(-day - maxMargin)), func(f *Facts) { f.MaxDuration = time.Hour; behind(f) }, None, nil},
		"over, and some stay behind":      {signing(now.Add(-2*day - 2*maxMargin)), func(f *Facts) { f.MaxDuration = time.Hour; behind(f) }, Finish, func(s State) State { return State{Longest: s.Longest} }},
		"not everybody had time":          {publishing(now.Add(time.Second - propagation)), nil, None, nil},
		"everybody had time": {publishing(now.Add(-propagation)), nil, Switch, func(State) State {
			return State{Phase: v1alpha1.RotationSigning, Since: now, Longest: Lifetime(day), OldLongest: Lifetime(day)}
		}},
		"the bundle was taken away":     {publishing(now.Add(-propagation)), func(f *Facts) { f.Seen = answers(false, nil) }, None, nil},
		"it was published for long":     {publishing(time.Time{}), func(f *Facts) { f.Now = now.Add(30 * day); f.Seen = answers(false, nil) }, None, nil},
		"a certificate may live on":     {signing(now.Add(-day)), nil, Raise, func(s State) State { s.Longest = Lifetime(day); return s }},
		"a certificate may still live":  {signing(now.Add(-day)), func(f *Facts) { f.MaxDuration = time.Hour }, None, nil},
		"the last one has expired":      {signing(now.Add(-day - maxMargin)), func(f *Facts) { f.MaxDuration = time.Hour }, Finish, func(s State) State { return State{Longest: s.Longest} }},
		"the old root itself expired":   {signing(now.Add(-time.Minute)), func(f *Facts) { f.MaxDuration, f.OldNotAfter = time.Hour, now }, Finish, func(s State) State { return State{Longest: s.Longest} }},
		"the old root expires later":    {signing(now.Add(-time.Minute)), func(f *Facts) { f.MaxDuration, f.OldNotAfter = time.Hour, now.Add(time.Second) }, None, nil},
		"the clock was ahead, and back": {signing(now.Add(day)), func(f *Facts) { f.MaxDuration = time.Hour }, None, nil},
		"compromised":                   {idle, func(f *Facts) { f.Compromised = true }, Replace, nil},
		"compromised while publishing": {publishing(now), func(f *Facts) { f.Compromised, f.Renew = true, true }, Replace, func(State) State {
			return State{Longest: Lifetime(day)}
		}},
		"compromised while signing": {signing(now), func(f *Facts) { f.Compromised = true }, Replace, func(State) State { return State{Longest: Lifetime(day)} }},
	} {
		t.Run(name, func(t *testing.T) {
			f := Facts{Now: now, Propagation: propagation, MaxDuration: day, Seen: answers(true, nil)}
			if c.change != nil {
				c.change(&f)
			}
			f.Over = func(until time.Time) bool { return !f.Now.Before(until) }
			if f.Behind == nil {
				f.Behind = nobody
			}
			if f.Time == nil {
				f.Time = says(f.Now)
			}
			want := c.state
			if c.want != nil {
				want = c.want(c.state)
			}
			step, state, err := c.state.Next(f)
			if step != c.step || state != want || err != nil {
				t.Errorf("step %d, %+v, error %v, want step %d, %+v", step, state, err, c.step, want)
			}
		})
	}
}

// fresh is a rotation that began a while ago.
func fresh(since time.Time) State {
	s := publishing(time.Time{})
	s.Since = since
	return s
}

func behind(f *Facts) { f.Behind = func() bool { return true } }

func nobody() bool { return false }

func answers(seen bool, err error) func() (bool, error) {
	return func() (bool, error) { return seen, err }
}

func says(t time.Time) func() (time.Time, error) {
	return func() (time.Time, error) { return t, nil }
}

// A process that begins with a wrong clock cannot know that by itself.
func TestAnotherClockIsAsked(t *testing.T) {
	away := errors.New("connection refused")
	later := now.Add(day)
	for name, c := range map[string]struct {
		state State
		time  func() (time.Time, error)
		step  Step
		at    time.Time // that is written down
		err   string
	}{
		"publishing, ours is a day ahead": {publishing(later.Add(-propagation)), says(now), None, time.Time{}, "the clock of the node that this runs on is 24h0m0s ahead of the API server's"},
		"signing, ours is a day ahead":    {signing(later.Add(-day - 2*maxMargin)), says(now), None, time.Time{}, "set right the one that is wrong"},
		"ours is a second ahead":          {publishing(later.Add(-propagation)), says(later.Add(-time.Second)), None, time.Time{}, ""},
		"the other one is ahead":          {publishing(later.Add(-propagation)), says(later.Add(time.Minute)), Switch, later.Add(time.Minute), ""},
		"seen, the other one is ahead":    {publishing(time.Time{}), says(later.Add(time.Minute)), Seen, later.Add(time.Minute), ""},
		"seen, ours is ahead":             {publishing(time.Time{}), says(later.Add(-time.Minute)), Seen, later, ""},
		"seen, ours is a day ahead":       {publishing(time.Time{}), says(now), None, time.Time{}, "set right the one that is wrong"},
		"seen, ours is a day behind":      {publishing(time.Time{}), says(later.Add(day)), None, time.Time{}, "24h0m0s behind the API server's"},
		"it does not say when seen":       {publishing(time.Time{}), func() (time.Time, error) { return later, away }, None, time.Time{}, away.Error()},
		"it does not say when signing":    {signing(now.Add(-2 * day)), func() (time.Time, error) { return later, away }, None, time.Time{}, away.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			f := Facts{
				Now: later, Propagation: propagation, MaxDuration: time.Hour, Seen: answers(true, nil), Behind: nobody, Time: c.time,
				Over: func(until time.Time) bool { return !later.Before(until) },
			}
			step, state, err := c.state.Next(f)
			if step != c.step || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("step %d, error %v, want step %d, error %q", step, err, c.step, c.err)
			}
			if written := map[Step]time.Time{Seen: state.Published, Switch: state.Since}[step]; !written.Equal(c.at) {
				t.Errorf("it writes down %s, want %s", written, c.at)
			}
		})
	}
}

// What is made by a clock that is ahead is not valid when it is needed: nothing could be signed with it.
func TestNothingIsMadeByAWrongClock(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Facts)
		step   Step
	}{
		"due":          {func(f *Facts) { f.Due = true }, Begin},
		"intermediate": {func(f *Facts) { f.Renew = true }, Renew},
		"compromised":  {func(f *Facts) { f.Compromised = true }, Replace},
	} {
		t.Run(name, func(t *testing.T) {
			idle := State{Longest: Lifetime(day)}
			for _, apart := range []time.Duration{-day, -maxMargin - 1, -maxMargin, 0, maxMargin, maxMargin + 1, day} {
				f := Facts{Now: now, MaxDuration: day, Time: says(now.Add(apart))}
				c.change(&f)
				step, state, err := idle.Next(f)
				switch {
				case apart.Abs() > maxMargin && (step != None || state != idle || err == nil):
					t.Errorf("%s apart: step %d, %+v, error %v", apart, step, state, err)
				case apart.Abs() <= maxMargin && (step != c.step || err != nil):
					t.Errorf("%s apart: step %d, error %v", apart, step, err)
				}
				if want := now.Add(max(apart, 0)); step == Begin && !state.Since.Equal(want) {
					t.Errorf("%s apart: it began at %s, want %s", apart, state.Since, want)
				}
			}
		})
	}
}

func TestTroubleWithTheBundleTakesNoStep(t *testing.T) {
	away := errors.New("connection refused")
	for _, s := range []State{publishing(time.Time{}), publishing(now.Add(-propagation))} {
		step, state, err := s.Next(Facts{Now: now, Propagation: propagation, Seen: answers(true, away), Behind: nobody, Over: func(time.Time) bool { return true }})
		if step != None || state != s || !errors.Is(err, away) {
			t.Errorf("step %d, %+v, error %v", step, state, err)
		}
	}
}

// No two steps may come out of one, and the longest lifetime below a root is known until that root is gone.
func TestAllStepsInOrder(t *testing.T) {
	s, at := State{}, now
	var steps []Step
	due := true
	for range 1000 {
		f := Facts{
			Now: at, Propagation: propagation, MaxDuration: day, Due: due, Seen: answers(true, nil), Behind: nobody, Time: says(at),
			Over: func(until time.Time) bool { return !at.Before(until) },
		}
		step, next, err := s.Next(f)
		if err != nil {
			t.Fatal(err)
		}
		if step != None {
			steps = append(steps, step)
			due = false
		}
		s, at = next, at.Add(10*time.Minute)
	}
	if want := []Step{Begin, Raise, Seen, Switch, Finish}; len(steps) != len(want) {
		t.Fatalf("steps %v, want %v", steps, want)
	}
	if s != (State{Longest: Lifetime(day)}) {
		t.Errorf("it ends with %+v", s)
	}
}

func TestDue(t *testing.T) {
	for name, c := range map[string]struct{ life, propagation, want time.Duration }{
		"ten years":         {3650 * day, time.Hour, 3650 * day / 3 * 2},
		"slow to propagate": {90 * day, 20 * day, 50 * day},
		"too slow":          {time.Hour, time.Hour, 20 * time.Minute},
		"quick":             {time.Hour, time.Second, 40 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Due(now, now.Add(c.life), c.propagation).Sub(now); got != c.want {
				t.Errorf("due after %s, want %s", got, c.want)
			}
		})
	}
}

func TestEncoding(t *testing.T) {
	for _, s := range []State{{}, {Longest: Lifetime(time.Hour)}, publishing(time.Time{}), publishing(now.Add(time.Nanosecond)), signing(now)} {
		text, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Decode(text); err != nil || got != s {
			t.Errorf("%s is read as %+v, error %v, want %+v", text, got, err, s)
		}
	}
	if s, err := Decode(nil); err != nil || s != (State{}) {
		t.Errorf("nothing is read as %+v, error %v", s, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"no JSON":           {"Publishing", "invalid character"},
		"another phase":     {`{"phase":"Paused","since":"2026-05-04T03:02:01Z"}`, `phase "Paused" is not one of Publishing, Signing`},
		"no time":           {`{"phase":"Signing"}`, "no time at which it began"},
		"a phase was there": {`{"since":"2026-05-04T03:02:01Z"}`, `phase "" is not one of`},
		"no duration":       {`{"longest":"a day"}`, "a day"},
		"less than nothing": {`{"longest":"-24h"}`, "less than nothing"},
		"no time of day":    {`{"phase":"Signing","since":"yesterday"}`, "yesterday"},
	} {
		t.Run(name, func(t *testing.T) {
			if s, err := Decode([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) || s != (State{}) {
				t.Errorf("got %+v, error %v, want one that says %q", s, err, c.want)
			}
		})
	}
}

// wall is a clock whose time of day can be set, while the time that passes goes on.
type wall struct {
	passed time.Duration
	offset time.Duration
}

func (w *wall) Now() time.Time { return now.Add(w.passed + w.offset) }

// Since measures as the monotonic clock does: the time of day when the mark was made is what it was then, whatever the clock says now.
func (w *wall) Since(mark time.Time) time.Duration { return now.Add(w.passed).Sub(mark) }

func TestWatch(t *testing.T) {
	until := now.Add(time.Hour)
	t.Run("time passes", func(t *testing.T) {
		w, clk := Watch{}, &wall{}
		for _, c := range []struct {
			passed time.Duration
			over   bool
		}{{0, false}, {time.Hour - 1, false}, {time.Hour, true}, {2 * time.Hour, true}} {
			clk.passed = c.passed
			if got := w.Over(clk, until); got != c.over {
				t.Errorf("after %s: %t", c.passed, got)
			}
		}
	})
	t.Run("the clock jumps ahead", func(t *testing.T) {
		w, clk := Watch{}, &wall{}
		w.Over(clk, until)
		clk.offset = 5 * time.Hour
		if w.Over(clk, until) {
			t.Error("the wait got shorter")
		}
		clk.passed = time.Hour
		if !w.Over(clk, until) {
			t.Error("the wait has no end")
		}
	})
	t.Run("the clock jumps back", func(t *testing.T) {
		w, clk := Watch{}, &wall{}
		w.Over(clk, until)
		clk.passed, clk.offset = time.Hour, -time.Minute
		if w.Over(clk, until) {
			t.Error("over before the time of day says so")
		}
		clk.passed += time.Minute
		if !w.Over(clk, until) {
			t.Error("the wait has no end")
		}
	})
	t.Run("a new process finds it over", func(t *testing.T) {
		w, clk := Watch{}, &wall{passed: 2 * time.Hour}
		if !w.Over(clk, until) {
			t.Error("what passed while nobody ran does not count")
		}
	})
	t.Run("another time", func(t *testing.T) {
		w, clk := Watch{}, &wall{passed: 2 * time.Hour}
		if w.Over(clk, until); w.Over(clk, until.Add(2*time.Hour)) {
			t.Error("a later time is over with the earlier one")
		}
	})
}

// Whatever is read is written as it was read, or refused.
func FuzzDecode(f *testing.F) {
	for _, s := range []State{{}, publishing(now), signing(now)} {
		text, err := s.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"phase":"Signing","since":"2026-05-04T03:02:01+01:00","oldLongest":"1h"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Decode(text)
		if err != nil {
			if s != (State{}) {
				t.Errorf("refused, and read as %+v", s)
			}
			return
		}
		again, err := s.Encode()
		if err != nil {
			t.Fatalf("%+v cannot be written: %v", s, err)
		}
		same, err := Decode(again)
		if err != nil || same.Phase != s.Phase || !same.Since.Equal(s.Since) || !same.Published.Equal(s.Published) || same.Longest != s.Longest || same.OldLongest != s.OldLongest {
			t.Errorf("%+v is read again as %+v, error %v", s, same, err)
		}
	})
}
