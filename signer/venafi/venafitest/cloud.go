// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package venafitest

import (
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// What a Cloud server knows.
const (
	CloudZone = `Kubernetes\Short lived`
	CloudKey  = "6f4b1c1e-8f0c-4c55-9d35-2d5be8a4d0f3"

	applicationID = "15927220-bcdf-11eb-aef6-d3dfbf271ceb"
)

// Cloud is Venafi as a Service.
type Cloud struct {
	*CA
	// URL of the API; ServerCA is what its own certificate leads to, in PEM.
	URL, ServerCA string

	mu       sync.Mutex
	requests map[string]*pending
	template string // its id
}

// NewCloud starts a server until the test ends.
func NewCloud(t testing.TB) *Cloud {
	t.Helper()
	s := &Cloud{CA: newCA(t), requests: map[string]*pending{}, template: "7f3ff940-bcdf-11eb-9af9-c947417e28d0"}
	mux := http.NewServeMux()
	for pattern, f := range map[string]http.HandlerFunc{
		"GET /outagedetection/v1/applications/name/{name}":   s.application,
		"POST /outagedetection/v1/certificaterequests":       s.request,
		"GET /outagedetection/v1/certificaterequests/{id}":   s.status,
		"GET /outagedetection/v1/certificates/{id}/contents": s.contents,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("tppl-api-key") != CloudKey {
				cloudError(w, http.StatusUnauthorized, 10501, "Invalid api key")
				return
			}
			f(w, r)
		})
	}
	s.URL, s.ServerCA = serve(t, mux, tls.NoClientCert)
	return s
}

// Requests returns how many certificates were requested.
func (s *Cloud) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

// Recreate makes the issuing template anew: it has another id.
func (s *Cloud) Recreate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.template = strings.ToLower(rand.Text())
}

// Cancel cancels all requests.
func (s *Cloud) Cancel() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.requests {
		p.failure = "CANCELLED"
	}
}

func cloudError(w http.ResponseWriter, status, code int, format string, args ...any) {
	write(w, status, map[string]any{"errors": []any{map[string]any{"code": code, "message": fmt.Sprintf(format, args...), "args": []string{}}}})
}

func (s *Cloud) application(w http.ResponseWriter, r *http.Request) {
	application, template, _ := strings.Cut(CloudZone, `\`)
	if r.PathValue("name") != application {
		cloudError(w, http.StatusNotFound, 20606, "Unable to find Application for key [%s]", r.PathValue("name"))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	write(w, http.StatusOK, map[string]any{
		"id": applicationID, "companyId": "11447611-28f5-11eb-b879-87373a818312", "name": application,
		"certificateIssuingTemplateAliasIdMap": map[string]string{template: s.template},
	})
}

var period = regexp.MustCompile(`^PT([1-9][0-9]*)H$`)

func (s *Cloud) request(w http.ResponseWriter, r *http.Request) {
	var in struct {
		CSR           string `json:"certificateSigningRequest"`
		ApplicationID string `json:"applicationId"`
		TemplateID    string `json:"certificateIssuingTemplateId"`
		Validity      string `json:"validityPeriod"`
		Client        struct {
			Type       string `json:"type"`
			Identifier string `json:"identifier"`
		} `json:"apiClientInformation"`
	}
	if err := read(r, &in); err != nil {
		cloudError(w, http.StatusBadRequest, 10001, "Invalid JSON: %v", err)
		return
	}
	s.mu.Lock()
	template := s.template
	s.mu.Unlock()
	if in.ApplicationID != applicationID {
		cloudError(w, http.StatusNotFound, 20606, "Unable to find Application for key [%s]", in.ApplicationID)
		return
	}
	if in.TemplateID != template {
		cloudError(w, http.StatusBadRequest, 10701, "The application has no certificate issuing template with the id %s", in.TemplateID)
		return
	}
	req, err := parse(in.CSR)
	if err != nil {
		cloudError(w, http.StatusBadRequest, 10702, "Unable to parse the certificate signing request: %v", err)
		return
	}
	hours := period.FindStringSubmatch(in.Validity)
	if hours == nil {
		cloudError(w, http.StatusBadRequest, 10703, "Invalid validity period %s", in.Validity)
		return
	}
	n, err := strconv.Atoi(hours[1])
	if v := s.violations(req); err != nil || len(v) > 0 {
		cloudError(w, http.StatusBadRequest, 10704, "The certificate signing request does not comply with the issuing template: %s", strings.Join(slices.Sorted(maps.Values(v)), "; "))
		return
	}
	id := strings.ToLower(rand.Text())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests[id] = s.begin(req, time.Now().Add(time.Duration(n)*time.Hour))
	write(w, http.StatusCreated, map[string]any{"certificateRequests": []any{map[string]any{"id": id, "status": "NEW", "applicationId": applicationID}}})
}

func (s *Cloud) status(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.requests[id]
	if p == nil {
		cloudError(w, http.StatusNotFound, 10051, "Unable to find certificate request for key [%s]", id)
		return
	}
	out := map[string]any{"id": id, "applicationId": applicationID, "certificateIssuingTemplateId": s.template, "status": "REQUESTED"}
	switch {
	case p.failure == "CANCELLED":
		out["status"] = p.failure
	case s.step(p):
		out["status"], out["certificateIds"] = "ISSUED", []string{id + "-0", "15840750-3434-11eb-a78e-ffa12262ebbc"}
	case p.reject:
		out["status"], out["errorInformation"] = "REJECTED", map[string]any{"code": 90000, "message": "the approver said no"}
	case p.failure != "":
		out["status"], out["errorInformation"] = "FAILED", map[string]any{"code": 90001, "message": p.failure}
	case p.approve:
		out["status"] = "PENDING_APPROVAL"
	}
	write(w, http.StatusOK, out)
}

func (s *Cloud) contents(w http.ResponseWriter, r *http.Request) {
	id, _ := strings.CutSuffix(r.PathValue("id"), "-0")
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.requests[id]
	switch {
	case p == nil:
		cloudError(w, http.StatusNotFound, 10051, "Unable to find certificate for key [%s]", id)
	case r.URL.Query().Get("chainOrder") != "EE_FIRST" || r.URL.Query().Get("format") != "PEM":
		cloudError(w, http.StatusBadRequest, 10052, "Invalid parameters")
	case p.chain == "":
		cloudError(w, http.StatusConflict, 10053, "The certificate has not been signed yet")
	default:
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, p.chain)
	}
}
