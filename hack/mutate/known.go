// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"
)

// known are mutants that do the same as the original, by file, line of code and change, with the reason why. The line's
// number is left out, so that an entry holds until the line itself changes.
type known map[[3]string]string

func (m mutant) key() [3]string { return [3]string{m.file, m.code, m.change} }

// readKnown reads entries of four lines, the file, the code, the change and the reason, with an empty line between entries.
// Lines that begin with # are comments.
func readKnown(path string) (known, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	all := known{}
	for entry := range strings.SplitSeq(strings.Join(lines, "\n"), "\n\n") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		fields := strings.Split(entry, "\n")
		if len(fields) != 4 {
			return nil, fmt.Errorf("reading %s: an entry has %d lines, and must have 4, the file, the code, the change and the reason:\n%s", path, len(fields), entry)
		}
		all[[3]string(fields[:3])] = fields[3]
	}
	return all, nil
}
