// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package spiffe

import (
	"bytes"
	"errors"
	"io"

	"github.com/certwright/certwright/agent/spiffe/rpc"
)

// securityHeader must come with every call, so that a server that is made to ask
// URLs of an attacker's choice cannot be made to ask here
// (https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE_Workload_Endpoint.md, 3 and 6).
const securityHeader = "workload.spiffe.io"

func checkHeader(stream *rpc.Stream) error {
	if !stream.HasMetadata(securityHeader, "true") {
		return rpc.Errorf(rpc.InvalidArgument, "the metadata key %s with the value true is missing", securityHeader)
	}
	return nil
}

func (s *Server) fetchX509SVID(stream *rpc.Stream) error {
	return s.answer(stream, func(m *material) []byte { return m.svids })
}

func (s *Server) fetchX509Bundles(stream *rpc.Stream) error {
	return s.answer(stream, func(m *material) []byte { return m.bundles })
}

// answer sends a message made of what is served, and again whenever it changed. A
// certificate that is no SVID entitles to nothing.
func (s *Server) answer(stream *rpc.Stream, message func(*material) []byte) error {
	if err := checkHeader(stream); err != nil {
		return err
	}
	if _, err := stream.Receive(); errors.Is(err, io.EOF) {
		return rpc.Errorf(rpc.InvalidArgument, "the request is missing")
	} else if err != nil {
		return err
	}
	var sent []byte
	return s.follow(stream.Context(), func(m *material) error {
		if m.noSVID != nil {
			return rpc.Errorf(rpc.PermissionDenied, "the certificate of this pod is no X509-SVID: %v", m.noSVID)
		}
		next := message(m)
		if bytes.Equal(next, sent) {
			return nil
		}
		sent = next
		return stream.Send(next)
	})
}

// noJWT answers the methods of the profile that certificates cannot serve.
func noJWT(stream *rpc.Stream) error {
	if err := checkHeader(stream); err != nil {
		return err
	}
	return rpc.Errorf(rpc.Unimplemented, "there are no JWT-SVIDs here, only X509-SVIDs")
}
