// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os/exec"
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
	s.until("the proofs to be gone", soon, func(ctx context.Context) error { return s.holdsNoTXT(ctx, pod, zone) })
	log, err := logs(s.ctx, pod.Namespace, pod.Name, "named")
	s.must(err, "reading the log of named")
	s.contains("the log of named", log, "/key certwright: updating zone '"+zone+"/IN': adding an RR at '_acme-challenge.shop."+zone+"' TXT")
}

// holdsNoTXT asks for a transfer of the whole zone, past everything that caches, and complains about each TXT record.
func (s *story) holdsNoTXT(ctx context.Context, pod *corev1.Pod, zone string) error {
	address, stop, err := forward(ctx, pod, 5353)
	if err != nil {
		return err
	}
	defer stop()
	answers, err := new(dns.Transfer).In(new(dns.Msg).SetAxfr(dns.Fqdn(zone)), address)
	if err != nil {
		return err
	}
	records := 0
	for answer := range answers {
		if answer.Error != nil {
			return answer.Error
		}
		for _, record := range answer.RR {
			records++
			if record.Header().Rrtype == dns.TypeTXT {
				return fmt.Errorf("there is %s", record)
			}
		}
	}
	if records == 0 {
		return fmt.Errorf("zone %s was not transferred", zone)
	}
	return nil
}

// forward gives the port of a pod an address on this machine, until it is told to stop.
func forward(ctx context.Context, pod *corev1.Pod, port int) (address string, stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	kubectl := exec.CommandContext(ctx, "kubectl", "port-forward", "--namespace", pod.Namespace, "pod/"+pod.Name, fmt.Sprintf(":%d", port))
	stop = func() {
		cancel()
		_ = kubectl.Wait() // it was ended
	}
	out, err := kubectl.StdoutPipe()
	if err == nil {
		err = kubectl.Start()
	}
	if err != nil {
		cancel()
		return "", nil, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, err := fmt.Sscanf(lines.Text(), "Forwarding from %s", &address); err == nil {
			return address, stop, nil
		}
	}
	stop()
	return "", nil, fmt.Errorf("kubectl port-forward said no address: %w", lines.Err())
}
