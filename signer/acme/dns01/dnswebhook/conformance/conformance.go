// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package conformance holds what every DNS webhook must do, as cases that run against one over the network. They write to a
// zone for tests and leave nothing behind if all goes well. `certwright-dns conformance` runs them against yours.
package conformance

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/certwright/certwright/excerpt"
	"github.com/certwright/certwright/signer/acme/dns01/dnswebhook/contract"
	"github.com/certwright/certwright/signer/acme/dns01/txt"
)

// together is how many values are written and removed at the same time.
const together = 6

// Target is a webhook under test.
type Target struct {
	// URL of the webhook, to which the paths of the contract are added.
	URL string
	// Client reaches the webhook.
	Client *http.Client
	// Token is the bearer token, if the webhook asks for one.
	Token string
	// Config is sent with every request.
	Config map[string]string
	// Zone that the webhook may write to, with a dot at the end.
	Zone string
	// Serves returns true if the DNS serves the record.
	Serves func(ctx context.Context, record txt.Record) bool
	// Patience is how long the DNS may take to show what the webhook did. Default: a minute.
	Patience time.Duration
}

// Case is one thing that a webhook must do. Run returns nil if it does.
type Case struct {
	Name string
	Run  func(ctx context.Context, t Target) error
}

// Cases returns all cases. They run one after the other.
func Cases() []Case {
	return []Case{
		{"check says that the configuration works", func(ctx context.Context, t Target) error {
			return t.done(ctx, contract.PathCheck, txt.Record{})
		}},
		{"a value is written and removed", oneValue},
		{"writing twice and removing twice is no error", twice},
		{"removing what was never written is no error", func(ctx context.Context, t Target) error {
			return t.done(ctx, contract.PathCleanUp, t.record())
		}},
		{"two values at one name leave each other alone", twoValues},
		{"values written at the same time are all there", manyValues},
		{"a zone that is not there is a misconfiguration", unknownZone},
		{"a request that breaks the contract is refused", badRequests},
		{"without the token nothing is done", noToken},
	}
}

// record returns a record with a new value, at a name that every run of the cases shares.
func (t Target) record() txt.Record {
	value := make([]byte, 32)
	_, _ = rand.Read(value) // it never fails
	return txt.Record{Zone: t.Zone, Name: txt.Prefix + "certwright-conformance." + t.Zone, Value: base64.RawURLEncoding.EncodeToString(value)}
}

func oneValue(ctx context.Context, t Target) error {
	r := t.record()
	return errors.Join(
		t.done(ctx, contract.PathPresent, r), t.wait(ctx, r, true),
		t.done(ctx, contract.PathCleanUp, r), t.wait(ctx, r, false),
	)
}

func twice(ctx context.Context, t Target) error {
	r := t.record()
	return errors.Join(
		t.done(ctx, contract.PathPresent, r), t.done(ctx, contract.PathPresent, r), t.wait(ctx, r, true),
		t.done(ctx, contract.PathCleanUp, r), t.wait(ctx, r, false), t.done(ctx, contract.PathCleanUp, r),
	)
}

func twoValues(ctx context.Context, t Target) error {
	apex, wildcard := t.record(), t.record()
	return errors.Join(
		t.done(ctx, contract.PathPresent, apex), t.done(ctx, contract.PathPresent, wildcard),
		t.wait(ctx, apex, true), t.wait(ctx, wildcard, true),
		t.done(ctx, contract.PathCleanUp, apex), t.wait(ctx, apex, false), t.wait(ctx, wildcard, true),
		t.done(ctx, contract.PathCleanUp, wildcard), t.wait(ctx, wildcard, false),
	)
}

func manyValues(ctx context.Context, t Target) error {
	records := make([]txt.Record, together)
	for i := range records {
		records[i] = t.record()
	}
	all := func(path string, there bool) error {
		var group errgroup.Group
		for _, r := range records {
			group.Go(func() error { return t.done(ctx, path, r) })
		}
		errs := []error{group.Wait()}
		for _, r := range records {
			errs = append(errs, t.wait(ctx, r, there))
		}
		return errors.Join(errs...)
	}
	return errors.Join(all(contract.PathPresent, true), all(contract.PathCleanUp, false))
}

func unknownZone(ctx context.Context, t Target) error {
	r := t.record()
	r.Zone, r.Name = "certwright.invalid.", txt.Prefix+"certwright.invalid."
	return t.expect(ctx, contract.PathPresent, t.request(r), contract.StatusMisconfigured)
}

func badRequests(ctx context.Context, t Target) error {
	var errs []error
	for what, change := range map[string]func(*contract.Request){
		"an unknown version":      func(r *contract.Request) { r.Version = "v0" },
		"no version":              func(r *contract.Request) { r.Version = "" },
		"a name outside the zone": func(r *contract.Request) { r.Name = txt.Prefix + "certwright.invalid." },
		"a name of odd letters":   func(r *contract.Request) { r.Name = txt.Prefix + `a\.b;"x` + r.Zone },
		"a name without its dot":  func(r *contract.Request) { r.Name = strings.TrimSuffix(r.Name, ".") },
		"a value that is no hash": func(r *contract.Request) { r.Value = `x" "y` },
		"no value":                func(r *contract.Request) { r.Value = "" },
	} {
		request := t.request(t.record())
		change(&request)
		if err := t.expect(ctx, contract.PathPresent, request, contract.StatusBadRequest); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	switch status, answer, err := t.post(ctx, contract.PathPresent, []byte("{"), t.Token); {
	case err != nil:
		errs = append(errs, fmt.Errorf("a body that is no JSON: %w", err))
	case status != contract.StatusBadRequest:
		errs = append(errs, fmt.Errorf("a body that is no JSON: status %d (%s), want %d", status, answer.Error, contract.StatusBadRequest))
	}
	return errors.Join(errs...)
}

func noToken(ctx context.Context, t Target) error {
	if t.Token == "" {
		return nil // anybody who reaches it may use it
	}
	var errs []error
	for _, token := range []string{"", t.Token + "x", strings.ToUpper(t.Token) + "-"} {
		t := t
		t.Token = token
		errs = append(errs, t.expect(ctx, contract.PathPresent, t.request(t.record()), contract.StatusUnauthorized))
	}
	return errors.Join(errs...)
}

func (t Target) request(r txt.Record) contract.Request {
	return contract.Request{Version: contract.Version, Record: r, Config: t.Config}
}

// done sends a request that must be done.
func (t Target) done(ctx context.Context, path string, r txt.Record) error {
	return t.expect(ctx, path, t.request(r), contract.StatusDone)
}

// expect sends a request and returns an error if it is not answered as the contract says, with this status.
func (t Target) expect(ctx context.Context, path string, request contract.Request, want int) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	status, answer, err := t.post(ctx, path, body, t.Token)
	switch {
	case err != nil:
		return err
	case status != want:
		return fmt.Errorf("POST %s: status %d (%s), want %d", path, status, answer.Error, want)
	case (answer.Error == "") != (want == contract.StatusDone):
		return fmt.Errorf("POST %s: status %d with the error %q: an error must have words, and only an error", path, status, answer.Error)
	}
	return nil
}

func (t Target) post(ctx context.Context, path string, body []byte, token string) (int, contract.Answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(t.URL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return 0, contract.Answer{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := t.Client.Do(request)
	if err != nil {
		return 0, contract.Answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, contract.MaxBody))
	var answer contract.Answer
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	if err == nil && answer.Version != contract.Version {
		err = fmt.Errorf("the answer's version is %q, not %q", answer.Version, contract.Version)
	}
	if err != nil {
		return 0, contract.Answer{}, fmt.Errorf("POST %s: status %d and the body %q are no answer of the contract: %w", path, response.StatusCode, excerpt.Line(string(text), 200), err)
	}
	return response.StatusCode, answer, nil
}

// wait returns when the DNS serves a record, or no longer does.
func (t Target) wait(ctx context.Context, r txt.Record, there bool) error {
	if t.Patience == 0 {
		t.Patience = time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, t.Patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if t.Serves(ctx, r) == there {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the DNS serves the value at %s: %t, and after %s it must be %t", r.Name, !there, t.Patience, there)
		}
	}
}
