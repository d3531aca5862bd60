// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/agent/agenttest"
	"github.com/certwright/certwright/agent/credential"
	"github.com/certwright/certwright/agent/files"
	"github.com/certwright/certwright/agent/store"
)

func TestHealth(t *testing.T) {
	config := agent.Config{SignerName: "example.com/x", DNSNames: []string{"cart.shop.svc"}}.WithDefaults()
	n := agenttest.Must(config.Names(""))(t)
	a := agenttest.NewAuthority(t, "ca")
	good := &files.Set{Pair: pair(t, a, n, time.Hour), Bundle: agenttest.Must(credential.ParseBundle(a.Bundle(), time.Now()))(t), Fingerprint: config.Fingerprint(n)}
	other := *good
	other.Fingerprint = "other"
	foreign := *good
	foreign.Pair = &credential.Pair{Chain: good.Pair.Chain, Key: agenttest.Must(credential.GenerateKey("ECDSA-P256"))(t)}
	for name, test := range map[string]struct {
		held          *files.Set
		status        string
		at            time.Duration
		line, problem string
	}{
		"good":             {held: good, line: "valid for "},
		"nothing yet":      {problem: "no files in"},
		"with a status":    {status: "waiting for a person", problem: "yet; waiting for a person"},
		"expired":          {held: good, at: 2 * time.Hour, problem: "the certificate is valid from"},
		"other config":     {held: &other, problem: "answer another configuration"},
		"key of another":   {held: &foreign, problem: "another key"},
		"status no matter": {held: good, status: "renewal waits", line: "valid for "},
	} {
		t.Run(name, func(t *testing.T) {
			config.Directory = t.TempDir()
			directory := store.New(config.Directory)
			if err := directory.SetStatus(test.status); err != nil {
				t.Fatal(err)
			}
			if test.held != nil {
				if err := directory.Write(agenttest.Must(test.held.Render(config))(t), time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			line, err := Health(config, "", time.Now().Add(test.at))
			if test.problem != "" {
				if err == nil || !strings.Contains(err.Error(), test.problem) {
					t.Errorf("error %v, want %q", err, test.problem)
				}
				return
			}
			if err != nil || !strings.HasPrefix(line, test.line) || strings.Contains(line, "\n") {
				t.Errorf("line %q, error %v", line, err)
			}
		})
	}
}

func TestHealthOfAnotherPodsAddress(t *testing.T) {
	if _, err := Health(agent.Config{IPAddresses: []string{"pod"}}, "", time.Now()); err == nil || !strings.Contains(err.Error(), agent.PodIPsEnv) {
		t.Errorf("error %v, want %s to be named", err, agent.PodIPsEnv)
	}
}
