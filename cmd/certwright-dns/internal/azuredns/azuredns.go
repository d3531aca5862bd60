// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package azuredns writes the TXT records of challenges to Azure DNS.
//
// All values at a name are one record set. It is replaced on the condition that it is still the one that was read, by its
// etag.
package azuredns

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/dns/armdns"

	"github.com/certwright/certwright/cmd/certwright-dns/internal/provider"
	"github.com/certwright/certwright/signer/acme/dns01/txt"
)

// Writer writes to the DNS zones of one resource group.
type Writer struct {
	sets  *armdns.RecordSetsClient
	list  *armdns.ZonesClient
	group string
	zones provider.Zones
}

// New returns a writer with credentials from where the Azure SDK looks for them: the environment, a workload identity, a
// managed identity.
func New(settings map[string]string) (*Writer, error) {
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, txt.Misconfigured("reading the credentials of the Azure SDK: %w", err)
	}
	return NewWith(settings, credential, nil)
}

// NewWith is New with other credentials and options.
func NewWith(settings map[string]string, credential azcore.TokenCredential, options *arm.ClientOptions) (*Writer, error) {
	if err := provider.CheckKeys(settings, []string{"subscriptionID", "resourceGroup"}, nil); err != nil {
		return nil, err
	}
	factory, err := armdns.NewClientFactory(settings["subscriptionID"], credential, options)
	if err != nil {
		return nil, fmt.Errorf("building a client of Azure DNS: %w", err)
	}
	return &Writer{sets: factory.NewRecordSetsClient(), list: factory.NewZonesClient(), group: settings["resourceGroup"]}, nil
}

// Present implements txt.Writer.
func (w *Writer) Present(ctx context.Context, r txt.Record) error {
	return w.change(ctx, r, func(values []*armdns.TxtRecord) ([]*armdns.TxtRecord, error) {
		if slices.ContainsFunc(values, is(r)) {
			return values, nil
		}
		if len(values) >= txt.MaxValues {
			return nil, txt.ErrFull
		}
		return append(slices.Clone(values), &armdns.TxtRecord{Value: []*string{to.Ptr(r.Value)}}), nil
	})
}

// CleanUp implements txt.Writer.
func (w *Writer) CleanUp(ctx context.Context, r txt.Record) error {
	return w.change(ctx, r, func(values []*armdns.TxtRecord) ([]*armdns.TxtRecord, error) {
		return slices.DeleteFunc(slices.Clone(values), is(r)), nil
	})
}

// Check implements txt.Checker.
func (w *Writer) Check(ctx context.Context) error {
	_, err := w.list.NewListByResourceGroupPager(w.group, &armdns.ZonesClientListByResourceGroupOptions{Top: to.Ptr[int32](1)}).NextPage(ctx)
	return w.failed("listing zones", "", err)
}

func is(r txt.Record) func(*armdns.TxtRecord) bool {
	return func(v *armdns.TxtRecord) bool { return v != nil && len(v.Value) == 1 && *v.Value[0] == r.Value }
}

// change replaces the values at a record's name by what edit makes of them.
func (w *Writer) change(ctx context.Context, r txt.Record, edit func([]*armdns.TxtRecord) ([]*armdns.TxtRecord, error)) error {
	zone, name := strings.TrimSuffix(r.Zone, "."), relative(r)
	set := armdns.RecordSet{Properties: &armdns.RecordSetProperties{TTL: to.Ptr[int64](txt.TTL)}}
	found, err := w.sets.Get(ctx, w.group, zone, name, armdns.RecordTypeTXT, nil)
	switch {
	case code(err) == "NotFound": // there are no values; a zone that is not there is ParentResourceNotFound
	case err != nil:
		return w.failed("reading", r.Zone, err)
	case found.Properties != nil:
		set = found.RecordSet
	}
	before := set.Properties.TxtRecords
	if set.Properties.TxtRecords, err = edit(before); err != nil {
		return err
	}
	switch {
	case len(set.Properties.TxtRecords) == len(before):
		return nil
	case len(set.Properties.TxtRecords) == 0:
		_, err = w.sets.Delete(ctx, w.group, zone, name, armdns.RecordTypeTXT, &armdns.RecordSetsClientDeleteOptions{IfMatch: set.Etag})
	case set.Etag == nil:
		_, err = w.sets.CreateOrUpdate(ctx, w.group, zone, name, armdns.RecordTypeTXT, set, &armdns.RecordSetsClientCreateOrUpdateOptions{IfNoneMatch: to.Ptr("*")})
	default:
		_, err = w.sets.CreateOrUpdate(ctx, w.group, zone, name, armdns.RecordTypeTXT, set, &armdns.RecordSetsClientCreateOrUpdateOptions{IfMatch: set.Etag})
	}
	if status(err) == http.StatusPreconditionFailed {
		return fmt.Errorf("%w: %w", provider.ErrConflict, err)
	}
	return w.failed("changing", r.Zone, err)
}

// relative returns a record's name as Azure has it: without the zone.
func relative(r txt.Record) string {
	if r.Name == r.Zone {
		return "@"
	}
	return strings.TrimSuffix(r.Name, "."+r.Zone)
}

func status(err error) int {
	var answer *azcore.ResponseError
	if errors.As(err, &answer) {
		return answer.StatusCode
	}
	return 0
}

func code(err error) string {
	var answer *azcore.ResponseError
	if errors.As(err, &answer) {
		return answer.ErrorCode
	}
	return ""
}

func (w *Writer) failed(doing, zone string, err error) error {
	if err == nil {
		return nil
	}
	if c := code(err); c != "" {
		return w.zones.Failed(doing, zone, status(err), fmt.Errorf("resource group %s: Azure DNS answers %d %s", w.group, status(err), c))
	}
	return w.zones.Failed(doing, zone, status(err), err)
}
