// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

// screen prints for a person who watches: colours on a terminal, plain text elsewhere.
type screen struct {
	out    io.Writer
	colour bool
	step   int
}

func newScreen(f *os.File) screen {
	info, err := f.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return screen{out: f, colour: terminal && os.Getenv("NO_COLOR") == ""}
}

const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
	cyan  = "36"
)

func (s *screen) paint(style, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

func (s *screen) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

func (s *screen) title(text string) { s.say("\n%s", s.paint(bold, text)) }

// heading opens a step.
func (s *screen) heading(text string) {
	s.step++
	s.say("\n%s  %s", s.paint(bold+";"+cyan, fmt.Sprint(s.step)), s.paint(bold, text))
}

// tell explains what happens.
func (s *screen) tell(format string, args ...any) { s.say("   "+format, args...) }

// command shows what is about to be run.
func (s *screen) command(line string) { s.say("   %s", s.paint(dim, "$ "+line)) }

// good closes a part of a step, with how long it took.
func (s *screen) good(took time.Duration, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if took > 0 {
		text += s.paint(dim, fmt.Sprintf("  (%.1f s)", took.Seconds()))
	}
	s.say("   %s %s", s.paint(green, "✓"), text)
}

func (s *screen) bad(format string, args ...any) {
	s.say("%s %s", s.paint(red, "✗"), fmt.Sprintf(format, args...))
}

// quote shows output of a command, indented.
func (s *screen) quote(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		s.say("     %s", strings.TrimRight(line, "\n"))
	}
}

// box prints a summary of two columns.
func (s *screen) box(title string, rows [][2]string) {
	left, right := 0, 0
	for _, row := range rows {
		left, right = max(left, utf8.RuneCountInString(row[0])), max(right, utf8.RuneCountInString(row[1]))
	}
	width := max(left+right+3, utf8.RuneCountInString(title))
	pad := func(text string, to int) string {
		return text + strings.Repeat(" ", max(0, to-utf8.RuneCountInString(text)))
	}
	line := strings.Repeat("─", width+2)
	s.say("\n╭%s╮", line)
	s.say("│ %s │", s.paint(bold, pad(title, width)))
	s.say("├%s┤", line)
	for _, row := range rows {
		s.say("│ %s │", pad(pad(row[0], left)+"   "+row[1], width))
	}
	s.say("╰%s╯\n", line)
}
