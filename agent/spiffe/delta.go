// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package spiffe

import (
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
	return s.discover(stream, &deltaSubscription{complain: s.complain, has: make(map[string]string)},
		deltaType, deltaSubscribe, deltaUnsubscribe, deltaVersions, deltaNonce, deltaError)
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

// deltaSubscription is a subscriber of deltaSecrets.
type deltaSubscription struct {
	complain complainer

	begun bool
	has   map[string]string // the version that the client has of each name: "" is none
	nonce int
}

// take adds and removes names. A name that is asked for again is sent again.
// Unlike those of the other protocol, requests count whichever response they answer.
func (s *deltaSubscription) take(fields []rpc.Field) error {
	r, err := newDeltaRequest(fields)
	if err != nil {
		return err
	}
	if r.rejected && r.nonce == strconv.Itoa(s.nonce) {
		s.complain(rejection, "reason", r.reason)
	}
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

// next tells the client once of a name that does not exist; there is no error of that.
func (s *deltaSubscription) next(m *material) (response []byte, _ error) {
	if !m.complete() {
		return nil, nil
	}
	for _, name := range slices.Sorted(maps.Keys(s.has)) {
		secret, known := m.secret(name)
		switch {
		case !known && s.has[name] != removed:
			s.has[name] = removed
			s.complain("a client asks for a secret that does not exist", "name", name, "names", m.names())
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
	return appendBytes(response, 5, strconv.Itoa(s.nonce)), nil
}
