// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package clouddns

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"golang.org/x/oauth2"
	"google.golang.org/api/dns/v1"
	"google.golang.org/api/option"

	"github.com/certwright/certwright/cmd/certwright-dns/internal/providertest"
	"github.com/certwright/certwright/signer/acme/dns01/txt"
)

// stub follows https://cloud.google.com/dns/docs/reference/rest/v1: managedZones.list, resourceRecordSets.list and
// changes.create, which does all or nothing.
type stub struct{ zone *providertest.Zone }

func (s stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const project = "/dns/v1/projects/our-project/managedZones"
	w.Header().Set("Content-Type", "application/json")
	switch status := s.zone.Status(); {
	case r.Header.Get("Authorization") != "Bearer "+providertest.Secret:
		fault(w, http.StatusUnauthorized)
	case status != 0:
		fault(w, status)
	case r.URL.Path == project:
		reply(w, zones(r.URL.Query().Get("dnsName")))
	case r.URL.Path == project+"/public/rrsets" && r.URL.Query().Get("type") == "TXT":
		reply(w, s.records(r.URL.Query().Get("name")))
	case r.URL.Path == project+"/public/changes" && r.Method == http.MethodPost:
		s.change(w, r)
	default:
		fault(w, http.StatusNotFound)
	}
}

func reply(w http.ResponseWriter, answer any) { _ = json.NewEncoder(w).Encode(answer) }

func fault(w http.ResponseWriter, status int) {
	w.WriteHeader(status)
	reply(w, map[string]any{"error": map[string]any{"code": status, "message": "no", "errors": []any{}}})
}

func zones(name string) dns.ManagedZonesListResponse {
	var answer dns.ManagedZonesListResponse
	for _, z := range []*dns.ManagedZone{
		{Name: "private", DnsName: providertest.ZoneName, Visibility: "private"},
		{Name: "public", DnsName: providertest.ZoneName, Visibility: "public"},
	} {
		if name == "" || name == z.DnsName {
			answer.ManagedZones = append(answer.ManagedZones, z)
		}
	}
	return answer
}

func (s stub) records(name string) dns.ResourceRecordSetsListResponse {
	var answer dns.ResourceRecordSetsListResponse
	if values := s.zone.Values(name); len(values) > 0 {
		set := &dns.ResourceRecordSet{Name: name, Type: "TXT", Ttl: 300}
		for _, v := range values {
			set.Rrdatas = append(set.Rrdatas, `"`+v+`"`)
		}
		answer.Rrsets = append(answer.Rrsets, set)
	}
	return answer
}

// change refuses a deletion that is not exactly what is there with 412, and an addition to what is there with 409.
func (s stub) change(w http.ResponseWriter, r *http.Request) {
	var change dns.Change
	if err := json.NewDecoder(r.Body).Decode(&change); err != nil || len(change.Deletions)+len(change.Additions) == 0 {
		fault(w, http.StatusBadRequest)
		return
	}
	var name string
	lists := [2][]string{}
	for i, sets := range [][]*dns.ResourceRecordSet{change.Deletions, change.Additions} {
		for _, set := range sets {
			if set.Type != "TXT" || !strings.HasSuffix(set.Name, "."+providertest.ZoneName) || set.Ttl == 0 {
				fault(w, http.StatusBadRequest)
				return
			}
			name = set.Name
			for _, v := range set.Rrdatas {
				lists[i] = append(lists[i], strings.Trim(v, `"`))
			}
		}
	}
	if slices.ContainsFunc(change.Deletions, func(set *dns.ResourceRecordSet) bool { return set.Ttl != 300 }) {
		fault(w, http.StatusPreconditionFailed)
		return
	}
	if !s.zone.Set(name, lists[0], lists[1]) {
		if len(change.Deletions) == 0 {
			fault(w, http.StatusConflict)
			return
		}
		fault(w, http.StatusPreconditionFailed)
		return
	}
	reply(w, dns.Change{Id: "1", Status: "pending"})
}

func TestWriter(t *testing.T) {
	zone := &providertest.Zone{}
	server := httptest.NewServer(stub{zone})
	defer server.Close()
	providertest.Run(t, zone, func(t *testing.T) txt.Writer {
		w, err := New(t.Context(), map[string]string{"provider": "clouddns", "project": "our-project"},
			option.WithEndpoint(server.URL), option.WithTokenSource(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: providertest.Secret})))
		if err != nil {
			t.Fatal(err)
		}
		return w
	}, server.Close)
}

func TestProjectIsNeeded(t *testing.T) {
	if _, err := New(t.Context(), map[string]string{"provider": "clouddns"}); err == nil || !strings.Contains(err.Error(), `needs the key "project"`) {
		t.Errorf("error %v", err)
	}
}
