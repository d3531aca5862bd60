// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package spiffe

import (
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/certwright/certwright/agent/spiffe/rpc"
)

// Fields of Envoy's DeltaDiscoveryRequest.
const (
	deltaType        protowire.Number = 2
	deltaSubscribe   protowire.Number = 3
	deltaUnsubscribe protowire.Number = 4
	deltaVersions    protowire.Number = 5
	deltaNonce       protowire.Number = 6
	deltaError       protowire.Number = 7
)

// removed stands for the version of a name that the client knows not to exist.
const removed = "-"

// deltaSecrets is the protocol that says only what changed
// (https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#incremental-xds).
func (s *Server) deltaSecrets(stream *rpc.Stream) error {
	requests := stream.ReceiveAll(deltaType, deltaSubscribe, deltaUnsubscribe, deltaVersions, deltaNonce, deltaError)
	subscription := deltaSubscription{has: make(map[string]string)}
	for {
		now := s.material()
		message, unknown := subscription.next(now)
		if len(unknown) > 0 {
			s.complain("a client asks for a secret that does not exist", "name", unknown[0], "names", now.names())
		}
		if message != nil {
			if err := stream.Send(message); err != nil {
				return err
			}
		}
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-now.replaced:
		case received := <-requests:
			if errors.Is(received.Err, io.EOF) {
				return nil
			} else if received.Err != nil {
				return received.Err
			}
			request, err := newDeltaRequest(received.Fields)
			if err != nil {
				return err
			}
			if err := subscription.take(request); err != nil {
				return err
			}
			if request.rejected && request.nonce == strconv.Itoa(subscription.nonce) {
				s.complain(rejection, "reason", request.reason)
			}
		}
	}
}

// deltaRequest is what matters of a DeltaDiscoveryRequest.
type deltaRequest struct {
	subscribe, unsubscribe []string
	versions               map[string]string // that the client has from an earlier stream
	nonce                  string
	rejected               bool
	reason                 string
}

func newDeltaRequest(fields []rpc.Field) (*deltaRequest, error) {
	r := &deltaRequest{versions: make(map[string]string)}
	for _, field := range fields {
		switch field.Number {
		case deltaType:
			if err := checkType(field.Bytes); err != nil {
				return nil, err
			}
		case deltaSubscribe:
			r.subscribe = append(r.subscribe, string(field.Bytes))
		case deltaUnsubscribe:
			r.unsubscribe = append(r.unsubscribe, string(field.Bytes))
		case deltaVersions:
			r.versions[string(entry(field.Bytes, 1))] = string(entry(field.Bytes, 2))
		case deltaNonce:
			r.nonce = string(field.Bytes)
		case deltaError:
			r.rejected, r.reason = true, string(entry(field.Bytes, 2))
		}
	}
	return r, nil
}

// deltaSubscription is what the client of a stream wants, and which versions it
// has: "" is none.
type deltaSubscription struct {
	begun bool
	has   map[string]string
	nonce int
}

// take adds and removes names. A name that is asked for again is sent again.
// Unlike those of the other protocol, requests count whichever response they answer.
func (s *deltaSubscription) take(r *deltaRequest) error {
	first := !s.begun
	s.begun = true
	if first && len(r.subscribe) == 0 {
		r.subscribe = []string{allNames}
	}
	for _, name := range spelledOut(r.subscribe) {
		s.has[name] = ""
		if first {
			s.has[name] = r.versions[name]
		}
	}
	for _, name := range spelledOut(r.unsubscribe) {
		delete(s.has, name)
	}
	return checkNames(len(s.has))
}

// next returns the next response, or nil when the client has what there is, and
// the names that it is told not to exist.
func (s *deltaSubscription) next(m *material) (response []byte, unknown []string) {
	if !m.complete() {
		return nil, nil
	}
	for _, name := range slices.Sorted(maps.Keys(s.has)) {
		secret, known := m.secret(name)
		switch {
		case !known && s.has[name] != removed:
			s.has[name] = removed
			unknown = append(unknown, name)
			response = appendBytes(response, 6, name)
		case known && s.has[name] != secret.version:
			s.has[name] = secret.version
			resource := appendBytes(nil, 1, secret.version)
			resource = appendBytes(resource, 2, secret.resource(name))
			response = appendBytes(response, 2, appendBytes(resource, 3, name))
		}
	}
	if response == nil {
		return nil, nil
	}
	s.nonce++
	response = appendBytes(response, 4, secretType)
	return appendBytes(response, 5, strconv.Itoa(s.nonce)), unknown
}
