// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acme

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer/acme/server"
)

// RenewAt implements signer.RenewalAdviser: an instant within the window that the server suggests (RFC 9773, section 4.2), a
// random one, so that not all certificates of a time are renewed at once.
func (b *Backend) RenewAt(ctx context.Context, leaf *x509.Certificate) (time.Time, error) {
	start, end, err := b.server.RenewalWindow(ctx, leaf)
	if err != nil || start.IsZero() {
		return time.Time{}, err
	}
	return start.Add(rand.N(end.Sub(start))), nil //nolint:gosec // spreading load needs no secret
}

// maxPredecessors bounds how many certificates are remembered as those that the next one replaces.
const maxPredecessors = 10_000

// predecessors remembers the last certificate of each requester and set of names. The server may give an order that says what
// it replaces a place outside its rate limits (RFC 9773, section 5). What is forgotten costs no more than that.
type predecessors struct {
	mu  sync.Mutex
	ids map[[sha256.Size]byte]string
}

func whose(req csr.Request, ids []server.Identifier) [sha256.Size]byte {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q", req.Requester.Username, req.Requester.UID)
	for _, id := range ids {
		fmt.Fprintf(h, " %q", id.Value)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func (p *predecessors) of(key [sha256.Size]byte) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ids[key]
}

// set remembers a certificate, in the place of some other one if there are too many. An empty ID forgets.
func (p *predecessors) set(key [sha256.Size]byte, id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.ids, key)
	if id == "" {
		return
	}
	if p.ids == nil {
		p.ids = map[[sha256.Size]byte]string{}
	}
	for other := range p.ids {
		if len(p.ids) < maxPredecessors {
			break
		}
		delete(p.ids, other)
	}
	p.ids[key] = id
}
