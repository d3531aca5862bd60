// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package venafi

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/remote"
	"github.com/certwright/certwright/signer/venafi/memory"
)

// cloud is Venafi as a Service. A request has an id there, which is kept as long as somebody could ask for the same.
type cloud struct {
	base                  *url.URL
	http                  *http.Client
	secrets               remote.Secrets
	apiKey                v1alpha1.SecretKeyRef
	application, template string // their names, as in the zone
	orders                *memory.Orders

	mu   sync.Mutex
	zone *zone
}

// zone holds the ids of the application and the template.
type zone struct{ application, template string }

func (b *Backend) useCloud(config v1alpha1.VenafiCloud, secrets remote.Secrets, own *memory.Secret) error {
	if config.URL == "" {
		config.URL = "https://api.venafi.cloud"
	}
	base, err := remote.BaseURL(config.URL, "venafi.cloud.url")
	if err != nil {
		return err
	}
	parts, err := segments(config.Zone, "venafi.cloud.zone")
	if err == nil && len(parts) != 2 {
		err = fmt.Errorf(`venafi.cloud.zone: %q must be APPLICATION\TEMPLATE`, config.Zone)
	}
	if err != nil {
		return err
	}
	if err := remote.CheckRef(config.APIKeyRef, "venafi.cloud.apiKeyRef"); err != nil {
		return err
	}
	c := &cloud{base: base, secrets: secrets, apiKey: config.APIKeyRef, application: parts[0], template: parts[1], orders: memory.NewOrders(own, b.clock)}
	c.http, err = b.client(v1alpha1.Server{URL: config.URL, CABundle: config.CABundle}, remote.Options{Field: "venafi.cloud"})
	b.product = c
	return err
}

// outage is where requests and certificates are.
var outage = []string{"outagedetection", "v1"}

// ask calls the API.
func (c *cloud) ask(ctx context.Context, method string, query url.Values, in any, path ...string) (*answer, error) {
	key, err := c.secrets.Entry(ctx, c.apiKey)
	if err != nil {
		return nil, err
	}
	for i, p := range path {
		path[i] = url.PathEscape(p)
	}
	to := c.base.JoinPath(path...)
	to.RawQuery = query.Encode()
	got, err := call{client: c.http, method: method, url: to, in: in, header: http.Header{"Tppl-Api-Key": {string(key)}}}.do(ctx)
	if err == nil && got.status == http.StatusUnauthorized {
		return nil, checkError(reasonCredentialsRefused, "Secret %s/%s: the server refuses the API key in %q: put a new one: %w", c.secrets.Namespace, c.apiKey.Name, c.apiKey.Key, got.refused())
	}
	return got, err
}

func (c *cloud) sign(ctx context.Context, o order) ([]*x509.Certificate, error) {
	id, err := c.orders.Find(ctx, o.key)
	if err != nil {
		return nil, err
	}
	if id == "" {
		if id, err = c.request(ctx, o); err != nil {
			return nil, err
		}
		c.orders.Remember(o.key, id)
	}
	made, err := c.pickUp(ctx, o, id)
	var pending *signer.PendingError
	if errors.As(err, &pending) {
		c.orders.Keep(ctx, o.key)
	}
	return made, err
}

func (c *cloud) request(ctx context.Context, o order) (string, error) {
	z, err := c.readZone(ctx, false)
	if err != nil {
		return "", err
	}
	hours := int(o.duration / time.Hour)
	if hours < 1 {
		return "", permanent("duration: %s are granted, and the server takes whole hours only: ask for an hour or more", o.duration)
	}
	got, err := c.ask(ctx, http.MethodPost, nil, map[string]any{
		"certificateSigningRequest": o.pkcs10, "applicationId": z.application, "certificateIssuingTemplateId": z.template,
		"validityPeriod":       fmt.Sprintf("PT%dH", hours),
		"apiClientInformation": map[string]string{"type": "Certwright", "identifier": "Certwright"},
	}, append(outage, "certificaterequests")...)
	if err != nil {
		return "", fmt.Errorf("requesting the certificate: %w", err)
	}
	var made struct {
		CertificateRequests []struct {
			ID string `json:"id"`
		} `json:"certificateRequests"`
	}
	err = got.decode(&made, http.StatusOK, http.StatusCreated)
	var r *refusal
	switch {
	case errors.As(err, &r) && r.status == http.StatusBadRequest && r.words != "":
		now, zoneErr := c.readZone(ctx, true)
		if zoneErr != nil {
			return "", fmt.Errorf("requesting the certificate: %w; reading the zone anew: %w", r, zoneErr)
		}
		if *now != *z {
			break // the refusal was about ids that were out of date
		}
		// All but the PKCS #10 request and the lifetime is what the server told itself, so it is these that the template refuses.
		return "", permanent("the issuing template does not allow it: %w", r)
	case errors.As(err, &r) && r.status == http.StatusNotFound:
		c.forgetZone()
	}
	if err != nil {
		return "", fmt.Errorf("requesting the certificate: %w", err)
	}
	if len(made.CertificateRequests) != 1 || !memory.IsID(made.CertificateRequests[0].ID) {
		return "", errors.New("requesting the certificate: the server's answer names no request")
	}
	return made.CertificateRequests[0].ID, nil
}

// pickUp returns the certificate of a request, or how far it is.
func (c *cloud) pickUp(ctx context.Context, o order, id string) ([]*x509.Certificate, error) {
	got, err := c.ask(ctx, http.MethodGet, nil, nil, append(outage, "certificaterequests", id)...)
	if err != nil {
		return nil, fmt.Errorf("asking for the request: %w", err)
	}
	var s struct {
		Status         string   `json:"status"`
		CertificateIDs []string `json:"certificateIds"`
		Error          struct {
			Message string `json:"message"`
		} `json:"errorInformation"`
	}
	if err := got.decode(&s, http.StatusOK); err != nil {
		return nil, fmt.Errorf("asking for the request: %w", err)
	}
	said := fmt.Errorf("the server says of request %s: %s %s", id, remote.Quote(s.Status), remote.Quote(s.Error.Message))
	switch {
	case s.Status == "ISSUED":
		if len(s.CertificateIDs) == 0 || !memory.IsID(s.CertificateIDs[0]) {
			return nil, fmt.Errorf("request %s is issued, but the server names no certificate", id)
		}
		return c.contents(ctx, s.CertificateIDs[0])
	case strings.HasPrefix(s.Status, "REJECTED"), s.Status == "CANCELLED":
		return nil, &signer.PermanentError{Err: said}
	case s.Status == "FAILED":
		c.orders.Forget(ctx, o.key) // the next try is a new request
		return nil, &signer.RequestError{Err: said}
	case s.Status == "":
		return nil, errors.New("asking for the request: the server's answer has no status")
	}
	after := soon
	if !strings.HasPrefix(s.Status, "PENDING") && s.Status != "NEW" && s.Status != "REQUESTED" || strings.Contains(s.Status, "APPROVAL") {
		after = later
	}
	return nil, &signer.PendingError{After: after, Reason: fmt.Sprintf("the server says of request %s: %s", id, remote.Quote(s.Status))}
}

func (c *cloud) contents(ctx context.Context, id string) ([]*x509.Certificate, error) {
	got, err := c.ask(ctx, http.MethodGet, url.Values{"chainOrder": {"EE_FIRST"}, "format": {"PEM"}}, nil, append(outage, "certificates", id, "contents")...)
	switch {
	case err != nil:
		return nil, fmt.Errorf("retrieving the certificate: %w", err)
	case got.status == http.StatusConflict:
		return nil, &signer.PendingError{After: soon, Reason: "the server says that the CA has not signed yet"}
	case got.status != http.StatusOK:
		return nil, fmt.Errorf("retrieving the certificate: %w", got.refused())
	}
	return chain(got.body)
}

// readZone returns the ids of the zone, from before unless they must be new.
func (c *cloud) readZone(ctx context.Context, anew bool) (*zone, error) {
	c.mu.Lock()
	z := c.zone
	c.mu.Unlock()
	if z != nil && !anew {
		return z, nil
	}
	got, err := c.ask(ctx, http.MethodGet, nil, nil, append(outage, "applications", "name", c.application)...)
	if err != nil {
		return nil, fmt.Errorf("reading the zone: %w", err)
	}
	var a struct {
		ID        string            `json:"id"`
		Templates map[string]string `json:"certificateIssuingTemplateAliasIdMap"`
	}
	err = got.decode(&a, http.StatusOK)
	var r *refusal
	switch {
	case errors.As(err, &r) && r.status == http.StatusNotFound:
		return nil, checkError(reasonZoneUnknown, "there is no application %q that the API key may use: %w", c.application, r)
	case err != nil:
		return nil, fmt.Errorf("reading the zone: %w", err)
	case a.ID == "":
		return nil, errors.New("reading the zone: the server's answer has no id")
	case a.Templates[c.template] == "":
		return nil, checkError(reasonZoneUnknown, "the application %q has no issuing template with the alias %q", c.application, c.template)
	}
	z = &zone{application: a.ID, template: a.Templates[c.template]}
	c.mu.Lock()
	c.zone = z
	c.mu.Unlock()
	return z, nil
}

func (c *cloud) forgetZone() {
	c.mu.Lock()
	c.zone = nil
	c.mu.Unlock()
}

func (c *cloud) check(ctx context.Context) error {
	if _, err := c.readZone(ctx, true); err != nil {
		return err
	}
	if err := c.orders.Saved(ctx); err != nil {
		return &signer.CheckError{Reason: memory.ReasonSecretNotWritable, Signs: true, Err: fmt.Errorf("requests that wait are in memory only, and are ordered again if the signer restarts: %w", err)}
	}
	return nil
}
