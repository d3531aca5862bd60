// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"bytes"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestEscape(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, want string }{
		"plain text":             {"web.shop.svc (ECDSA) \"x\" \\ ~", "web.shop.svc (ECDSA) \"x\" \\ ~"},
		"letters of any script":  {"büro 東京", "büro 東京"},
		"terminal escape":        {"a\x1b[2Jb", `a\x1b[2Jb`},
		"C1 control":             {"a\u009b31mb", `a\u009b31mb`},
		"line and tab":           {"a\nb\tc\rd", `a\nb\tc\rd`},
		"NUL and DEL":            {"a\x00b\x7f", `a\x00b\x7f`},
		"right-to-left":          {"a\u202egnp", `a\u202egnp`},
		"without width":          {"a\u200bb\ufeff", `a\u200bb\ufeff`},
		"fillers without ink":    {"a\u3164b\u115fc\u2800d\uffa0", `a\u3164b\u115fc\u2800d\uffa0`},
		"marks on other letters": {"no\u0336e\u0301", `no\u0336e\u0301`},
		"variants of letters":    {"a\ufe0f", `a\ufe0f`},
		"other spaces":           {"a\u00a0b\u2028c", `a\u00a0b\u2028c`},
		"no UTF-8":               {"a\xffb\xc0\x80", `a\xffb\xc0\x80`},
		"replacement character":  {"a\ufffdb", "a\ufffdb"},
		"private use":            {"\ue000", `\ue000`},
		"nothing":                {"", ""},
	} {
		if got := Escape(tc.text); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("a\x1b[2J\u202e\xff")
	f.Fuzz(func(t *testing.T, text string) {
		got := Escape(text)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q became %q", text, got)
		}
		if Escape(got) != got {
			t.Errorf("%q changes when it is escaped again", got)
		}
	})
}

func TestPalette(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	env := func(values map[string]string) func(string) string {
		return func(name string) string { return values[name] }
	}
	if got := NewPalette(ColorAlways, &out, env(map[string]string{"NO_COLOR": "1"})).Bad("x"); got != "\x1b[31mx\x1b[0m" {
		t.Errorf("always: got %q", got)
	}
	for name, p := range map[string]Palette{
		"never":          NewPalette(ColorNever, &out, env(nil)),
		"no terminal":    NewPalette(ColorAuto, &out, env(nil)),
		"the zero value": {},
	} {
		if got := p.Good("a") + p.Bad("b") + p.Warn("c") + p.Strong("d") + p.Faint("e"); got != "abcde" {
			t.Errorf("%s: got %q", name, got)
		}
	}
	if got := (Palette{on: true}).Good(""); got != "" {
		t.Errorf("nothing: got %q", got)
	}
}

func TestColorMode(t *testing.T) {
	t.Parallel()
	mode := ColorAuto
	if err := mode.Set("always"); err != nil || mode != ColorAlways || mode.String() != "always" {
		t.Errorf("always: got %q and %v", mode, err)
	}
	if err := mode.Set("sometimes"); err == nil || mode != ColorAlways {
		t.Errorf("sometimes: got %q and %v", mode, err)
	}
}
