// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package excerpt

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestOf(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		limit int
		want  string
	}{
		"fits":                  {"abc", 3, "abc"},
		"cut":                   {"abcdefgh", 6, "abc…"},
		"between characters":    {"aéééé", 7, "aé…"},
		"no UTF-8":              {"a\xffb", 9, "a\uFFFDb"},
		"no UTF-8 counts as it": {"\xffa\xffb\xffc", 7, "\uFFFDa…"},
		"no room":               {"abcdefgh", 1, "…"},
		"empty":                 {"", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Of(c.text, c.limit); got != c.want {
				t.Errorf("Of(%q, %d) is %q, want %q", c.text, c.limit, got, c.want)
			}
		})
	}
}

func TestLine(t *testing.T) {
	if got := Line("  two\n\tlines \r\n", 20); got != "two lines" {
		t.Errorf("got %q", got)
	}
}

func FuzzOf(f *testing.F) {
	f.Add("aéé\xff", 4)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		got := Of(text, limit)
		if !utf8.ValidString(got) || len(got) > max(limit, len(ellipsis)) {
			t.Errorf("Of(%q, %d) is %q", text, limit, got)
		}
		if whole := strings.ToValidUTF8(text, "\uFFFD"); got != whole && !strings.HasPrefix(whole, strings.TrimSuffix(got, ellipsis)) {
			t.Errorf("Of(%q, %d) is %q, which is no start of it", text, limit, got)
		}
	})
}

// The API server refuses a longer one, and what it is about would never be told.
func TestConditionFits(t *testing.T) {
	if got := Condition(strings.Repeat("é\xff", 1<<20)); len(got) > 32768 || !utf8.ValidString(got) || !strings.HasSuffix(got, ellipsis) {
		t.Errorf("%d bytes, valid UTF-8: %t", len(got), utf8.ValidString(got))
	}
	if got := Condition("nothing is wrong"); got != "nothing is wrong" {
		t.Errorf("got %q", got)
	}
}
