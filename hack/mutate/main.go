// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command mutate asks whether the tests of a package would notice a mistake in it. It changes the package in one place
// after the other, runs the tests, and tells which changes they let pass.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

const usage = `mutate changes packages in one place at a time and runs their tests, which ought to fail.

Usage:
  mutate [--only REGEXP] PACKAGE ...

It flips comparisons (== and !=, < and <=, < and >=), moves integer limits by one, flips && and ||, ! and conditions without
an operator, true and false, and skips each guard (an if that returns or goes on with the loop, a case without a switch tag).
The tree is not touched.

It fails if the tests notice less than --least percent of the changes. Changes without effect are listed in the file of
--known with the reason why, and do not count; it fails as well if an entry of that file is not of a change that is let pass.

Example:
  mutate ./csr ./policy
  mutate --only 'csr/uri.go:1[0-9]:' ./csr

Flags:
`

// options are the flags.
type options struct {
	known    string
	only     *regexp.Regexp
	least    float64
	patience time.Duration
	workers  int
}

func main() {
	flags := flag.NewFlagSet("mutate", flag.ExitOnError)
	var o options
	flags.StringVar(&o.known, "known", "hack/mutate/survivors.txt", "the file that lists changes without effect")
	only := flags.String("only", "", "try only mutants whose FILE:LINE: CODE matches; the list of --known is not checked then")
	flags.Float64Var(&o.least, "least", 95, "the percentage that must be noticed")
	flags.DurationVar(&o.patience, "patience", 5*time.Second, "how long tests may take with a change, besides ten times what they take without")
	flags.IntVar(&o.workers, "workers", 2, "how many test programs run at a time")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	_ = flags.Parse(os.Args[1:]) // It exits by itself on a wrong flag.
	var err error
	if *only != "" {
		o.only, err = regexp.Compile(*only)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	if err == nil {
		err = run(ctx, o, flags.Args(), os.Stdout)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

// run tries all mutants of the packages, which are paths below the working directory.
func run(ctx context.Context, o options, packages []string, out io.Writer) error {
	if len(packages) == 0 {
		return fmt.Errorf("need at least one package, such as ./csr; see mutate --help")
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	excused, err := readKnown(o.known)
	if err != nil {
		return err
	}
	all, err := list(ctx, root, packages)
	if err != nil {
		return err
	}
	exports := map[string]string{}
	for _, p := range all {
		exports[p.ImportPath] = p.Export
	}
	count := tally{excused: excused, used: map[[3]string]bool{}, out: out}
	for _, p := range all {
		if p.DepOnly {
			continue
		}
		mutants, survivors, err := try(ctx, o, root, p, exports, out)
		if err != nil {
			return fmt.Errorf("%s: %w", p.ImportPath, err)
		}
		count.add(p.relative(root), len(mutants), survivors)
	}
	return count.verdict(o)
}

// try returns the mutants of one package, and which of them its tests let pass.
func try(ctx context.Context, o options, root string, p listed, exports map[string]string, out io.Writer) (mutants, survivors []mutant, err error) {
	dir, err := os.MkdirTemp("", "mutate-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	program, mutants, err := build(ctx, root, dir, p, exports)
	if err != nil {
		return nil, nil, err
	}
	if o.only != nil {
		mutants = slices.DeleteFunc(mutants, func(m mutant) bool { return !o.only.MatchString(fmt.Sprintf("%s:%d: %s", m.file, m.line, m.code)) })
	}
	r := runner{program: program, dir: p.Dir}
	if err := r.measure(ctx, o.patience); err != nil {
		return nil, nil, err
	}
	survivors = r.survivors(ctx, mutants, o.workers, func(so counts) {
		if so.tried%100 == 0 || so.tried == len(mutants) {
			fmt.Fprintf(out, "%s: tried %d of %d, let pass %d, stopped %d without an end\n", p.ImportPath, so.tried, len(mutants), so.survived, so.endless)
		}
	})
	return mutants, survivors, ctx.Err()
}

// tally counts over all packages.
type tally struct {
	excused known
	used    map[[3]string]bool
	out     io.Writer

	packages                 []string
	tried, survived, without int
}

func (t *tally) add(name string, tried int, survivors []mutant) {
	t.packages = append(t.packages, name)
	t.tried += tried
	for _, m := range survivors {
		if reason, ok := t.excused[m.key()]; ok {
			t.used[m.key()] = true
			t.without++
			fmt.Fprintf(t.out, "no effect %s\n    %s\n", m, reason)
			continue
		}
		t.survived++
		fmt.Fprintf(t.out, "LET PASS %s\n", m)
	}
}

func (t *tally) verdict(o options) error {
	effective := t.tried - t.without
	if effective == 0 {
		return fmt.Errorf("found nothing to change")
	}
	share := 100 * float64(effective-t.survived) / float64(effective)
	fmt.Fprintf(t.out, "%d changes, of them %d without effect; the tests notice %d of %d, %.1f %%\n", t.tried, t.without, effective-t.survived, effective, share)
	if share < o.least {
		return fmt.Errorf("the tests notice %.1f %% of the changes, and must notice %g %%: add tests for those that are let pass", share, o.least)
	}
	if o.only != nil {
		return nil
	}
	for key := range t.excused {
		if slices.Contains(t.packages, path.Dir(key[0])) && !t.used[key] {
			return fmt.Errorf("%s lists a change that is not let pass, or not there any more; take it out:\n%s", o.known, strings.Join(key[:], "\n"))
		}
	}
	return nil
}
