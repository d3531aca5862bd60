// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package image packs programs into container images without a container engine, a base image or a registry.
//
// It promises that the same programs give the same bytes, whoever builds and whenever: an image holds one layer with
// nothing but the programs, sorted by name, owned by root, dated at the epoch, and runs as user 65532. Programs with shared
// libraries can be packed together with those of this machine, and with a folder of files; then the bytes are the same where
// those are.
package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// User is who the programs of an image run as: the user and group that other images without a root user have settled
// on, so that runAsNonRoot holds without a runAsUser in the pod.
const User = "65532:65532"

// Spec says what an image is made of.
type Spec struct {
	// Reference is the image's name with its tag, such as certwright/certwright:dev. A name without a registry is
	// one of docker.io, as it is for a kubelet.
	Reference string
	// Programs are paths of Linux programs, static ones unless Libraries is set. Each lands in the root folder under its
	// own base name, and the first one is the entrypoint.
	Programs []string
	// Libraries adds the shared libraries of this machine that the programs need, where they are here. Among the programs may
	// be libraries that are loaded by their path, NAME.so: they land where they are, too.
	Libraries bool
	// Root is a folder of which everything lands in the image, with its permissions, such as unpacked packages. Programs are then
	// paths below it, and libraries are looked for there first. Default: none.
	Root string
}

// Build packs the programs of spec into an image.
func Build(spec Spec) (v1.Image, error) {
	contents, err := archive(spec)
	if err != nil {
		return nil, err
	}
	return build(spec, contents)
}

// build makes an image of a layer's archive.
func build(spec Spec, contents []byte) (v1.Image, error) {
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(contents)), nil
	}, tarball.WithCompressionLevel(gzip.BestSpeed), tarball.WithMediaType(types.DockerLayer), tarball.WithCompressedCaching)
	if err != nil {
		return nil, fmt.Errorf("making the layer of %s: %w", spec.Reference, err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, fmt.Errorf("adding the layer of %s: %w", spec.Reference, err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("reading the config of %s: %w", spec.Reference, err)
	}
	config = config.DeepCopy()
	config.OS = "linux"
	config.Architecture = runtime.GOARCH
	config.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	config.Config = spec.config()
	return mutate.ConfigFile(img, config)
}

// config says how a container of the image runs.
func (s Spec) config() v1.Config {
	return v1.Config{
		User:       User,
		Entrypoint: []string{"/" + s.place(s.Programs[0])},
		Env:        []string{"PATH=" + s.path()},
		WorkingDir: "/",
	}
}

// Write builds the image of spec and writes it to path, in the format of "docker save", which "ctr images import" and
// "kind load image-archive" read. A file that holds that image already is left as it is: to compress a layer takes longest.
func Write(spec Spec, path string) error {
	ref, err := parseReference(spec.Reference)
	if err != nil {
		return err
	}
	contents, err := archive(spec)
	if err != nil {
		return err
	}
	if holds(path, ref, spec.config(), contents) {
		return nil
	}
	img, err := build(spec, contents)
	if err != nil {
		return err
	}
	// Written beside its place and renamed: whoever loads images never finds half of one.
	temporary := path + ".partial"
	if err := tarball.WriteToFile(temporary, ref, img); err != nil {
		return errors.Join(fmt.Errorf("writing image %s: %w", spec.Reference, err), os.Remove(temporary))
	}
	return os.Rename(temporary, path)
}

// holds says whether the file is of the image that would be written to it.
func holds(path string, ref name.Tag, want v1.Config, contents []byte) bool {
	img, err := tarball.ImageFromPath(path, &ref)
	if err != nil {
		return false
	}
	config, err := img.ConfigFile()
	if err != nil || config.Architecture != runtime.GOARCH || !reflect.DeepEqual(config.Config, want) {
		return false
	}
	layer := v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", sha256.Sum256(contents))}
	return slices.Equal(config.RootFS.DiffIDs, []v1.Hash{layer})
}

// parseReference wants the tag spelled out: a kubelet always asks a registry for images with the tag latest.
func parseReference(reference string) (name.Tag, error) {
	ref, err := name.NewTag(reference)
	if err != nil {
		return name.Tag{}, fmt.Errorf("image name %q: %w", reference, err)
	}
	if !strings.HasSuffix(reference, ":"+ref.TagStr()) {
		return name.Tag{}, fmt.Errorf("image name %q has no tag: add one, such as %s:dev", reference, reference)
	}
	return ref, nil
}

// place is where a program lands.
func (s Spec) place(program string) string {
	switch {
	case s.Root != "", s.Libraries && filepath.Ext(program) == ".so":
		return strings.TrimPrefix(filepath.Clean(program), "/")
	}
	return filepath.Base(program)
}

// path has the folders of the programs.
func (s Spec) path() string {
	var folders []string
	for _, program := range s.Programs {
		if folder := filepath.Dir("/" + s.place(program)); !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
	}
	return strings.Join(folders, ":")
}

// mode is that of the programs: static ones can be run and not read. The kernel keeps processes of the same user from looking into a program
// that this user cannot read, from its very start (would_dump in fs/exec.c). Of those with shared libraries, PostgreSQL wants to read itself.
func (s Spec) mode() fs.FileMode {
	if s.Libraries {
		return 0o755
	}
	return 0o111
}

// source is where a program is on this machine.
func (s Spec) source(program string) string { return filepath.Join(s.Root, program) }

// archive returns the tar archive of one layer holding the programs.
func archive(spec Spec) ([]byte, error) {
	if len(spec.Programs) == 0 {
		return nil, errors.New("an image needs at least one program")
	}
	entries, err := spec.entries()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		if err := add(w, entries[name], name, spec.Libraries); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// entries returns what the layer holds, by where it lands.
func (s Spec) entries() (map[string]entry, error) {
	entries := map[string]entry{}
	if s.Root != "" {
		var err error
		if entries, err = rootEntries(s.Root); err != nil {
			return nil, err
		}
	}
	var programs []string
	for _, program := range s.Programs {
		place := s.place(program)
		if entries[place].program {
			return nil, fmt.Errorf("two programs of one image are called %s: rename one", place)
		}
		if s.Root != "" && !isELF(s.source(program)) {
			if _, there := entries[place]; !there {
				return nil, fmt.Errorf("%s is not below %s", program, s.Root)
			}
			continue // A script: it is there already.
		}
		entries[place] = entry{source: s.source(program), mode: s.mode(), program: true}
		programs = append(programs, s.source(program))
	}
	if !s.Libraries {
		return entries, nil
	}
	paths, err := libraries(s.Root, programs)
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		entries[strings.TrimPrefix(path, "/")] = entry{source: path, mode: 0o755, program: true}
	}
	return entries, nil
}

// add appends one entry to the archive under its name there.
func add(w *tar.Writer, e entry, name string, dynamic bool) error {
	var contents []byte
	if e.source != "" {
		var err error
		if contents, err = os.ReadFile(e.source); err != nil {
			return fmt.Errorf("reading a program of the image: %w", err)
		}
		if e.program && !dynamic {
			err = checkStatic(contents)
		}
		if err != nil {
			return fmt.Errorf("%s cannot run in an image of its own: %w", e.source, err)
		}
	}
	if err := w.WriteHeader(e.header(name, int64(len(contents)))); err != nil {
		return fmt.Errorf("adding %s: %w", name, err)
	}
	if _, err := w.Write(contents); err != nil {
		return fmt.Errorf("adding %s: %w", name, err)
	}
	return nil
}

// checkStatic refuses what an image without a libc cannot start.
func checkStatic(contents []byte) error {
	file, err := elf.NewFile(bytes.NewReader(contents))
	if err != nil {
		return fmt.Errorf("not a Linux program: %w", err)
	}
	for _, header := range file.Progs {
		if header.Type == elf.PT_INTERP {
			return errors.New("it is dynamically linked: build it with CGO_ENABLED=0, or pack it with --libraries")
		}
	}
	return nil
}
