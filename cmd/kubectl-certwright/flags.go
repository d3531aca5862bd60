// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// choice is the value of a flag that is one of several.
type choice struct {
	value   string
	allowed []string
	// kind names it in help texts.
	kind string
}

// Set reads the value of the flag.
func (c *choice) Set(text string) error {
	if !slices.Contains(c.allowed, text) {
		return fmt.Errorf("must be one of %s", strings.Join(c.allowed, ", "))
	}
	c.value = text
	return nil
}

func (c *choice) String() string { return c.value }

// Type names the kind of value in help texts.
func (c *choice) Type() string { return c.kind }

// addFlag adds the flag with these values. Without it the value is what it was before or, failing that, the first one.
func (c *choice) addFlag(cmd *cobra.Command, name, shorthand, usage string, allowed ...string) *pflag.Flag {
	c.value, c.allowed = cmp.Or(c.value, allowed[0]), allowed
	flag := cmd.Flags().VarPF(c, name, shorthand, usage+": "+strings.Join(allowed, ", "))
	completeFlag(cmd, name, cobra.FixedCompletions(allowed, cobra.ShellCompDirectiveNoFileComp))
	return flag
}

// format is the value of the flag -o.
type format struct{ choice }

// addFlag adds the flag for a command with formats of its own; the first is for people.
func (f *format) addFlag(cmd *cobra.Command, formats ...string) {
	f.kind = "format"
	f.choice.addFlag(cmd, "output", "o", "format of the output", formats...)
}

// forPrograms tells whether a program reads the output, and nothing but the result belongs there.
func (f *format) forPrograms() bool { return f.value != f.allowed[0] }

// dryRun is the value of the flag --dry-run, which kubectl has.
type dryRun struct{ choice }

func (d *dryRun) addFlag(cmd *cobra.Command) {
	d.kind = "how"
	d.choice.addFlag(cmd, "dry-run", "", "write nothing: only say what would be done (client, also without a value), or have the API server check it as well (server)",
		"none", "client", "server").NoOptDefVal = "client"
}

func (d *dryRun) wanted() bool { return d.value != "none" }

// asksServer tells whether the API server is to check what would be written.
func (d *dryRun) asksServer() bool { return d.value == "server" }

// between wants so many arguments of a command, and shows its form otherwise.
func between(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return fmt.Errorf("something is missing: write %s", cmd.UseLine())
		case len(args) > most:
			return fmt.Errorf("%q is too much: write %s", args[most], cmd.UseLine())
		}
		return nil
	}
}

// anyNumber is for between.
const anyNumber = math.MaxInt
