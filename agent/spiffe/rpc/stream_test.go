// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// FuzzReadFields holds what is read in passing against what protowire reads.
func FuzzReadFields(f *testing.F) {
	f.Add([]byte{0x0a, 1, 'x', 0x10, 1, 0x1d, 1, 2, 3, 4, 0x21, 1, 2, 3, 4, 5, 6, 7, 8, 0x2a, 0})
	f.Add([]byte{0x0b, 0x0c})
	f.Add([]byte("\xa9\xa9\xa9\xa9000000000")) // the number of a field is too large
	f.Fuzz(func(t *testing.T, message []byte) {
		if len(message) > maxKeptBytes/fieldBytes {
			return // what is kept is bounded, and these few cannot be too much
		}
		got, err := readFields(bufio.NewReaderSize(bytes.NewReader(message), 16), []protowire.Number{1, 2})
		want, valid := parse(message)
		if (err == nil) != valid {
			t.Fatalf("%x: %v, protowire takes it: %t", message, err, valid)
		}
		if err == nil && fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%x: got %v, want %v", message, got, want)
		}
	})
}

func parse(message []byte) (fields []Field, valid bool) {
	for len(message) > 0 {
		number, kind, length := protowire.ConsumeTag(message)
		if length < 0 || !number.IsValid() || kind == protowire.StartGroupType || kind == protowire.EndGroupType {
			return nil, false
		}
		message = message[length:]
		if length = protowire.ConsumeFieldValue(number, kind, message); length < 0 {
			return nil, false
		}
		if kind == protowire.BytesType && (number == 1 || number == 2) {
			value, _ := protowire.ConsumeBytes(message)
			fields = append(fields, Field{number, value})
		}
		message = message[length:]
	}
	return fields, true
}

func TestStatusOf(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want Code
	}{
		"none":       {nil, OK},
		"a status":   {fmt.Errorf("wrapped: %w", Errorf(NotFound, "no %s", "name")), NotFound},
		"the end":    {context.Canceled, Unavailable},
		"a deadline": {fmt.Errorf("%w", os.ErrDeadlineExceeded), DeadlineExceeded},
		"a break":    {io.ErrUnexpectedEOF, Internal},
		"the rest":   {errors.New("secret"), Internal},
	} {
		t.Run(name, func(t *testing.T) {
			got := statusOf(test.err)
			if got.Code != test.want || got.Message == "secret" {
				t.Errorf("got %d %q, want %d", got.Code, got.Message, test.want)
			}
		})
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("50% é\r\nX-Injected: 1")
	f.Fuzz(func(t *testing.T, message string) {
		escaped := escape(message)
		for _, c := range []byte(escaped) {
			if c < ' ' || c > '~' {
				t.Fatalf("%q holds a byte %#x", escaped, c)
			}
		}
		if back, err := url.PathUnescape(escaped); err != nil || back != message {
			t.Errorf("%q became %q, %v", message, back, err)
		}
	})
}
