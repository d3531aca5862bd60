// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package venafitest

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// What a TPP server knows.
const (
	TPPZone     = `\VED\Policy\Kubernetes\Workloads`
	TPPClientID = "certwright"
	TPPUser     = "signer"
	TPPPassword = "open sesame"
	tppScope    = "certificate:manage"
)

// TPP is a Trust Protection Platform server.
type TPP struct {
	*CA
	// URL of the server, without /vedsdk; ServerCA is what its own certificate leads to, in PEM.
	URL, ServerCA string

	mu       sync.Mutex
	access   map[string]time.Time // tokens and their ends
	refresh  map[string]bool      // each is good for one use
	life     time.Duration
	logins   int
	refusals int
	clients  map[string]bool // client certificates that may log in, in DER
	objects  map[string]*pending
	requests int
	noScope  bool
}

// NewTPP starts a server until the test ends.
func NewTPP(t testing.TB) *TPP {
	t.Helper()
	s := &TPP{
		CA: newCA(t), access: map[string]time.Time{}, refresh: map[string]bool{}, life: time.Hour, clients: map[string]bool{}, objects: map[string]*pending{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /vedauth/authorize/oauth", s.oauth)
	mux.HandleFunc("POST /vedauth/authorize/token", s.token)
	mux.HandleFunc("POST /vedauth/authorize/certificate", s.certificate)
	for method, f := range map[string]func(http.ResponseWriter, *http.Request){
		"request": s.request, "retrieve": s.retrieve, "reset": s.reset, "checkpolicy": s.checkPolicy,
	} {
		mux.HandleFunc("POST /vedsdk/certificates/"+method, s.authorized(f))
	}
	s.URL, s.ServerCA = serve(t, mux, tls.RequestClientCert)
	return s
}

// RefreshToken makes a refresh token, as an administrator does.
func (s *TPP) RefreshToken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newRefresh()
}

// AccessToken makes an access token, as an administrator does.
func (s *TPP) AccessToken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newAccess()
}

// RevokeAll makes all access tokens worthless.
func (s *TPP) RevokeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.access)
}

// TokenLife sets how long new access tokens live.
func (s *TPP) TokenLife(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life = d
}

// Logins returns how often somebody logged in, Refusals how often one was refused, Requests how often a certificate was requested.
func (s *TPP) Logins() int   { return s.count(&s.logins) }
func (s *TPP) Refusals() int { return s.count(&s.refusals) } //nolint:revive // see Logins
func (s *TPP) Requests() int { return s.count(&s.requests) } //nolint:revive // see Logins

func (s *TPP) count(n *int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *n
}

// AllowClient lets the owner of a client certificate log in.
func (s *TPP) AllowClient(der []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients[string(der)] = true
}

// WithoutScope has the API integration grant too little.
func (s *TPP) WithoutScope() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noScope = true
}

// authorized lets only those with a good token through.
func (s *TPP) authorized(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		s.mu.Lock()
		end, known := s.access[token]
		s.mu.Unlock()
		if !ok || !known || time.Now().After(end) {
			write(w, http.StatusUnauthorized, map[string]string{"error": "invalid_token", "error_description": "The access token provided is expired, revoked, or malformed"})
			return
		}
		next(w, r)
	}
}

func tppError(w http.ResponseWriter, format string, args ...any) {
	write(w, http.StatusBadRequest, map[string]string{"Error": fmt.Sprintf(format, args...)})
}

type nameValue struct{ Name, Value string }

func (s *TPP) request(w http.ResponseWriter, r *http.Request) {
	var in struct {
		PolicyDN, ObjectName, PKCS10, Origin, CertificateType string
		CASpecificAttributes                                  []nameValue
		DisableAutomaticRenewal                               bool
	}
	if err := read(r, &in); err != nil {
		tppError(w, "Invalid request: %v", err)
		return
	}
	if in.PolicyDN != TPPZone {
		tppError(w, "PolicyDN: %s does not exist", in.PolicyDN)
		return
	}
	req, err := parse(in.PKCS10)
	if err != nil {
		tppError(w, "PKCS10 data is not valid: %v", err)
		return
	}
	if v := s.violations(req); len(v) > 0 {
		tppError(w, "PKCS#10 data does not fit the policy: %s", strings.Join(slices.Sorted(maps.Values(v)), "; "))
		return
	}
	end := time.Now().Add(90 * 24 * time.Hour)
	for _, a := range in.CASpecificAttributes {
		if a.Name != "Specific End Date" {
			continue
		}
		if end, err = time.Parse(time.RFC3339, a.Value); err != nil {
			tppError(w, "Specific End Date: %v", err)
			return
		}
	}
	dn := in.PolicyDN + `\` + in.ObjectName
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	s.objects[dn] = s.begin(req, end) // in place of the one that was there
	write(w, http.StatusOK, map[string]string{"CertificateDN": dn, "Guid": "{" + rand.Text() + "}"})
}

func (s *TPP) retrieve(w http.ResponseWriter, r *http.Request) {
	var in struct {
		CertificateDN, Format        string
		IncludeChain, RootFirstOrder bool
	}
	if err := read(r, &in); err != nil {
		tppError(w, "Invalid request: %v", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.objects[in.CertificateDN]
	switch {
	case p == nil:
		tppError(w, "Certificate %s does not exist.", in.CertificateDN)
	case in.Format != "Base64" || !in.IncludeChain || in.RootFirstOrder:
		tppError(w, "Format %s is not supported here", in.Format)
	case s.step(p):
		write(w, http.StatusOK, map[string]string{"CertificateData": base64.StdEncoding.EncodeToString([]byte(p.chain)), "Filename": "certificate.cer", "Format": "Base64"})
	case p.reject:
		write(w, http.StatusInternalServerError, map[string]any{"Stage": 600, "Status": "Workflow ticket was rejected by local:approver"})
	case p.failure != "":
		write(w, http.StatusInternalServerError, map[string]any{"Stage": 500, "Status": p.failure})
		p.failure = "This certificate cannot be processed while it is in an error state. Fix any errors, and then click Retry."
	case p.approve:
		write(w, http.StatusAccepted, map[string]any{"Stage": 600, "Status": "Pending workflow resolution"})
	default:
		write(w, http.StatusAccepted, map[string]any{"Stage": 500, "Status": "Post CSR"})
	}
}

func (s *TPP) reset(w http.ResponseWriter, r *http.Request) {
	var in struct {
		CertificateDN string
		Restart       bool
	}
	if err := read(r, &in); err != nil {
		tppError(w, "Invalid request: %v", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.objects[in.CertificateDN]
	switch {
	case p == nil:
		tppError(w, "Certificate %s does not exist.", in.CertificateDN)
	case p.failure == "":
		tppError(w, "Reset is not completed. No reset is required for the certificate.")
	default:
		p.failure = ""
		write(w, http.StatusOK, map[string]bool{"ProcessingResetCompleted": true})
	}
}

func (s *TPP) checkPolicy(w http.ResponseWriter, r *http.Request) {
	var in struct{ PolicyDN, PKCS10 string }
	if err := read(r, &in); err != nil {
		tppError(w, "Invalid request: %v", err)
		return
	}
	if in.PolicyDN != TPPZone {
		tppError(w, "PolicyDN: %s does not exist", in.PolicyDN)
		return
	}
	s.CA.mu.Lock()
	policy := map[string]any{
		"CsrGeneration":         map[string]any{"Locked": false, "Value": "UserProvided"},
		"ManagementType":        map[string]any{"Locked": false, "Value": "Enrollment"},
		"SubjAltNameDnsAllowed": true, "SubjAltNameEmailAllowed": !s.noEmails, "SubjAltNameIpAllowed": !s.noIPs, "SubjAltNameUriAllowed": !s.noURIs,
		"SubjAltNameUpnAllowed": false, "WildcardsAllowed": !s.noWildcards, "WhitelistedDomains": s.domains,
	}
	s.CA.mu.Unlock()
	out := map[string]any{"Error": nil, "Policy": policy}
	if in.PKCS10 != "" {
		req, err := parse(in.PKCS10)
		if err != nil {
			tppError(w, "PKCS10 data is not valid: %v", err)
			return
		}
		details := map[string]any{}
		for name, what := range s.violations(req) {
			details[name] = map[string]any{"Compliant": false, "Value": what}
		}
		enrollable := len(details) == 0
		details["CommonName"] = map[string]any{"Compliant": true, "Value": req.Subject.CommonName}
		out["CSR"] = map[string]any{"Details": details, "Enrollable": enrollable}
	}
	write(w, http.StatusOK, out)
}
