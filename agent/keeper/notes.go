// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/certwright/certwright/agent/store"
)

// Topics of notes.
const (
	requestTopic  = "request"
	bundleTopic   = "bundle"
	distrustTopic = "distrust"
	writeTopic    = "write"
	renewTopic    = "renew"
	serveTopic    = "serve"
)

// notes are the sentences that say what the agent waits for just now, at most one
// on each topic. They are left in the directory for Health.
type notes struct {
	store *store.Store
	log   *slog.Logger

	mu    sync.Mutex
	texts map[string]string
}

// set replaces the sentence on a topic, "" removes it, and reports whether it differs.
func (n *notes) set(topic, text string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.texts[topic] == text {
		return false
	}
	n.texts[topic] = text
	var all []string
	for _, topic := range []string{requestTopic, distrustTopic, bundleTopic, writeTopic, renewTopic, serveTopic} {
		if n.texts[topic] != "" {
			all = append(all, n.texts[topic])
		}
	}
	if err := n.store.SetStatus(strings.Join(all, "; ")); err != nil {
		n.log.Warn("leaving word for the health check: " + err.Error())
	}
	return true
}

// say sets a note and logs it when it differs from the last one on its topic.
func (m *Manager) say(topic string, level slog.Level, text string) {
	if m.notes.set(topic, text) {
		m.log.Log(context.Background(), level, text)
	}
}

func timestamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
