// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Proto generates Go code from the .proto files of the repository, with the plugins that hack/tools/go.mod pins. It needs no
// protoc, so the code is the same wherever it is made.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// files are all .proto files, by the names that programs know them by, and where they are.
var files = map[string]string{"certwright/signer/v1/signer.proto": "signer/external/signerv1/signer.proto"}

// plugins write their files beside the .proto file.
var plugins = []string{"protoc-gen-go", "protoc-gen-go-grpc"}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: proto REPOSITORY")
		os.Exit(2)
	}
	for name, path := range files {
		if err := generate(context.Background(), name, filepath.Join(os.Args[1], path)); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
			os.Exit(1)
		}
	}
}

func generate(ctx context.Context, name, path string) error {
	source, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	sources := &protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(map[string]string{name: string(source)})}
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(sources), SourceInfoMode: protocompile.SourceInfoStandard}
	compiled, err := compiler.Compile(ctx, name)
	if err != nil {
		return err
	}
	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: []string{name}, Parameter: proto.String("paths=source_relative")}
	addFiles(request, compiled[0], map[string]bool{})
	for _, plugin := range plugins {
		response, err := run(ctx, plugin, request)
		if err != nil {
			return fmt.Errorf("%s: %w", plugin, err)
		}
		for _, f := range response.File {
			if err := os.WriteFile(filepath.Join(filepath.Dir(path), filepath.Base(f.GetName())), []byte(f.GetContent()), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// addFiles adds a file behind all that it imports, as plugins want them.
func addFiles(request *pluginpb.CodeGeneratorRequest, file protoreflect.FileDescriptor, added map[string]bool) {
	if added[file.Path()] {
		return
	}
	added[file.Path()] = true
	for i := range file.Imports().Len() {
		addFiles(request, file.Imports().Get(i).FileDescriptor, added)
	}
	request.ProtoFile = append(request.ProtoFile, proto.Clone(protoutil.ProtoFromFileDescriptor(file)).(*descriptorpb.FileDescriptorProto))
}

func run(ctx context.Context, plugin string, request *pluginpb.CodeGeneratorRequest) (*pluginpb.CodeGeneratorResponse, error) {
	in, err := proto.Marshal(request)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "tool", plugin)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(out, &response); err != nil {
		return nil, err
	}
	if response.Error != nil {
		return nil, errors.New(response.GetError())
	}
	return &response, nil
}
