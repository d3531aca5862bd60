// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package authority_test

import (
	"bytes"
	"crypto/rand"
	"math/big"
	"testing"

	"github.com/certwright/certwright/signer/ca/authority"
)

// Serial numbers have 159 random bits and are positive, so that they fit into 20 octets (RFC 5280, section 4.1.2.2).
func TestSerialNumbers(t *testing.T) {
	const n = 2000
	ones := [159]int{}
	seen := map[string]bool{}
	for range n {
		serial, err := authority.NewSerial(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if serial.Sign() <= 0 || serial.BitLen() > 159 || seen[serial.String()] {
			t.Fatalf("serial number %d, of %d bits", serial, serial.BitLen())
		}
		seen[serial.String()] = true
		for i := range ones {
			ones[i] += int(serial.Bit(i))
		}
	}
	for i, count := range ones {
		if count < n/2-n/8 || count > n/2+n/8 { // eleven standard deviations away
			t.Errorf("bit %d is set in %d of %d serial numbers", i, count, n)
		}
	}
	most, err := authority.NewSerial(bytes.NewReader(bytes.Repeat([]byte{0xff}, 20)))
	if want := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 159), big.NewInt(1)); err != nil || most.Cmp(want) != 0 {
		t.Errorf("of ones only: %d, %v, want %d", most, err, want)
	}
	for name, random := range map[string][]byte{"zeros": make([]byte, 20), "too few": make([]byte, 19)} {
		if serial, err := authority.NewSerial(bytes.NewReader(random)); err == nil {
			t.Errorf("%s: %d", name, serial)
		}
	}
}
