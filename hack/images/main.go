// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command images packs programs into container images, as files that a cluster can load.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/certwright/certwright/hack/images/image"
)

const usage = `images packs Linux programs into container images. No container engine, base image or registry takes part.

Usage:
  images --out DIR [--libraries] [--root DIR] FILE=NAME:TAG:PROGRAM[,PROGRAM...] ...

Each argument writes one image, NAME:TAG, to DIR/FILE.tar in the format of "docker save". The programs land in the root
folder of the image under their own names; the first one is its entrypoint. The programs run as user and group 65532,
and the same programs always give the same bytes. Programs must be built with CGO_ENABLED=0; or, with --libraries, are
packed together with the shared libraries of this machine that they need, at the paths that these have here, as have
shared libraries that are given as programs. With --root, everything below a folder lands in the image, such as packages
that were unpacked there, and programs are paths below it; their folders are the image's PATH.

Example:
  images --out bin/images certwright=certwright/certwright:dev:bin/certwright
  cluster load bin/images/certwright.tar        # or: kind load image-archive bin/images/certwright.tar

Flags:
`

func main() {
	flags := flag.NewFlagSet("images", flag.ExitOnError)
	out := flags.String("out", "", "the folder that the image files are written to; made if it is not there")
	libraries := flags.Bool("libraries", false, "add the shared libraries of this machine that the programs need")
	root := flags.String("root", "", "the folder of which everything lands in the image")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	_ = flags.Parse(os.Args[1:]) // It exits by itself on a wrong flag.
	if err := run(*out, *root, *libraries, flags.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

// run writes one image file for each argument.
func run(out, root string, libraries bool, arguments []string) error {
	if out == "" || len(arguments) == 0 {
		return fmt.Errorf("need --out DIR and at least one FILE=NAME:TAG:PROGRAM; see images --help")
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("making the folder of --out: %w", err)
	}
	for _, argument := range arguments {
		file, spec, err := parse(argument)
		if err != nil {
			return err
		}
		spec.Libraries, spec.Root = libraries, root
		path := filepath.Join(out, file+".tar")
		if err := image.Write(spec, path); err != nil {
			return err
		}
		fmt.Printf("%s\t%s\n", path, spec.Reference)
	}
	return nil
}

// parse reads FILE=NAME:TAG:PROGRAM[,PROGRAM...].
func parse(argument string) (string, image.Spec, error) {
	file, rest, ok := strings.Cut(argument, "=")
	colon := strings.LastIndexByte(rest, ':')
	if !ok || file == "" || strings.ContainsRune(file, '/') || colon <= 0 || colon == len(rest)-1 {
		return "", image.Spec{}, fmt.Errorf("argument %q is not of the form FILE=NAME:TAG:PROGRAM[,PROGRAM...]", argument)
	}
	return file, image.Spec{Reference: rest[:colon], Programs: strings.Split(rest[colon+1:], ",")}, nil
}
