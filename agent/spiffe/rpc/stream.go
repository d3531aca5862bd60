// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

const (
	// maxMessageBytes is the most that a client may send in one message. Envoy's
	// first one lists its extensions and takes about 100 KiB. It is read in passing.
	maxMessageBytes = 1 << 20
	// maxKeptBytes is the most that is kept of one message, with fieldBytes for each field.
	maxKeptBytes = 32 << 10
	fieldBytes   = 64

	prefixBytes = 5 // of a message: whether it is compressed, and its length
)

// Stream is one call. Receive or ReceiveAll, and Send, may be used at the same time.
type Stream struct {
	ctx         context.Context
	cancel      context.CancelFunc
	request     *http.Request
	writer      http.ResponseWriter
	control     *http.ResponseController
	sendTimeout time.Duration
	begun       bool
	receiving   sync.WaitGroup
}

// Field is a field of a message that holds bytes, a text or another message.
type Field struct {
	Number protowire.Number
	Bytes  []byte
}

// Received is a message, of which the wanted fields are kept, or why there is none.
type Received struct {
	Fields []Field
	Err    error
}

// Context ends with the call, the client or the server.
func (s *Stream) Context() context.Context { return s.ctx }

// HasMetadata reports whether the client sent the value under the key.
func (s *Stream) HasMetadata(key, value string) bool {
	return slices.Contains(s.request.Header.Values(key), value)
}

// Receive reads the next message and returns those of its fields that are wanted
// and hold bytes. The error is io.EOF when the client sends no more.
func (s *Stream) Receive(wanted ...protowire.Number) ([]Field, error) {
	var prefix [prefixBytes]byte
	if _, err := io.ReadFull(s.request.Body, prefix[:]); err != nil {
		return nil, err
	}
	if prefix[0] != 0 {
		return nil, Errorf(Unimplemented, "messages must not be compressed")
	}
	length := int64(binary.BigEndian.Uint32(prefix[1:]))
	if length > maxMessageBytes {
		return nil, Errorf(ResourceExhausted, "a message has %d bytes, at most %d are allowed", length, maxMessageBytes)
	}
	body := &io.LimitedReader{R: s.request.Body, N: length}
	fields, err := readFields(bufio.NewReaderSize(body, 512), wanted)
	if body.N > 0 && (err == nil || errors.Is(err, io.ErrUnexpectedEOF)) {
		return nil, io.ErrUnexpectedEOF // the client stopped within the message
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, Errorf(InvalidArgument, "a message ends within a field")
	}
	if err == nil && !s.begun {
		s.begun = true
		err = s.control.SetReadDeadline(time.Time{})
	}
	return fields, err
}

// ReceiveAll receives one message after the other, each when the one before was
// taken from the channel, until an error, which is the last. The channel is never
// closed: who waits for it waits for the end of the context as well.
func (s *Stream) ReceiveAll(wanted ...protowire.Number) <-chan Received {
	messages := make(chan Received)
	s.receiving.Go(func() {
		for {
			fields, err := s.Receive(wanted...)
			select {
			case messages <- Received{fields, err}:
			case <-s.ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	})
	return messages
}

// Send writes a message and waits until it is on its way. A client that does not
// read it in time loses the stream.
func (s *Stream) Send(message []byte) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(s.sendTimeout)); err != nil {
		return err
	}
	var prefix [prefixBytes]byte
	binary.BigEndian.PutUint32(prefix[1:], uint32(len(message)))
	for _, part := range [][]byte{prefix[:], message} {
		if _, err := s.writer.Write(part); err != nil {
			return err
		}
	}
	return errors.Join(s.control.Flush(), s.control.SetWriteDeadline(time.Time{}))
}

// end stops ReceiveAll.
func (s *Stream) end() {
	s.cancel()
	_ = s.control.SetReadDeadline(time.Unix(1, 0))
	s.receiving.Wait()
}

// readFields reads a message to its end and keeps the wanted fields. What is not
// wanted takes no memory. A message that is cut short is io.ErrUnexpectedEOF.
func readFields(r *bufio.Reader, wanted []protowire.Number) ([]Field, error) {
	var fields []Field
	kept := uint64(0)
	for {
		tag, err := binary.ReadUvarint(r)
		if errors.Is(err, io.EOF) {
			return fields, nil
		}
		number, kind := protowire.DecodeTag(tag)
		if err == nil && !number.IsValid() {
			return nil, Errorf(InvalidArgument, "a message has a field of number %d", number)
		}
		switch {
		case err != nil:
		case kind == protowire.VarintType:
			_, err = binary.ReadUvarint(r)
		case kind == protowire.Fixed32Type:
			_, err = r.Discard(4)
		case kind == protowire.Fixed64Type:
			_, err = r.Discard(8)
		case kind == protowire.BytesType:
			var length uint64
			if length, err = binary.ReadUvarint(r); err != nil {
				break
			}
			if !slices.Contains(wanted, number) {
				_, err = io.CopyN(io.Discard, r, int64(min(length, maxMessageBytes+1)))
				break
			}
			if kept += min(length, maxKeptBytes) + fieldBytes; kept > maxKeptBytes {
				return nil, Errorf(ResourceExhausted, "names and texts of a message have more than %d bytes", maxKeptBytes)
			}
			field := Field{number, make([]byte, length)}
			_, err = io.ReadFull(r, field.Bytes)
			fields = append(fields, field)
		default:
			return nil, Errorf(InvalidArgument, "a message has a field of wire type %d", kind)
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		}
	}
}
