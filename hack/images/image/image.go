// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package image packs programs into container images without a container engine, a base image or a registry.
//
// It promises that the same programs give the same bytes, whoever builds and whenever: an image holds one layer with
// nothing but the programs, sorted by name, owned by root, dated at the epoch, and runs as user 65532. Programs with shared
// libraries can be packed together with those of this machine; then the bytes are the same where those are.
package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
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
}

// Build packs the programs of spec into an image.
func Build(spec Spec) (v1.Image, error) {
	contents, err := archive(spec)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(contents)), nil
	}, tarball.WithCompressionLevel(gzip.BestSpeed), tarball.WithMediaType(types.DockerLayer))
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
	config.Config = v1.Config{
		User:       User,
		Entrypoint: []string{"/" + filepath.Base(spec.Programs[0])},
		Env:        []string{"PATH=/"},
		WorkingDir: "/",
	}
	return mutate.ConfigFile(img, config)
}

// Write builds the image of spec and writes it to path, in the format of "docker save", which "ctr images import" and
// "kind load image-archive" read.
func Write(spec Spec, path string) error {
	ref, err := parseReference(spec.Reference)
	if err != nil {
		return err
	}
	img, err := Build(spec)
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

// archive returns the tar archive of one layer holding the programs.
func archive(spec Spec) ([]byte, error) {
	if len(spec.Programs) == 0 {
		return nil, errors.New("an image needs at least one program")
	}
	files := map[string]string{} // where it lands, to where it is
	for _, program := range spec.Programs {
		base := filepath.Base(program)
		if spec.Libraries && filepath.Ext(base) == ".so" {
			base = strings.TrimPrefix(program, "/")
		}
		if files[base] != "" {
			return nil, fmt.Errorf("two programs of one image are called %s: rename one", base)
		}
		files[base] = program
	}
	if spec.Libraries {
		paths, err := libraries(spec.Programs)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			files[strings.TrimPrefix(path, "/")] = path
		}
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := add(w, files[name], name, spec.Libraries); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// add appends one program to the archive under its name there.
func add(w *tar.Writer, program, name string, dynamic bool) error {
	contents, err := os.ReadFile(program)
	if err != nil {
		return fmt.Errorf("reading a program of the image: %w", err)
	}
	if !dynamic {
		err = checkStatic(contents)
	}
	if err != nil {
		return fmt.Errorf("%s cannot run in an image of its own: %w", program, err)
	}
	header := &tar.Header{
		Typeflag: tar.TypeReg,
		Name:     name,
		Size:     int64(len(contents)),
		Mode:     0o755,
		ModTime:  time.Unix(0, 0),
		Format:   tar.FormatUSTAR,
	}
	if err := w.WriteHeader(header); err != nil {
		return fmt.Errorf("adding %s: %w", program, err)
	}
	if _, err := w.Write(contents); err != nil {
		return fmt.Errorf("adding %s: %w", program, err)
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
