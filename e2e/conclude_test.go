// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// Errorf complains, and has the complaint repeated at the end of the run.
func (s *story) Errorf(format string, args ...any) {
	s.Helper()
	s.complain(fmt.Sprintf(format, args...))
	s.Fail()
}

// Error is as Errorf.
func (s *story) Error(args ...any) {
	s.Helper()
	s.complain(fmt.Sprint(args...))
	s.Fail()
}

// Fatalf complains in the same way, and ends the test.
func (s *story) Fatalf(format string, args ...any) {
	s.Helper()
	s.complain(fmt.Sprintf(format, args...))
	s.FailNow()
}

// Fatal is as Fatalf.
func (s *story) Fatal(args ...any) {
	s.Helper()
	s.complain(fmt.Sprint(args...))
	s.FailNow()
}

func (s *story) complain(text string) {
	s.Helper()
	s.Log(text)
	told.Lock()
	defer told.Unlock()
	s.complaints = append(s.complaints, text)
}

// complained says whether the story itself went wrong, and not only one that is part of it.
func (s *story) complained() bool {
	told.Lock()
	defer told.Unlock()
	return len(s.complaints) > 0
}

// figure logs what was measured, and has it repeated at the end of the run: go test shows nothing else of a test that passes.
func (s *story) figure(format string, args ...any) {
	s.Helper()
	text := fmt.Sprintf(format, args...)
	s.Log(text)
	told.Lock()
	defer told.Unlock()
	s.figures = append(s.figures, text)
}

// endInTime ends a run that hangs just before go test would, which tells where each goroutine is and nothing else.
func endInTime() {
	limit := flag.Lookup("test.timeout").Value.(flag.Getter).Get().(time.Duration)
	if limit < time.Minute {
		return // none, or one that is not meant for all tests
	}
	time.AfterFunc(limit-10*time.Second, func() {
		told.Lock()
		for _, s := range told.stories {
			if !s.ended {
				s.complaints = append(s.complaints, "it was not done when the time was up")
			}
		}
		told.Unlock()
		conclude(os.Stdout)
		os.Exit(1)
	})
}

// conclude writes what all stories measured, and then what went wrong, as whoever looks at a long run begins at its end.
func conclude(to io.Writer) {
	told.Lock()
	defer told.Unlock()
	list := func(title string, of func(*story) []string, most int) {
		for _, s := range told.stories {
			texts := of(s)
			if len(texts) == 0 {
				continue
			}
			fmt.Fprintf(to, "%s%s (%s)\n", title, s.Name(), s.name)
			title = ""
			for _, text := range texts[:min(len(texts), most)] {
				fmt.Fprintf(to, "    %s\n", strings.ReplaceAll(beginning(text, 6, 1200), "\n", "\n    "))
			}
			if more := len(texts) - most; more > 0 {
				fmt.Fprintf(to, "    and %d more\n", more)
			}
		}
	}
	list("\nWhat was measured:\n", func(s *story) []string { return s.figures }, 20)
	list("\nWhat failed:\n", func(s *story) []string { return s.complaints }, 3)
}

// beginning returns the first lines of a text, and no more bytes than that.
func beginning(text string, lines, size int) string {
	text = strings.TrimSpace(text)
	if all := strings.SplitAfterN(text, "\n", lines+1); len(all) > lines {
		text = strings.Join(all[:lines], "") + "..."
	}
	if len(text) > size {
		text = text[:size] + "..."
	}
	return text
}
