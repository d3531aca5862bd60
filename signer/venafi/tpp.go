// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package venafi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/remote"
	"github.com/certwright/certwright/signer/venafi/memory"
)

// policyRoot is the folder that zones are below.
const policyRoot = `\VED\Policy`

// tpp is Trust Protection Platform. A request is a certificate object in the zone's folder, named after the order's key, so it
// is found again by whoever asks for the same.
type tpp struct {
	base   *url.URL
	http   *http.Client
	auth   *tppAuth
	folder string // the DN of the zone
}

func (b *Backend) useTPP(config v1alpha1.VenafiTPP, secrets remote.Secrets, own *memory.Secret) error {
	base, err := remote.BaseURL(config.URL, "venafi.tpp.url")
	if err != nil {
		return err
	}
	parts, err := segments(strings.TrimPrefix(strings.TrimPrefix(config.Zone, policyRoot), `\`), "venafi.tpp.zone")
	if err != nil {
		return err
	}
	if err := remote.CheckSecret(config.CredentialsRef, "venafi.tpp.credentialsRef"); err != nil {
		return err
	}
	t := &tpp{base: base, folder: policyRoot + `\` + strings.Join(parts, `\`)}
	t.auth = &tppAuth{
		base: base, ref: config.CredentialsRef, clientID: config.ClientID, secrets: secrets, own: own, clock: b.clock, turn: make(chan struct{}, 1),
	}
	if t.auth.clientID == "" {
		t.auth.clientID = "certwright"
	}
	if t.http, err = b.client(config.Server, remote.Options{Field: "venafi.tpp"}); err != nil {
		return err
	}
	t.auth.http = t.http
	t.auth.certified, err = b.client(config.Server, remote.Options{Field: "venafi.tpp", Certificate: func(ctx context.Context) (*tls.Certificate, error) {
		return secrets.Certificate(ctx, config.CredentialsRef)
	}})
	b.product = t
	return err
}

// post calls a method of the Web SDK, and once again after a new login if the token is refused.
func (t *tpp) post(ctx context.Context, method string, in any) (*answer, error) {
	refused := ""
	for {
		token, err := t.auth.token(ctx, refused)
		if err != nil {
			return nil, err
		}
		got, err := call{
			client: t.http, method: http.MethodPost, url: t.base.JoinPath("vedsdk", "certificates", method), in: in,
			header: http.Header{"Authorization": {"Bearer " + token}},
		}.do(ctx)
		if err != nil {
			return nil, err
		}
		if got.status != http.StatusUnauthorized || refused != "" {
			return got, nil
		}
		refused = token
	}
}

var errMissing = errors.New("there is no such certificate")

func (t *tpp) sign(ctx context.Context, o order) ([]*x509.Certificate, error) {
	name := "certwright-" + o.key
	made, err := t.retrieve(ctx, t.folder+`\`+name)
	if !errors.Is(err, errMissing) {
		return made, err
	}
	if err := t.request(ctx, name, o); err != nil {
		return nil, err
	}
	made, err = t.retrieve(ctx, t.folder+`\`+name)
	if errors.Is(err, errMissing) {
		return nil, fmt.Errorf("the server took the request and does not know it: %w", err)
	}
	return made, err
}

// retrieved is the answer to a retrieval: a certificate, or how far it is.
type retrieved struct {
	CertificateData string
	Stage           int
	Status          string
}

// stageApproval is where a person must act.
const stageApproval = 600

func (t *tpp) retrieve(ctx context.Context, dn string) ([]*x509.Certificate, error) {
	got, err := t.post(ctx, "retrieve", map[string]any{"CertificateDN": dn, "Format": "Base64", "IncludeChain": true, "RootFirstOrder": false})
	if err != nil {
		return nil, fmt.Errorf("retrieving the certificate: %w", err)
	}
	var r retrieved
	err = got.decode(&r, http.StatusOK, http.StatusAccepted, http.StatusInternalServerError)
	var refused *refusal
	switch {
	case errors.As(err, &refused) && refused.status == http.StatusBadRequest && refused.says("does not exist"):
		return nil, errMissing
	case err != nil:
		return nil, fmt.Errorf("retrieving the certificate: %w", err)
	case got.status == http.StatusAccepted && r.Status != "":
		return nil, pending(r)
	case got.status == http.StatusInternalServerError && r.Status != "" && r.Stage > 0:
		return nil, t.failed(ctx, dn, r)
	case got.status != http.StatusOK || r.CertificateData == "":
		return nil, fmt.Errorf("retrieving the certificate: the server answers with status %d and no certificate", got.status)
	}
	text, err := base64.StdEncoding.DecodeString(r.CertificateData)
	if err != nil {
		return nil, errors.New("retrieving the certificate: it is not in base64")
	}
	return chain(text)
}

// How long until a request is asked for again: while machines are at work, and while a person is.
const (
	soon  = 5 * time.Second
	later = time.Minute
)

func pending(r retrieved) error {
	after := soon
	if r.Stage == stageApproval || strings.Contains(strings.ToLower(r.Status), "approv") {
		after = later
	}
	return &signer.PendingError{After: after, Reason: fmt.Sprintf("the server is at stage %d: %s", r.Stage, remote.Quote(r.Status))}
}

// failed is about a certificate object in an error state, which it leaves only when somebody resets it.
func (t *tpp) failed(ctx context.Context, dn string, r retrieved) error {
	err := fmt.Errorf("the server failed at stage %d: %s", r.Stage, remote.Quote(r.Status))
	if r.Stage == stageApproval && strings.Contains(strings.ToLower(r.Status), "reject") {
		return &signer.PermanentError{Err: err} // a person said no; at other stages it is the server that was rejected
	}
	got, resetErr := t.post(ctx, "reset", map[string]any{"CertificateDN": dn, "Restart": true})
	if resetErr == nil && got.status != http.StatusOK {
		resetErr = got.refused()
	}
	if resetErr != nil {
		return fmt.Errorf("%w; having it try again: %w", err, resetErr)
	}
	return &signer.RequestError{Err: fmt.Errorf("%w; it was told to try again", err)}
}

// attribute is one that only the CA behind the zone understands.
type attribute struct{ Name, Value string }

// endDates are the names that the drivers of TPP's CAs have for the end of a certificate's life.
var endDates = []string{"Specific End Date", "Microsoft CA:Specific End Date", "DigiCert CA:Specific End Date", "EntrustNET CA:Specific End Date"}

func (t *tpp) request(ctx context.Context, name string, o order) error {
	attributes := []attribute{{"Origin", "Certwright"}}
	for _, n := range endDates {
		attributes = append(attributes, attribute{n, o.notAfter.Format(time.RFC3339)})
	}
	got, err := t.post(ctx, "request", map[string]any{
		"PolicyDN": t.folder, "ObjectName": name, "PKCS10": o.pkcs10, "Origin": "Certwright", "CASpecificAttributes": attributes,
		"CertificateType": "AUTO", "DisableAutomaticRenewal": true,
	})
	if err != nil {
		return fmt.Errorf("requesting the certificate: %w", err)
	}
	var r struct{ CertificateDN string }
	if err := got.decode(&r, http.StatusOK, http.StatusCreated, http.StatusAccepted); err != nil {
		return t.refused(ctx, o, fmt.Errorf("requesting the certificate: %w", err))
	}
	if want := t.folder + `\` + name; !strings.EqualFold(r.CertificateDN, want) {
		return fmt.Errorf("requesting the certificate: the server keeps it as %s, not %s", remote.Quote(r.CertificateDN), remote.Quote(want))
	}
	return nil
}

// refused finds out why a request was refused. Only where the zone's policy does not allow it, it is so for good.
func (t *tpp) refused(ctx context.Context, o order, err error) error {
	var r *refusal
	if !errors.As(err, &r) || r.status != http.StatusBadRequest {
		return err
	}
	policy, policyErr := t.policy(ctx, o.pkcs10)
	switch {
	case policyErr != nil:
		return fmt.Errorf("%w; asking what the zone allows: %w", err, policyErr)
	case policy.CSR.Enrollable == nil || *policy.CSR.Enrollable:
		return &signer.RequestError{Err: err}
	}
	return permanent("the zone does not allow it%s: %w", policy.forbids(o), err)
}

// checked is what the zone's policy says, and what it says of a request.
type checked struct {
	CSR struct {
		Details    map[string]json.RawMessage
		Enrollable *bool
	}
	Policy struct {
		CsrGeneration struct {
			Locked bool
			Value  string
		}
		SubjAltNameDnsAllowed, SubjAltNameEmailAllowed, SubjAltNameIpAllowed, SubjAltNameUriAllowed *bool
		WildcardsAllowed                                                                            *bool
	}
}

// policy asks for the policy, and whether it allows a request if that is not empty.
func (t *tpp) policy(ctx context.Context, pkcs10 string) (*checked, error) {
	in := map[string]string{"PolicyDN": t.folder}
	if pkcs10 != "" {
		in["PKCS10"] = pkcs10
	}
	got, err := t.post(ctx, "checkpolicy", in)
	if err != nil {
		return nil, err
	}
	var c checked
	err = got.decode(&c, http.StatusOK)
	var r *refusal
	if errors.As(err, &r) && r.status == http.StatusBadRequest && r.says("does not exist") {
		return nil, checkError(reasonZoneUnknown, "there is no policy folder %s: set venafi.tpp.zone to one that the account may read: %w", remote.Quote(t.folder), r)
	}
	return &c, err
}

// forbids names the fields of the request that the policy does not allow, as far as it tells.
func (c *checked) forbids(o order) string {
	no := func(allowed *bool) bool { return allowed != nil && !*allowed }
	var fields []string
	add := func(field string, forbidden bool) {
		if forbidden {
			fields = append(fields, field)
		}
	}
	wildcards := slices.ContainsFunc(o.req.DNSNames, func(n string) bool { return strings.HasPrefix(n, "*.") })
	add("dnsNames", len(o.req.DNSNames) > 0 && no(c.Policy.SubjAltNameDnsAllowed) || wildcards && no(c.Policy.WildcardsAllowed))
	add("ipAddresses", len(o.req.IPAddresses) > 0 && no(c.Policy.SubjAltNameIpAllowed))
	add("uris", len(o.req.URIs) > 0 && no(c.Policy.SubjAltNameUriAllowed))
	add("emailAddresses", len(o.req.EmailAddresses) > 0 && no(c.Policy.SubjAltNameEmailAllowed))
	for name, detail := range c.CSR.Details {
		var d struct{ Compliant *bool }
		add(remote.Bound(name), json.Unmarshal(detail, &d) == nil && no(d.Compliant))
	}
	if len(fields) == 0 {
		return ""
	}
	slices.Sort(fields)
	return " (" + strings.Join(fields, ", ") + ")"
}

func (t *tpp) check(ctx context.Context) error {
	c, err := t.policy(ctx, "")
	if err != nil {
		return fmt.Errorf("reading the zone's policy: %w", err)
	}
	if g := c.Policy.CsrGeneration; g.Locked && g.Value == "ServiceGenerated" {
		return checkError(reasonZoneUnusable, "the policy folder %s has the server make keys and requests: set its CSR Generation to User Provided", remote.Quote(t.folder))
	}
	if err := t.auth.saved(ctx); err != nil {
		return &signer.CheckError{Reason: reasonRefreshTokenUnsaved, Signs: true, Err: fmt.Errorf("the next refresh token is in memory only, and lost if the signer restarts: %w", err)}
	}
	return nil
}
