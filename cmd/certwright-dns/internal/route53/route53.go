// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package route53 writes the TXT records of challenges to Amazon Route 53.
//
// All values at a name are one record set, which is replaced in one step: the old set is deleted, exactly as it was read, and
// the new one created. Route 53 refuses that if the old set is no longer there.
package route53

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/smithy-go/transport/http"

	"github.com/certwright/certwright/cmd/certwright-dns/internal/provider"
	"github.com/certwright/certwright/signer/acme/dns01/txt"
)

// Writer writes to the hosted zones of one account.
type Writer struct {
	client *route53.Client
	zoneID string // the hosted zone, if the configuration names it
	zones  provider.Zones
}

// New returns a writer with credentials from where the AWS SDK looks for them. The configuration may name a hosted zone, which
// then is the only one.
func New(ctx context.Context, settings map[string]string) (*Writer, error) {
	if err := provider.CheckKeys(settings, nil, []string{"hostedZoneID"}); err != nil {
		return nil, err
	}
	// Route 53 is the same in all regions; the SDK wants one in any case.
	loaded, err := config.LoadDefaultConfig(ctx, config.WithDefaultRegion("us-east-1"))
	if err != nil {
		return nil, txt.Misconfigured("reading the configuration of the AWS SDK: %w", err)
	}
	return &Writer{client: route53.NewFromConfig(loaded), zoneID: settings["hostedZoneID"]}, nil
}

// Present implements txt.Writer.
func (w *Writer) Present(ctx context.Context, r txt.Record) error {
	return w.change(ctx, r, func(values []types.ResourceRecord) ([]types.ResourceRecord, error) {
		if slices.ContainsFunc(values, is(r)) {
			return values, nil
		}
		if len(values) >= txt.MaxValues {
			return nil, txt.ErrFull
		}
		return append(slices.Clone(values), types.ResourceRecord{Value: aws.String(quoted(r))}), nil
	})
}

// CleanUp implements txt.Writer.
func (w *Writer) CleanUp(ctx context.Context, r txt.Record) error {
	return w.change(ctx, r, func(values []types.ResourceRecord) ([]types.ResourceRecord, error) {
		return slices.DeleteFunc(slices.Clone(values), is(r)), nil
	})
}

// Check implements txt.Checker.
func (w *Writer) Check(ctx context.Context) error {
	if w.zoneID != "" {
		_, err := w.client.GetHostedZone(ctx, &route53.GetHostedZoneInput{Id: aws.String(w.zoneID)})
		return w.failed("looking for", w.zoneID, err)
	}
	_, err := w.client.ListHostedZonesByName(ctx, &route53.ListHostedZonesByNameInput{MaxItems: aws.Int32(1)})
	return w.failed("listing hosted zones", "", err)
}

func quoted(r txt.Record) string { return `"` + r.Value + `"` }

func is(r txt.Record) func(types.ResourceRecord) bool {
	return func(v types.ResourceRecord) bool { return aws.ToString(v.Value) == quoted(r) }
}

// change replaces the values at a record's name by what edit makes of them.
func (w *Writer) change(ctx context.Context, r txt.Record, edit func([]types.ResourceRecord) ([]types.ResourceRecord, error)) error {
	id, err := w.zones.ID(r.Zone, func() (string, error) { return w.find(ctx, r.Zone) })
	if err != nil {
		return err
	}
	old, err := w.read(ctx, id, r)
	if err != nil {
		return err
	}
	var before []types.ResourceRecord
	made := types.ResourceRecordSet{Name: aws.String(r.Name), Type: types.RRTypeTxt, TTL: aws.Int64(txt.TTL)}
	var changes []types.Change
	if old != nil {
		before, made.TTL = old.ResourceRecords, old.TTL
		changes = append(changes, types.Change{Action: types.ChangeActionDelete, ResourceRecordSet: old})
	}
	if made.ResourceRecords, err = edit(before); err != nil {
		return err
	}
	if len(made.ResourceRecords) == len(before) {
		return nil
	}
	if len(made.ResourceRecords) > 0 {
		changes = append(changes, types.Change{Action: types.ChangeActionCreate, ResourceRecordSet: &made})
	}
	_, err = w.client.ChangeResourceRecordSets(ctx, &route53.ChangeResourceRecordSetsInput{
		HostedZoneId: aws.String(id), ChangeBatch: &types.ChangeBatch{Changes: changes},
	})
	var invalid *types.InvalidChangeBatch
	if errors.As(err, &invalid) {
		return fmt.Errorf("%w: %s", provider.ErrConflict, strings.Join(invalid.Messages, "; "))
	}
	return w.failed("changing", r.Zone, err)
}

// read returns the TXT record set at a record's name, or nil.
func (w *Writer) read(ctx context.Context, id string, r txt.Record) (*types.ResourceRecordSet, error) {
	found, err := w.client.ListResourceRecordSets(ctx, &route53.ListResourceRecordSetsInput{
		HostedZoneId: aws.String(id), StartRecordName: aws.String(r.Name), StartRecordType: types.RRTypeTxt, MaxItems: aws.Int32(1),
	})
	if err != nil {
		return nil, w.failed("reading", r.Zone, err)
	}
	for _, set := range found.ResourceRecordSets {
		if aws.ToString(set.Name) == r.Name && set.Type == types.RRTypeTxt {
			return &set, nil
		}
	}
	return nil, nil
}

// find returns the ID of the public hosted zone of this name. Private ones are passed over: no ACME server sees them.
func (w *Writer) find(ctx context.Context, zone string) (string, error) {
	if w.zoneID != "" {
		return w.zoneID, w.isZone(ctx, zone)
	}
	input := &route53.ListHostedZonesByNameInput{DNSName: aws.String(zone)}
	for {
		page, err := w.client.ListHostedZonesByName(ctx, input)
		if err != nil {
			return "", w.failed("looking for", zone, err)
		}
		for _, z := range page.HostedZones {
			if aws.ToString(z.Name) != zone {
				return "", noZone(zone) // they come in order, those of this name first
			}
			if z.Config == nil || !z.Config.PrivateZone {
				return aws.ToString(z.Id), nil
			}
		}
		if !page.IsTruncated {
			return "", noZone(zone)
		}
		input.DNSName, input.HostedZoneId = page.NextDNSName, page.NextHostedZoneId
	}
}

// isZone returns nil if the hosted zone that the configuration names has this name.
func (w *Writer) isZone(ctx context.Context, zone string) error {
	found, err := w.client.GetHostedZone(ctx, &route53.GetHostedZoneInput{Id: aws.String(w.zoneID)})
	if err != nil {
		return w.failed("looking for", zone, err)
	}
	if name := aws.ToString(found.HostedZone.Name); name != zone {
		return txt.Misconfigured("the hosted zone %s is that of %s, not of %s: correct hostedZoneID, or leave it out", w.zoneID, name, zone)
	}
	return nil
}

func noZone(zone string) error {
	return txt.Misconfigured("Route 53 has no public hosted zone %s that these credentials can see", zone)
}

func (w *Writer) failed(doing, zone string, err error) error {
	if err == nil {
		return nil
	}
	status := 0
	var response *http.ResponseError
	if errors.As(err, &response) {
		status = response.HTTPStatusCode()
	}
	return w.zones.Failed(doing, zone, status, err)
}
