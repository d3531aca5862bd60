// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"crypto/sha256"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

const (
	// firstWait is how long we wait after the first time that something was put back; each time it takes twice as long.
	firstWait = 250 * time.Millisecond
	// longestWait is how long at the most. Whoever leaves it alone for that long is forgiven.
	longestWait = time.Minute
)

// patience keeps somebody else who writes the same objects from having us write without end: what they change is put back at
// once, but the more often they do, the longer it stays. What we want anew is never held up.
type patience struct {
	clock clock.PassiveClock

	mu   sync.Mutex
	last map[string]restored // by name of the object
}

// restored says when an object was put back, and how long it is left alone since then.
type restored struct {
	want [sha256.Size]byte
	at   time.Time
	wait time.Duration
}

func newPatience(clk clock.PassiveClock) *patience {
	return &patience{clock: clk, last: map[string]restored{}}
}

// wait returns how long an object that is not what we want stays so. Zero is for one that is to be written now.
func (p *patience) wait(name, want string) time.Duration {
	now, sum := p.clock.Now(), sha256.Sum256([]byte(want))
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.last[name]
	if r.want != sum {
		p.last[name] = restored{want: sum}
		return 0
	}
	since := now.Sub(r.at)
	if since >= 0 && since < r.wait { // a clock that was set back holds up nobody
		return r.wait - since
	}
	if since > r.wait+longestWait {
		r.wait = 0
	}
	p.last[name] = restored{want: sum, at: now, wait: min(max(2*r.wait, firstWait), longestWait)}
	return 0
}

// forget drops what is known of an object that is no longer published.
func (p *patience) forget(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.last, name)
}
