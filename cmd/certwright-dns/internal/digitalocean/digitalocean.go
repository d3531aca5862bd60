// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package digitalocean writes the TXT records of challenges to DigitalOcean, where each value is a record of its own.
package digitalocean

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/digitalocean/godo"
	"golang.org/x/oauth2"

	"github.com/certwright/certwright/cmd/certwright-dns/internal/provider"
	"github.com/certwright/certwright/signer/acme/dns01/txt"
)

// Writer writes to the domains that one API token is for.
type Writer struct {
	domains godo.DomainsService
	zones   provider.Zones
}

// New returns a writer with an API token.
func New(settings map[string]string, token string, options ...godo.ClientOpt) (*Writer, error) {
	if err := provider.CheckKeys(settings, nil, nil); err != nil {
		return nil, err
	}
	if token == "" {
		return nil, txt.Misconfigured("certwright-dns has no API token of DigitalOcean: set DIGITALOCEAN_ACCESS_TOKEN in its environment, from a Secret")
	}
	// What does not work is tried again by who asked.
	client, err := godo.New(oauth2.NewClient(context.Background(), oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token})), options...)
	if err != nil {
		return nil, txt.Misconfigured("building a client of DigitalOcean: %w", err)
	}
	return &Writer{domains: client.Domains}, nil
}

// Present implements txt.Writer.
func (w *Writer) Present(ctx context.Context, r txt.Record) error {
	records, err := w.read(ctx, r)
	if err != nil {
		return err
	}
	for _, record := range records {
		if record.Data == r.Value {
			return nil
		}
	}
	if len(records) >= txt.MaxValues {
		return txt.ErrFull
	}
	_, _, err = w.domains.CreateRecord(ctx, bare(r.Zone), &godo.DomainRecordEditRequest{Type: "TXT", Name: relative(r), Data: r.Value, TTL: txt.TTL})
	return w.failed("writing to", r.Zone, err)
}

// CleanUp implements txt.Writer.
func (w *Writer) CleanUp(ctx context.Context, r txt.Record) error {
	records, err := w.read(ctx, r)
	if err != nil {
		return err
	}
	for _, record := range records {
		if record.Data != r.Value {
			continue
		}
		if _, err := w.domains.DeleteRecord(ctx, bare(r.Zone), record.ID); err != nil && status(err) != http.StatusNotFound {
			return w.failed("removing from", r.Zone, err)
		}
	}
	return nil
}

// Check implements txt.Checker.
func (w *Writer) Check(ctx context.Context) error {
	_, _, err := w.domains.List(ctx, &godo.ListOptions{Page: 1, PerPage: 1})
	return w.failed("listing domains", "", err)
}

// read returns the TXT records at a record's name. All fit one page: more than txt.MaxValues are never written.
func (w *Writer) read(ctx context.Context, r txt.Record) ([]godo.DomainRecord, error) {
	records, _, err := w.domains.RecordsByTypeAndName(ctx, bare(r.Zone), "TXT", bare(r.Name), &godo.ListOptions{PerPage: 200})
	return records, w.failed("reading", r.Zone, err)
}

func bare(name string) string { return strings.TrimSuffix(name, ".") }

// relative returns a record's name as DigitalOcean has it: without the domain.
func relative(r txt.Record) string {
	if r.Name == r.Zone {
		return "@"
	}
	return strings.TrimSuffix(r.Name, "."+r.Zone)
}

func status(err error) int {
	var answer *godo.ErrorResponse
	if errors.As(err, &answer) && answer.Response != nil {
		return answer.Response.StatusCode
	}
	return 0
}

func (w *Writer) failed(doing, zone string, err error) error {
	if err == nil {
		return nil
	}
	return w.zones.Failed(doing, zone, status(err), err)
}
