// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package digitalocean

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/digitalocean/godo"

	"github.com/certwright/certwright/cmd/certwright-dns/internal/providertest"
	"github.com/certwright/certwright/signer/acme/dns01/txt"
)

// stub follows https://docs.digitalocean.com/reference/api/: the list of domains, and listing, creating and deleting domain
// records.
type stub struct {
	zone *providertest.Zone

	mu  sync.Mutex
	ids []string // the value that an ID stands for
}

const domain = "/v2/domains/example.test"

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch status := s.zone.Status(); {
	case r.Header.Get("Authorization") != "Bearer "+providertest.Secret:
		fault(w, http.StatusUnauthorized, "unauthorized")
	case status != 0:
		fault(w, status, "fault")
	case r.URL.Path == "/v2/domains":
		reply(w, http.StatusOK, map[string]any{"domains": []godo.Domain{{Name: "example.test"}}})
	case r.URL.Path == domain+"/records" && r.Method == http.MethodGet && r.URL.Query().Get("type") == "TXT":
		s.list(w, r.URL.Query().Get("name")+".")
	case r.URL.Path == domain+"/records" && r.Method == http.MethodPost:
		s.create(w, r)
	case strings.HasPrefix(r.URL.Path, domain+"/records/") && r.Method == http.MethodDelete:
		s.remove(w, strings.TrimPrefix(r.URL.Path, domain+"/records/"))
	default:
		fault(w, http.StatusNotFound, "not_found")
	}
}

func reply(w http.ResponseWriter, status int, answer any) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

func fault(w http.ResponseWriter, status int, id string) {
	reply(w, status, map[string]string{"id": id, "message": "no"})
}

// id returns the ID of the records with a value.
func (s *stub) id(value string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.ids, value)
	if i < 0 {
		i, s.ids = len(s.ids), append(s.ids, value)
	}
	return i + 1
}

func (s *stub) value(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, err := strconv.Atoi(id); err == nil && n > 0 && n <= len(s.ids) {
		return s.ids[n-1]
	}
	return ""
}

func (s *stub) list(w http.ResponseWriter, name string) {
	var records []godo.DomainRecord
	for _, v := range s.zone.Values(name) {
		records = append(records, godo.DomainRecord{ID: s.id(v), Type: "TXT", Name: strings.TrimSuffix(name, "."+providertest.ZoneName), Data: v, TTL: 60})
	}
	reply(w, http.StatusOK, map[string]any{"domain_records": records, "meta": map[string]int{"total": len(records)}})
}

func (s *stub) create(w http.ResponseWriter, r *http.Request) {
	var request godo.DomainRecordEditRequest
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil || request.Type != "TXT" || request.TTL < 30 || strings.HasSuffix(request.Name, ".") {
		fault(w, http.StatusUnprocessableEntity, "unprocessable_entity")
		return
	}
	name := request.Name + "." + providertest.ZoneName
	for old := s.zone.Values(name); !s.zone.Set(name, old, append(slices.Clone(old), request.Data)); old = s.zone.Values(name) {
	}
	reply(w, http.StatusCreated, map[string]any{"domain_record": godo.DomainRecord{ID: s.id(request.Data), Type: "TXT", Name: request.Name, Data: request.Data}})
}

// names that the tests write at.
var names = []string{"_acme-challenge.www." + providertest.ZoneName, "_acme-challenge.certwright-conformance." + providertest.ZoneName}

func (s *stub) remove(w http.ResponseWriter, id string) {
	value := s.value(id)
	for _, name := range names {
		for old := s.zone.Values(name); slices.Contains(old, value); old = s.zone.Values(name) {
			if s.zone.Set(name, old, slices.DeleteFunc(slices.Clone(old), func(v string) bool { return v == value })) {
				w.WriteHeader(http.StatusNoContent)
				return
			}
		}
	}
	fault(w, http.StatusNotFound, "not_found")
}

func TestWriter(t *testing.T) {
	zone := &providertest.Zone{}
	server := httptest.NewServer(&stub{zone: zone})
	defer server.Close()
	providertest.Run(t, zone, func(t *testing.T) txt.Writer {
		w, err := New(map[string]string{"provider": "digitalocean"}, providertest.Secret, godo.SetBaseURL(server.URL+"/"))
		if err != nil {
			t.Fatal(err)
		}
		return w
	}, server.Close)
}

func TestTokenIsNeeded(t *testing.T) {
	if _, err := New(nil, ""); err == nil || !strings.Contains(err.Error(), "DIGITALOCEAN_ACCESS_TOKEN") {
		t.Errorf("error %v", err)
	}
}
