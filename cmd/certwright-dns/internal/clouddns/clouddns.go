// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package clouddns writes the TXT records of challenges to Google Cloud DNS.
//
// All values at a name are one record set, which is replaced in one change: the old set is deleted, exactly as it was read,
// and the new one added. Cloud DNS refuses that if the old set is no longer there.
package clouddns

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"google.golang.org/api/dns/v1"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"

	"github.com/certwright/certwright/cmd/certwright-dns/internal/provider"
	"github.com/certwright/certwright/signer/acme/dns01/txt"
)

// Writer writes to the managed zones of one project.
type Writer struct {
	service *dns.Service
	project string
	zones   provider.Zones
}

// New returns a writer with Application Default Credentials, unless the options say otherwise.
func New(ctx context.Context, settings map[string]string, options ...option.ClientOption) (*Writer, error) {
	if err := provider.CheckKeys(settings, []string{"project"}, nil); err != nil {
		return nil, err
	}
	service, err := dns.NewService(ctx, append([]option.ClientOption{option.WithScopes(dns.NdevClouddnsReadwriteScope)}, options...)...)
	if err != nil {
		return nil, txt.Misconfigured("reading Google's Application Default Credentials: %w", err)
	}
	return &Writer{service: service, project: settings["project"]}, nil
}

// Present implements txt.Writer.
func (w *Writer) Present(ctx context.Context, r txt.Record) error {
	return w.change(ctx, r, func(values []string) ([]string, error) {
		if slices.Contains(values, quoted(r)) {
			return values, nil
		}
		if len(values) >= txt.MaxValues {
			return nil, txt.ErrFull
		}
		return append(slices.Clone(values), quoted(r)), nil
	})
}

// CleanUp implements txt.Writer.
func (w *Writer) CleanUp(ctx context.Context, r txt.Record) error {
	return w.change(ctx, r, func(values []string) ([]string, error) {
		return slices.DeleteFunc(slices.Clone(values), func(v string) bool { return v == quoted(r) }), nil
	})
}

// Check implements txt.Checker.
func (w *Writer) Check(ctx context.Context) error {
	_, err := w.service.ManagedZones.List(w.project).MaxResults(1).Context(ctx).Do()
	return w.failed("listing managed zones", "", err)
}

func quoted(r txt.Record) string { return `"` + r.Value + `"` }

// change replaces the values at a record's name by what edit makes of them.
func (w *Writer) change(ctx context.Context, r txt.Record, edit func([]string) ([]string, error)) error {
	zone, err := w.zones.ID(r.Zone, func() (string, error) { return w.find(ctx, r.Zone) })
	if err != nil {
		return err
	}
	page, err := w.service.ResourceRecordSets.List(w.project, zone).Name(r.Name).Type("TXT").Context(ctx).Do()
	if err != nil {
		return w.failed("reading", r.Zone, err)
	}
	change := &dns.Change{Deletions: page.Rrsets}
	made := &dns.ResourceRecordSet{Name: r.Name, Type: "TXT", Ttl: txt.TTL}
	var before []string
	if len(page.Rrsets) > 0 {
		before, made.Ttl = page.Rrsets[0].Rrdatas, page.Rrsets[0].Ttl
	}
	if made.Rrdatas, err = edit(before); err != nil {
		return err
	}
	if len(made.Rrdatas) == len(before) {
		return nil
	}
	if len(made.Rrdatas) > 0 {
		change.Additions = []*dns.ResourceRecordSet{made}
	}
	_, err = w.service.Changes.Create(w.project, zone, change).Context(ctx).Do()
	var answer *googleapi.Error
	if errors.As(err, &answer) && (answer.Code == http.StatusConflict || answer.Code == http.StatusPreconditionFailed) {
		return fmt.Errorf("%w: %w", provider.ErrConflict, err)
	}
	return w.failed("changing", r.Zone, err)
}

// find returns the name of the public managed zone for a DNS name. Private ones are passed over: no ACME server sees them.
func (w *Writer) find(ctx context.Context, zone string) (string, error) {
	var found string
	err := w.service.ManagedZones.List(w.project).DnsName(zone).Pages(ctx, func(page *dns.ManagedZonesListResponse) error {
		for _, z := range page.ManagedZones {
			if z.DnsName == zone && z.Visibility != "private" && found == "" {
				found = z.Name
			}
		}
		return nil
	})
	if err != nil {
		return "", w.failed("looking for", zone, err)
	}
	if found == "" {
		return "", txt.Misconfigured("the project %s has no public managed zone for %s that these credentials can see", w.project, zone)
	}
	return found, nil
}

func (w *Writer) failed(doing, zone string, err error) error {
	if err == nil {
		return nil
	}
	status := 0
	var answer *googleapi.Error
	if errors.As(err, &answer) {
		status = answer.Code
		err = fmt.Errorf("project %s: Cloud DNS answers %d: %s", w.project, answer.Code, answer.Message)
	}
	return w.zones.Failed(doing, zone, status, err)
}
