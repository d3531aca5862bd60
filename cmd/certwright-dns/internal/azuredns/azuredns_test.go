// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package azuredns

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/dns/armdns"

	"github.com/certwright/certwright/cmd/certwright-dns/internal/providertest"
	"github.com/certwright/certwright/signer/acme/dns01/txt"
)

// stub follows https://learn.microsoft.com/rest/api/dns/record-sets: Get, Create Or Update and Delete with their conditions, and
// the list of zones.
type stub struct{ zone *providertest.Zone }

const zonesPath = "/subscriptions/our-subscription/resourceGroups/our-group/providers/Microsoft.Network/dnsZones"

func (s stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	records := zonesPath + "/" + strings.TrimSuffix(providertest.ZoneName, ".") + "/TXT/"
	switch status := s.zone.Status(); {
	case r.Header.Get("Authorization") != "Bearer "+providertest.Secret:
		fault(w, http.StatusUnauthorized, "AuthenticationFailed")
	case status != 0:
		fault(w, status, "Fault")
	case r.URL.Path == zonesPath:
		reply(w, armdns.ZoneListResult{Value: []*armdns.Zone{}})
	case !strings.HasPrefix(r.URL.Path, records):
		fault(w, http.StatusNotFound, "ParentResourceNotFound")
	default:
		s.record(w, r, strings.TrimPrefix(r.URL.Path, records)+"."+providertest.ZoneName)
	}
}

func reply(w http.ResponseWriter, answer any) { _ = json.NewEncoder(w).Encode(answer) }

func fault(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	reply(w, map[string]any{"error": map[string]string{"code": code, "message": "no"}})
}

// etag of some values: it changes with them.
func etag(values []string) string { return strings.Join(values, "+") }

func set(values []string) armdns.RecordSet {
	made := armdns.RecordSet{Etag: to.Ptr(etag(values)), Properties: &armdns.RecordSetProperties{TTL: to.Ptr[int64](300)}}
	for _, v := range values {
		made.Properties.TxtRecords = append(made.Properties.TxtRecords, &armdns.TxtRecord{Value: []*string{to.Ptr(v)}})
	}
	return made
}

func (s stub) record(w http.ResponseWriter, r *http.Request, name string) {
	old := s.zone.Values(name)
	if r.Method == http.MethodGet {
		if len(old) == 0 {
			fault(w, http.StatusNotFound, "NotFound")
			return
		}
		reply(w, set(old))
		return
	}
	// The etag names the values that it stands for, so what another one wrote in the meantime does not match.
	var expected []string
	if match := r.Header.Get("If-Match"); match != "" {
		expected = strings.Split(match, "+")
	} else if r.Header.Get("If-None-Match") != "*" {
		fault(w, http.StatusBadRequest, "TheTestsWantAConditionAlways")
		return
	}
	var values []string
	if r.Method == http.MethodPut {
		var request armdns.RecordSet
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil || request.Properties == nil || len(request.Properties.TxtRecords) == 0 || len(request.Properties.TxtRecords) > 20 {
			fault(w, http.StatusBadRequest, "BadRequest")
			return
		}
		for _, record := range request.Properties.TxtRecords {
			values = append(values, *record.Value[0])
		}
	}
	if !s.zone.Set(name, expected, values) {
		fault(w, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	}
	reply(w, set(values))
}

// token is a credential that needs nobody to get one from.
type token struct{}

func (token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: providertest.Secret, ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func TestWriter(t *testing.T) {
	zone := &providertest.Zone{}
	server := httptest.NewTLSServer(stub{zone})
	defer server.Close()
	options := &arm.ClientOptions{DisableRPRegistration: true, ClientOptions: policy.ClientOptions{
		Transport: server.Client(),
		Retry:     policy.RetryOptions{MaxRetries: -1},
		Cloud: cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: server.URL, Audience: "https://management.example.test"},
		}},
	}}
	providertest.Run(t, zone, func(t *testing.T) txt.Writer {
		w, err := NewWith(map[string]string{"provider": "azuredns", "subscriptionID": "our-subscription", "resourceGroup": "our-group"}, token{}, options)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}, server.Close)
}

func TestNeededKeys(t *testing.T) {
	for _, settings := range []map[string]string{{"subscriptionID": "a"}, {"resourceGroup": "a"}} {
		if _, err := NewWith(settings, token{}, nil); err == nil || !strings.Contains(err.Error(), "needs the key") {
			t.Errorf("%v: error %v", settings, err)
		}
	}
}
