// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"bytes"
	"fmt"
	"log/slog"
	"time"
)

// maxRenewBytes is more than a time in RFC 3339 needs.
const maxRenewBytes = 64

// readRenewFile looks for a time at which a person asked for a renewal.
func (m *Manager) readRenewFile(now time.Time) {
	if m.config.RenewFile == "" {
		return
	}
	data, err := readAtMost(m.config.RenewFile, maxRenewBytes)
	if err != nil {
		return // the volume shows the file as soon as the kubelet has written it
	}
	at, err := parseTime(data)
	if err != nil {
		m.say(renewTopic, slog.LevelWarn, "ignoring the annotation that asks to renew: "+err.Error())
		return
	}
	m.notes.set(renewTopic, "")
	if !at.After(now) {
		m.asked = at
	}
	if planned, fresh := m.schedule.Ask(at, m.requested, now); fresh {
		m.log.Info("asked to renew", "at", timestamp(at), "renewal", timestamp(planned))
	}
}

// parseTime reads a time in the form of RFC 3339; nothing is the zero time.
func parseTime(data []byte) (time.Time, error) {
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, string(data))
	if err != nil || len(data) > maxRenewBytes {
		return time.Time{}, fmt.Errorf("%.64q is not a time in the form of RFC 3339, such as 2026-01-31T09:30:00Z", data)
	}
	return at, nil
}
