// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/utils/clock"

	"github.com/certwright/certwright/terminal"
)

var (
	// code matches what is meant to be typed: blocks of code, and code within sentences.
	code = regexp.MustCompile("(?s)```.*?```|`[^`]+`")
	// ours matches a command up to what a shell would take for its end, and word a part of it.
	ours = regexp.MustCompile(`kubectl certwright( (?:"[^"\n]*"|'[^'\n]*'|[^\n|;&#"'` + "`" + `<>])+)`)
	word = regexp.MustCompile(`"[^"]*"|'[^']*'|\S+`)
)

// TestGuidesNameRealCommands holds every command line in the guides against the program: its command, its arguments and its flags.
func TestGuidesNameRealCommands(t *testing.T) {
	checked := map[string]bool{}
	for _, guide := range guides(t) {
		text, err := os.ReadFile(guide)
		if err != nil {
			t.Fatal(err)
		}
		for _, typed := range code.FindAllString(string(text), -1) {
			for _, found := range ours.FindAllStringSubmatch(strings.ReplaceAll(typed, "\\\n", " "), -1) {
				if checked[found[1]] {
					continue
				}
				checked[found[1]] = true
				if err := understood(word.FindAllString(found[1], -1)); err != nil {
					t.Errorf("%s: kubectl certwright%s: %v", guide, found[1], err)
				}
			}
		}
	}
	if len(checked) < 30 {
		t.Errorf("found only %d command lines: has the form changed?", len(checked))
	}
}

// guides are all pages for people.
func guides(t *testing.T) []string {
	t.Helper()
	all := []string{"../../README.md"}
	err := filepath.WalkDir("../../docs", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// understood says what is wrong with the words of a command line, whatever cluster there is. Sentences name commands without their
// arguments: only words that are there are looked at.
func understood(words []string) error {
	root := newRoot(&cli{
		IOStreams: genericiooptions.IOStreams{In: strings.NewReader(""), Out: io.Discard, ErrOut: io.Discard},
		config:    genericclioptions.NewConfigFlags(true), color: terminal.ColorAuto, clock: clock.RealClock{},
	})
	command, rest, err := root.Find(words)
	if err != nil {
		return err
	}
	if err := command.ParseFlags(rest); err != nil {
		return err
	}
	if arguments := command.Flags().Args(); len(arguments) > 0 {
		return command.ValidateArgs(arguments)
	}
	return nil
}
