// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cloudflare writes the TXT records of challenges to Cloudflare, where each value is a record of its own.
package cloudflare

import (
	"context"
	"errors"
	"strings"

	"github.com/cloudflare/cloudflare-go"

	"github.com/certwright/certwright/cmd/certwright-dns/internal/provider"
	"github.com/certwright/certwright/signer/acme/dns01/txt"
)

// identical is the code of the error that a record like this is there already.
const identical = 81058

// Writer writes to the zones that one API token is for.
type Writer struct {
	api   *cloudflare.API
	zones provider.Zones
}

// New returns a writer with an API token.
func New(settings map[string]string, token string, options ...cloudflare.Option) (*Writer, error) {
	if err := provider.CheckKeys(settings, nil, nil); err != nil {
		return nil, err
	}
	if token == "" {
		return nil, txt.Misconfigured("certwright-dns has no API token of Cloudflare: set CLOUDFLARE_API_TOKEN in its environment, from a Secret")
	}
	// What does not work is tried again by who asked.
	api, err := cloudflare.NewWithAPIToken(token, append([]cloudflare.Option{cloudflare.UsingRetryPolicy(0, 0, 0)}, options...)...)
	if err != nil {
		return nil, txt.Misconfigured("building a client of Cloudflare: %w", err)
	}
	return &Writer{api: api}, nil
}

// Present implements txt.Writer.
func (w *Writer) Present(ctx context.Context, r txt.Record) error {
	zone, records, err := w.read(ctx, r)
	if err != nil {
		return err
	}
	for _, record := range records {
		if value(record) == r.Value {
			return nil
		}
	}
	if len(records) >= txt.MaxValues {
		return txt.ErrFull
	}
	_, err = w.api.CreateDNSRecord(ctx, zone, cloudflare.CreateDNSRecordParams{
		Type: "TXT", Name: bare(r.Name), Content: `"` + r.Value + `"`, TTL: txt.TTL,
	})
	var refused *cloudflare.RequestError
	if errors.As(err, &refused) && refused.InternalErrorCodeIs(identical) {
		return nil
	}
	return w.failed("writing to", r.Zone, err)
}

// CleanUp implements txt.Writer.
func (w *Writer) CleanUp(ctx context.Context, r txt.Record) error {
	zone, records, err := w.read(ctx, r)
	if err != nil {
		return err
	}
	for _, record := range records {
		if value(record) != r.Value {
			continue
		}
		err := w.api.DeleteDNSRecord(ctx, zone, record.ID)
		var gone *cloudflare.NotFoundError
		if err != nil && !errors.As(err, &gone) {
			return w.failed("removing from", r.Zone, err)
		}
	}
	return nil
}

// Check implements txt.Checker. It looks for a zone that nobody has, so that the answer is short.
func (w *Writer) Check(ctx context.Context) error {
	_, err := w.api.ListZonesContext(ctx, cloudflare.WithZoneFilters("certwright.invalid", "", ""))
	return w.failed("listing zones", "", err)
}

// read returns the zone of a record, and the TXT records at its name.
func (w *Writer) read(ctx context.Context, r txt.Record) (*cloudflare.ResourceContainer, []cloudflare.DNSRecord, error) {
	id, err := w.zones.ID(r.Zone, func() (string, error) { return w.find(ctx, r.Zone) })
	if err != nil {
		return nil, nil, err
	}
	zone := cloudflare.ZoneIdentifier(id)
	records, _, err := w.api.ListDNSRecords(ctx, zone, cloudflare.ListDNSRecordsParams{Type: "TXT", Name: bare(r.Name)})
	return zone, records, w.failed("reading", r.Zone, err)
}

func (w *Writer) find(ctx context.Context, zone string) (string, error) {
	found, err := w.api.ListZonesContext(ctx, cloudflare.WithZoneFilters(bare(zone), "", ""))
	if err != nil {
		return "", w.failed("looking for", zone, err)
	}
	for _, z := range found.Result {
		if z.Name == bare(zone) {
			return z.ID, nil
		}
	}
	return "", txt.Misconfigured("Cloudflare has no zone %s that this API token can see", zone)
}

func bare(name string) string { return strings.TrimSuffix(name, ".") }

// value returns what a record holds; Cloudflare keeps the quotation marks that it was given.
func value(record cloudflare.DNSRecord) string {
	return strings.TrimSuffix(strings.TrimPrefix(record.Content, `"`), `"`)
}

func (w *Writer) failed(doing, zone string, err error) error {
	if err == nil {
		return nil
	}
	status := 0
	var unauthorized *cloudflare.AuthenticationError
	var forbidden *cloudflare.AuthorizationError
	var gone *cloudflare.NotFoundError
	switch {
	case errors.As(err, &unauthorized):
		status = 401
	case errors.As(err, &forbidden):
		status = 403
	case errors.As(err, &gone):
		status = 404
	}
	return w.zones.Failed(doing, zone, status, err)
}
