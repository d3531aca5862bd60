// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package terminal writes for people who read at a terminal. What others chose, such as the names in a request, goes through
// Escape before it is written, so that it can neither move the cursor nor look like something else.
package terminal

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// Escape returns text with everything that a terminal does not simply print written as an escape sequence of Go: control
// characters, marks that change the direction of text, characters without width or ink, marks that are drawn onto the letter
// before them, spaces other than the plain one, and bytes that are not UTF-8.
func Escape(text string) string {
	var b strings.Builder
	for rest := text; rest != ""; {
		r, size := utf8.DecodeRuneInString(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, rest[0])
		case strconv.IsPrint(r) && !unseen(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		rest = rest[size:]
	}
	return b.String()
}

// unseen reports whether a character that counts as printable shows nothing of its own: fillers, the blank of Braille, and what
// strikes out or changes its neighbour.
func unseen(r rune) bool {
	const blankBraille = '\u2800'
	return r == blankBraille || unicode.IsMark(r) || unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r)
}

// EscapeAll escapes each of the texts.
func EscapeAll(texts []string) []string {
	escaped := make([]string, 0, len(texts))
	for _, text := range texts {
		escaped = append(escaped, Escape(text))
	}
	return escaped
}

// ColorMode says when to write in colour.
type ColorMode string

// The modes of colour. Auto means on a terminal, unless NO_COLOR is set (no-color.org) or TERM is dumb.
const (
	ColorAuto   ColorMode = "auto"
	ColorAlways ColorMode = "always"
	ColorNever  ColorMode = "never"
)

// Set reads the value of a flag.
func (m *ColorMode) Set(text string) error {
	switch mode := ColorMode(text); mode {
	case ColorAuto, ColorAlways, ColorNever:
		*m = mode
		return nil
	}
	return fmt.Errorf("must be %s, %s or %s", ColorAuto, ColorAlways, ColorNever)
}

// String returns the mode.
func (m *ColorMode) String() string { return string(*m) }

// Type names the kind of value in help texts.
func (m *ColorMode) Type() string { return "when" }

// Palette colours text, or leaves it as it is: its zero value does. The text must be fit for a terminal already.
type Palette struct{ on bool }

// NewPalette returns the palette for what is written to out.
func NewPalette(mode ColorMode, out io.Writer, getenv func(string) string) Palette {
	switch mode {
	case ColorAlways:
		return Palette{on: true}
	case ColorNever:
		return Palette{}
	}
	return Palette{on: getenv("NO_COLOR") == "" && getenv("TERM") != "dumb" && IsTerminal(out)}
}

// IsTerminal reports whether a stream, such as os.Stdin, is a terminal.
func IsTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// Good is for what is as it should be.
func (p Palette) Good(text string) string { return p.paint("32", text) }

// Bad is for what is wrong.
func (p Palette) Bad(text string) string { return p.paint("31", text) }

// Warn is for what needs attention.
func (p Palette) Warn(text string) string { return p.paint("33", text) }

// Strong is for headings.
func (p Palette) Strong(text string) string { return p.paint("1", text) }

// Faint is for what can be passed over.
func (p Palette) Faint(text string) string { return p.paint("2", text) }

func (p Palette) paint(code, text string) string {
	if !p.on || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
