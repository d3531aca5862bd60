// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package spiffe

import (
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/certwright/certwright/agent/spiffe/rpc"
	"github.com/certwright/certwright/excerpt"
)

const (
	secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

	// Names that secrets have whatever the certificate is. Beside them the
	// certificate has its SPIFFE ID, the anchors their trust domain's.
	certificateName = "default"
	anchorsName     = "ROOTCA"
	allNames        = "*"

	maxNames          = 32
	maxComplaintBytes = 200

	rejection = "a client rejects the secrets that it was sent"
)

// Fields of Envoy's DiscoveryRequest.
const (
	requestNames protowire.Number = 3
	requestType  protowire.Number = 4
	requestNonce protowire.Number = 5
	requestError protowire.Number = 6
)

// request is what matters of a DiscoveryRequest.
type request struct {
	names    []string // sorted, each once
	nonce    string
	rejected bool
	reason   string // of the rejection
}

func newRequest(fields []rpc.Field) (*request, error) {
	r := new(request)
	for _, field := range fields {
		switch field.Number {
		case requestNames:
			r.names = append(r.names, string(field.Bytes))
		case requestType:
			if err := checkType(field.Bytes); err != nil {
				return nil, err
			}
		case requestNonce:
			r.nonce = string(field.Bytes)
		case requestError:
			r.rejected, r.reason = true, string(entry(field.Bytes, 2))
		}
	}
	r.names = spelledOut(r.names)
	return r, checkNames(len(r.names))
}

func checkType(url []byte) error {
	if text := string(url); text != "" && text != secretType {
		return rpc.Errorf(rpc.InvalidArgument, "the type %q is unknown here: there are secrets only, %s", excerpt.Of(text, maxComplaintBytes), secretType)
	}
	return nil
}

func checkNames(number int) error {
	if number > maxNames {
		return rpc.Errorf(rpc.InvalidArgument, "%d names are asked for, at most %d are allowed", number, maxNames)
	}
	return nil
}

// streamSecrets is the protocol that says the whole state each time
// (https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol).
func (s *Server) streamSecrets(stream *rpc.Stream) error {
	return s.discover(stream, &subscription{complain: s.complain}, requestNames, requestType, requestNonce, requestError)
}

// subscriber is what the client of a stream wants and has, in one of Envoy's protocols.
type subscriber interface {
	// take takes up a request.
	take(fields []rpc.Field) error
	// next returns the next response, or nil when the client has what there is.
	next(m *material) ([]byte, error)
}

// discover leads a stream: it sends what is new to the client, and takes what it asks for.
func (s *Server) discover(stream *rpc.Stream, client subscriber, fields ...protowire.Number) error {
	requests := stream.ReceiveAll(fields...)
	for {
		now := s.material()
		message, err := client.next(now)
		if err != nil {
			return err
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
			}
			if err := received.Err; err != nil {
				return err
			}
			if err := client.take(received.Fields); err != nil {
				return err
			}
		}
	}
}

// subscription is a subscriber of streamSecrets.
type subscription struct {
	complain complainer

	begun bool
	all   bool // it has never named any
	names []string
	sent  string // the version that the client was sent, "" when it must be sent one
	nonce int    // of the last response
}

// take takes up what counts: a request that answers another response than the last does not.
func (s *subscription) take(fields []rpc.Field) error {
	r, err := newRequest(fields)
	if err != nil {
		return err
	}
	switch {
	case !s.begun:
		s.begun, s.all = true, len(r.names) == 0
	case r.nonce != "" && r.nonce != strconv.Itoa(s.nonce):
		return nil
	}
	if r.rejected {
		s.complain(rejection, "reason", r.reason)
	}
	if s.all = s.all && len(r.names) == 0; s.all {
		r.names = spelledOut([]string{allNames})
	}
	if !slices.Equal(r.names, s.names) {
		s.names, s.sent = r.names, ""
	}
	return nil
}

// next returns the next response, or nil when the client has what there is. Envoy
// waits for ever for a name that does not exist, so the stream ends with an error
// that its log shows.
func (s *subscription) next(m *material) ([]byte, error) {
	if len(s.names) == 0 || !m.complete() {
		return nil, nil
	}
	var resources []byte
	var versions []string
	for _, name := range s.names {
		secret, known := m.secret(name)
		if !known {
			return nil, rpc.Errorf(rpc.NotFound, "there is no secret %q; there are %s", excerpt.Of(name, maxComplaintBytes), strings.Join(m.names(), ", "))
		}
		resources = appendBytes(resources, 2, secret.resource(name))
		versions = append(versions, secret.version)
	}
	slices.Sort(versions)
	version := strings.Join(slices.Compact(versions), "-")
	if version == s.sent {
		return nil, nil
	}
	s.sent = version
	s.nonce++
	response := append(appendBytes(nil, 1, version), resources...)
	response = appendBytes(response, 4, secretType)
	return appendBytes(response, 5, strconv.Itoa(s.nonce)), nil
}

// fetchSecrets answers once, when there is something.
func (s *Server) fetchSecrets(stream *rpc.Stream) error {
	fields, err := stream.Receive(requestNames, requestType)
	if err != nil {
		return err
	}
	subscription := subscription{complain: s.complain}
	if err := subscription.take(fields); err != nil {
		return err
	}
	err = s.follow(stream.Context(), func(m *material) error {
		message, err := subscription.next(m)
		if err != nil {
			return err
		}
		return errors.Join(stream.Send(message), io.EOF)
	})
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// secret returns the secret of a name.
func (m *material) secret(name string) (secret, bool) {
	switch {
	case name == certificateName, !m.id.IsZero() && name == m.id.String():
		return m.certificate, true
	case name == anchorsName, !m.id.IsZero() && name == m.id.TrustDomain().IDString():
		return m.anchors, true
	}
	return secret{}, false
}

// names returns the names that there are.
func (m *material) names() []string {
	if m.id.IsZero() {
		return []string{certificateName, anchorsName}
	}
	return []string{certificateName, anchorsName, m.id.String(), m.id.TrustDomain().IDString()}
}

// spelledOut returns the names with the two secrets in place of the name that
// stands for all, sorted, each once.
func spelledOut(names []string) []string {
	if slices.Contains(names, allNames) {
		names = slices.Concat(names, []string{certificateName, anchorsName})
		names = slices.DeleteFunc(names, func(name string) bool { return name == allNames })
	}
	return slices.Compact(slices.Sorted(slices.Values(names)))
}

// resource returns the secret under a name, as an Any of protobuf.
func (s secret) resource(name string) []byte {
	return appendBytes(appendBytes(nil, 1, secretType), 2, append(appendBytes(nil, 1, name), s.body...))
}

// complainer is a method of Server: complain.
type complainer func(text, key, words string, more ...any)

// complain logs what a client does not take or asks for in vain, in part in its own words.
func (s *Server) complain(text, key, words string, more ...any) {
	s.complaints.Do(func() {
		s.log.Warn(text, append([]any{key, excerpt.Line(words, maxComplaintBytes)}, more...)...)
	})
}

// entry returns a field of a message that holds bytes, or nil. Of several it is the last.
func entry(message []byte, number protowire.Number) []byte {
	var value []byte
	for len(message) > 0 {
		found, kind, length := protowire.ConsumeTag(message)
		if length < 0 {
			return nil
		}
		message = message[length:]
		if length = protowire.ConsumeFieldValue(found, kind, message); length < 0 {
			return nil
		}
		if found == number && kind == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(message)
		}
		message = message[length:]
	}
	return value
}
