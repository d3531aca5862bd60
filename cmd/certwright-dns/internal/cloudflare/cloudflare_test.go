// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cloudflare

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/cloudflare/cloudflare-go"

	"github.com/certwright/certwright/cmd/certwright-dns/internal/providertest"
	"github.com/certwright/certwright/signer/acme/dns01/txt"
)

// stub follows https://developers.cloudflare.com/api/: the list of zones, and listing, creating and deleting DNS records. The
// ID of a record is its value.
type stub struct{ zone *providertest.Zone }

func (s stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	const records = "/zones/zone-id/dns_records"
	switch status := s.zone.Status(); {
	case r.Header.Get("Authorization") != "Bearer "+providertest.Secret:
		fault(w, http.StatusForbidden, 9109)
	case status != 0:
		fault(w, status, 10000)
	case r.URL.Path == "/zones":
		var found []map[string]string
		if name := r.URL.Query().Get("name"); name == "" || name == bare(providertest.ZoneName) {
			found = append(found, map[string]string{"id": "zone-id", "name": bare(providertest.ZoneName)})
		}
		list(w, found)
	case r.URL.Path == records && r.Method == http.MethodGet && r.URL.Query().Get("type") == "TXT":
		var found []map[string]string
		for _, v := range s.zone.Values(r.URL.Query().Get("name") + ".") {
			found = append(found, map[string]string{"id": v, "type": "TXT", "name": r.URL.Query().Get("name"), "content": `"` + v + `"`})
		}
		list(w, found)
	case r.URL.Path == records && r.Method == http.MethodPost:
		s.create(w, r)
	case strings.HasPrefix(r.URL.Path, records+"/") && r.Method == http.MethodDelete:
		s.remove(w, strings.TrimPrefix(r.URL.Path, records+"/"))
	default:
		fault(w, http.StatusNotFound, 7003)
	}
}

func list(w http.ResponseWriter, result []map[string]string) {
	reply(w, map[string]any{"success": true, "errors": []any{}, "result": result, "result_info": map[string]int{
		"page": 1, "per_page": 100, "count": len(result), "total_count": len(result), "total_pages": 1,
	}})
}

func reply(w http.ResponseWriter, answer any) { _ = json.NewEncoder(w).Encode(answer) }

func fault(w http.ResponseWriter, status, code int) {
	w.WriteHeader(status)
	reply(w, map[string]any{"success": false, "errors": []any{map[string]any{"code": code, "message": "no"}}, "result": nil})
}

func (s stub) create(w http.ResponseWriter, r *http.Request) {
	var record cloudflare.DNSRecord
	if err := json.NewDecoder(r.Body).Decode(&record); err != nil || record.Type != "TXT" || record.TTL < 60 || !strings.HasSuffix(record.Name, "."+bare(providertest.ZoneName)) {
		fault(w, http.StatusBadRequest, 9000)
		return
	}
	made := strings.Trim(record.Content, `"`)
	for {
		old := s.zone.Values(record.Name + ".")
		if slices.Contains(old, made) {
			fault(w, http.StatusBadRequest, identical)
			return
		}
		if s.zone.Set(record.Name+".", old, append(slices.Clone(old), made)) {
			record.ID = made
			reply(w, map[string]any{"success": true, "errors": []any{}, "result": record})
			return
		}
	}
}

// names that the tests write at.
var names = []string{"_acme-challenge.www." + providertest.ZoneName, "_acme-challenge.certwright-conformance." + providertest.ZoneName}

func (s stub) remove(w http.ResponseWriter, id string) {
	for _, name := range names {
		for {
			old := s.zone.Values(name)
			if !slices.Contains(old, id) {
				break
			}
			if s.zone.Set(name, old, slices.DeleteFunc(slices.Clone(old), func(v string) bool { return v == id })) {
				reply(w, map[string]any{"success": true, "errors": []any{}, "result": map[string]string{"id": id}})
				return
			}
		}
	}
	fault(w, http.StatusNotFound, 81044)
}

func TestWriter(t *testing.T) {
	zone := &providertest.Zone{}
	server := httptest.NewServer(stub{zone})
	defer server.Close()
	providertest.Run(t, zone, func(t *testing.T) txt.Writer {
		w, err := New(map[string]string{"provider": "cloudflare"}, providertest.Secret, cloudflare.BaseURL(server.URL), cloudflare.UsingRateLimit(10000))
		if err != nil {
			t.Fatal(err)
		}
		return w
	}, server.Close)
}

// Somebody else writes the same value between reading and writing, as another process does for the same challenge.
func TestIdenticalRecord(t *testing.T) {
	zone := &providertest.Zone{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			fault(w, http.StatusBadRequest, identical)
			return
		}
		stub{zone}.ServeHTTP(w, r)
	}))
	defer server.Close()
	w, err := New(nil, providertest.Secret, cloudflare.BaseURL(server.URL))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Present(t.Context(), txt.Record{Zone: providertest.ZoneName, Name: names[0], Value: strings.Repeat("v", 43)}); err != nil {
		t.Error(err)
	}
}

func TestTokenIsNeeded(t *testing.T) {
	if _, err := New(nil, ""); err == nil || !strings.Contains(err.Error(), "CLOUDFLARE_API_TOKEN") {
		t.Errorf("error %v", err)
	}
}
