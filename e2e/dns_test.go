// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/certwright/certwright/api/v1alpha1"
)

const namedConf = `options {
    directory "/data"; pid-file none; session-keyfile none; recursion no;
    listen-on port 5353 { any; }; listen-on-v6 { none; };
};
key certwright { algorithm hmac-sha256; secret "KEY"; };
zone "ZONE" {
    type primary; file "/config/zone"; journal "/data/zone.jnl";
    update-policy { grant certwright zonesub TXT; };
    allow-transfer { any; };
};
`

const zoneFile = `$TTL 1
@ IN SOA ns hostmaster 1 3600 600 86400 1
@ IN NS ns
ns IN A ADDRESS
`

// named is a BIND that is primary for a zone, and takes updates of TXT records signed with the key.
func (s *story) named(zone, key string) server {
	return server{
		name: "named", args: []string{"-g", "-n", "1", "-c", "/config/named.conf"}, files: map[string][]byte{
			"named.conf": []byte(fill(namedConf, "KEY", key, "ZONE", zone)),
		},
		ports: []corev1.ServicePort{port(53, 5353), {Name: "udp-53", Protocol: corev1.ProtocolUDP, Port: 53, TargetPort: intstr.FromInt32(5353)}},
	}
}

// A pod gets a certificate for a name and a wildcard from an ACME server that asks the DNS for them. The signer puts the proofs
// into a zone by signed updates, and takes them away.
func TestPodsGetCertificatesByACMEThroughDNS(t *testing.T) {
	t.Parallel()
	s := tell(t)
	zone, secret := s.name+".example.com", make([]byte, 32)
	_, _ = rand.Read(secret)
	key := base64.StdEncoding.EncodeToString(secret)
	bind := s.named(zone, key)
	address := bind.service(s)
	bind.files["zone"] = []byte(fill(zoneFile, "ADDRESS", address))
	pod := bind.start(s)
	front := s.newCA(nil)
	pebble := s.pebble(front, address+":53")
	pebble.service(s)
	pebble.start(s)
	s.make(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: s.name}, StringData: map[string]string{"tsig": key}})
	s.signer(s.byACME(front, v1alpha1.ACMESolver{DNS01: &v1alpha1.DNS01{
		RFC2136: &v1alpha1.RFC2136{Server: s.host("named"), TSIG: &v1alpha1.TSIG{
			KeyName: "certwright", SecretRef: v1alpha1.SecretKeyRef{Name: s.name, Key: "tsig"},
		}},
		Nameservers: []string{address}, PropagationTimeout: metav1.Duration{Duration: time.Minute},
	}}))
	s.asWebServers("shop."+zone, "*.shop."+zone)
	s.webServer("shop."+zone, "*.shop."+zone)
	forwarded := s.forward(pod, 5353)
	s.until("the proofs to be gone", soon, func(ctx context.Context) error { return holdsNoTXT(ctx, forwarded, zone) })
	log, err := logs(s.ctx, pod.Namespace, pod.Name, "named")
	s.must(err, "reading the log of named")
	s.contains("the log of named", log, "/key certwright: updating zone '"+zone+"/IN': adding an RR at '_acme-challenge.shop."+zone+"' TXT")
}

// holdsNoTXT asks for a transfer of the whole zone, past everything that caches, and complains about each TXT record.
func holdsNoTXT(ctx context.Context, named *forwarding, zone string) error {
	connection, err := named.dial(ctx)
	if err != nil {
		return err
	}
	defer connection.Close()
	transfer := &dns.Transfer{Conn: &dns.Conn{Conn: connection}}
	answers, err := transfer.In(new(dns.Msg).SetAxfr(dns.Fqdn(zone)), "")
	if err != nil {
		return err
	}
	records := 0
	var found []error
	for answer := range answers {
		found = append(found, answer.Error)
		for _, record := range answer.RR {
			records++
			if record.Header().Rrtype == dns.TypeTXT {
				found = append(found, fmt.Errorf("there is %s", record))
			}
		}
	}
	if records == 0 {
		found = append(found, fmt.Errorf("zone %s was not transferred", zone))
	}
	return errors.Join(found...)
}
