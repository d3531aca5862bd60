// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package route53

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/certwright/certwright/cmd/certwright-dns/internal/providertest"
	"github.com/certwright/certwright/signer/acme/dns01/txt"
)

// stub follows https://docs.aws.amazon.com/Route53/latest/APIReference/: ListHostedZonesByName, ListResourceRecordSets and
// ChangeResourceRecordSets with its rule that a batch is done as a whole or not at all.
type stub struct{ zone *providertest.Zone }

func (s stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/xml")
	switch status := s.zone.Status(); {
	case !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"):
		fault(w, http.StatusForbidden, "MissingAuthenticationToken")
	case status == http.StatusTooManyRequests:
		fault(w, http.StatusBadRequest, "Throttling")
	case status != 0:
		fault(w, status, "AccessDenied")
	case r.URL.Path == "/2013-04-01/hostedzonesbyname":
		s.listZones(w, r)
	case r.URL.Path == "/2013-04-01/hostedzone/Z2":
		fmt.Fprintf(w, `<GetHostedZoneResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><HostedZone><Id>/hostedzone/Z2</Id><Name>%s</Name><CallerReference>x</CallerReference></HostedZone></GetHostedZoneResponse>`, providertest.ZoneName)
	case strings.TrimSuffix(r.URL.Path, "/") != "/2013-04-01/hostedzone/Z2/rrset":
		fault(w, http.StatusNotFound, "NoSuchHostedZone")
	case r.Method == http.MethodPost:
		s.change(w, r)
	default:
		s.listRecords(w, r)
	}
}

func fault(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `<ErrorResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><Error><Type>Sender</Type><Code>%s</Code><Message>no</Message></Error></ErrorResponse>`, code)
}

// listZones lists the zones from the name that is asked for on, in pages of one: a private zone, the public one, another one.
func (s stub) listZones(w http.ResponseWriter, r *http.Request) {
	zones := []struct {
		id, name string
		private  bool
	}{{"Z1", providertest.ZoneName, true}, {"Z2", providertest.ZoneName, false}, {"Z3", "other.test.", false}}
	query := r.URL.Query()
	i := 0
	switch {
	case query.Get("hostedzoneid") == "Z2":
		i = 1
	case query.Get("dnsname") > providertest.ZoneName:
		i = 2
	}
	fmt.Fprintf(w, `<ListHostedZonesByNameResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><HostedZones><HostedZone><Id>/hostedzone/%s</Id><Name>%s</Name><CallerReference>x</CallerReference><Config><PrivateZone>%t</PrivateZone></Config></HostedZone></HostedZones>`, zones[i].id, zones[i].name, zones[i].private)
	if i < 2 {
		fmt.Fprintf(w, `<IsTruncated>true</IsTruncated><NextDNSName>%s</NextDNSName><NextHostedZoneId>%s</NextHostedZoneId>`, zones[i+1].name, zones[i+1].id)
	}
	fmt.Fprint(w, `<MaxItems>1</MaxItems></ListHostedZonesByNameResponse>`)
}

type recordSet struct {
	Name, Type string
	TTL        int
	Values     []value `xml:"ResourceRecords>ResourceRecord"`
}

type value struct{ Value string }

func (s stub) listRecords(w http.ResponseWriter, r *http.Request) {
	sets := []recordSet{{Name: providertest.ZoneName, Type: "SOA", TTL: 900, Values: []value{{"a. b. 1 1 1 1 1"}}}} // what comes next, if nothing is there
	name := r.URL.Query().Get("name")
	if values := s.zone.Values(name); len(values) > 0 {
		sets = []recordSet{{Name: name, Type: "TXT", TTL: 300, Values: quotedAll(values)}}
	}
	answer := struct {
		XMLName     xml.Name    `xml:"https://route53.amazonaws.com/doc/2013-04-01/ ListResourceRecordSetsResponse"`
		Sets        []recordSet `xml:"ResourceRecordSets>ResourceRecordSet"`
		IsTruncated bool
		MaxItems    int
	}{Sets: sets, MaxItems: 1}
	_ = xml.NewEncoder(w).Encode(answer)
}

func quotedAll(values []string) []value {
	var quoted []value
	for _, v := range values {
		quoted = append(quoted, value{`"` + v + `"`})
	}
	return quoted
}

// change does a batch: DELETE must name the set exactly, CREATE is refused if there is one.
func (s stub) change(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var request struct {
		Changes []struct {
			Action string
			Set    recordSet `xml:"ResourceRecordSet"`
		} `xml:"ChangeBatch>Changes>Change"`
	}
	if err := xml.Unmarshal(body, &request); err != nil || len(request.Changes) == 0 || len(request.Changes) > 2 {
		fault(w, http.StatusBadRequest, "InvalidInput")
		return
	}
	var old, made []string
	for _, c := range request.Changes {
		var values []string
		for _, v := range c.Set.Values {
			values = append(values, strings.Trim(v.Value, `"`))
		}
		switch {
		case c.Set.Type != "TXT" || c.Set.TTL == 0:
			fault(w, http.StatusBadRequest, "InvalidInput")
			return
		case c.Action == "DELETE" && c.Set.TTL == 300:
			old = values
		case c.Action == "CREATE":
			made = values
		}
	}
	if !s.zone.Set(request.Changes[0].Set.Name, old, made) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `<InvalidChangeBatch xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><Messages><Message>Tried to delete resource record set but the values provided do not match the current values</Message></Messages></InvalidChangeBatch>`)
		return
	}
	fmt.Fprint(w, `<ChangeResourceRecordSetsResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><ChangeInfo><Id>/change/C1</Id><Status>PENDING</Status><SubmittedAt>2030-01-01T00:00:00Z</SubmittedAt></ChangeInfo></ChangeResourceRecordSetsResponse>`)
}

// environment is where the SDK gets its credentials from.
func environment(t *testing.T, url string) {
	t.Helper()
	for key, value := range map[string]string{
		"AWS_ENDPOINT_URL_ROUTE_53": url, "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": providertest.Secret,
		"AWS_MAX_ATTEMPTS": "1", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(key, value)
	}
}

func TestWriter(t *testing.T) {
	for title, settings := range map[string]map[string]string{"zone found by name": {"provider": "route53"}, "zone by ID": {"provider": "route53", "hostedZoneID": "Z2"}} {
		t.Run(title, func(t *testing.T) {
			zone := &providertest.Zone{}
			server := httptest.NewServer(stub{zone})
			defer server.Close()
			environment(t, server.URL)
			providertest.Run(t, zone, func(t *testing.T) txt.Writer {
				w, err := New(t.Context(), settings)
				if err != nil {
					t.Fatal(err)
				}
				return w
			}, server.Close)
		})
	}
}

func TestUnknownKey(t *testing.T) {
	if _, err := New(t.Context(), map[string]string{"provider": "route53", "secretAccessKey": "x"}); err == nil || !strings.Contains(err.Error(), `"secretAccessKey"`) {
		t.Errorf("error %v, want one that names the key", err)
	}
}
