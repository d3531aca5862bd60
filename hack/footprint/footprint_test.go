// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package footprint

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

const (
	// starts is how often each agent is started to tell the median.
	starts = 15

	// What is promised.
	mostResident = 12 << 20
	mostBinary   = 12 << 20
	mostStart    = 150 * time.Millisecond
)

// figures are what one agent costs.
type figures struct {
	binary             int64 // bytes
	resident, anon     int64 // bytes, when it has been idle for a while
	start, startAndAPI time.Duration
}

// BenchmarkFootprint prints what both agents cost, and how they compare. The time
// to the first files is measured from the start of the process; what passes between
// the request's arrival and its certificate is the API server's and the signer's.
func BenchmarkFootprint(b *testing.B) {
	s := startServer(b)
	ours := s.measure(b, agent{
		name: "certwright-agent", pkg: "./cmd/certwright-agent", pair: "tls/..data",
		env: []string{`CERTWRIGHT_AGENT_CONFIG={"signerName":"` + signerName + `","dnsNames":["` + dnsName + `"],"directory":"/tls","trustBundleFiles":["/trust/ca.crt"]}`},
	})
	all := s.measure(b, agent{
		name: "certwright-agent, all on", pkg: "./cmd/certwright-agent", pair: "tls/..data",
		env: []string{`CERTWRIGHT_AGENT_CONFIG={"signerName":"` + signerName + `","dnsNames":["` + dnsName + `"],"uris":["spiffe://example.com/cart"],"directory":"/tls","trustBundleFiles":["/trust/ca.crt"],
			"publicRoots":true,"formats":["PKCS12","JKS","PEM"],"renewFile":"/renew","reload":{"url":"http://localhost:1/"},"spiffeSocket":"/tls/agent.sock","metricsAddress":"127.0.0.1:` + freePort(b) + `"}`},
	})
	theirs := s.measure(b, agent{
		name: "client-go", pkg: "./hack/footprint/reference", pair: "tls/tls-current.pem",
		args: []string{signerName, dnsName, "/tls", "/trust/ca.crt"},
	})
	fmt.Printf("\n%-46s %16s %12s %8s\n", "", "certwright-agent", "client-go", "ratio")
	row := func(what, unit string, ours, theirs float64) {
		fmt.Printf("%-46s %10.1f %-5s %6.1f %-5s %7.1fx\n", what, ours, unit, theirs, unit, theirs/ours)
	}
	const mib = 1 << 20
	row("binary", "MiB", float64(ours.binary)/mib, float64(theirs.binary)/mib)
	row("resident memory, idle", "MiB", float64(ours.resident)/mib, float64(theirs.resident)/mib)
	row("  of that not pages of the binary", "MiB", float64(ours.anon)/mib, float64(theirs.anon)/mib)
	row("resident memory, idle, all features on", "MiB", float64(all.resident)/mib, float64(theirs.resident)/mib)
	row("start to files, API server and signer excluded", "ms", milliseconds(ours.start), milliseconds(theirs.start))
	row("start to files, all included", "ms", milliseconds(ours.startAndAPI), milliseconds(theirs.startAndAPI))
	fmt.Println()

	for range b.N {
		b.ReportMetric(float64(ours.resident)/mib, "MiB-resident")
		b.ReportMetric(float64(all.resident)/mib, "MiB-resident-all-on")
		b.ReportMetric(float64(ours.binary)/mib, "MiB-binary")
		b.ReportMetric(milliseconds(ours.start), "ms-to-files")
	}
	if ours.resident > mostResident || all.resident > mostResident || ours.binary > mostBinary || ours.start > mostStart {
		b.Errorf("certwright-agent costs more than is promised: %d MiB resident, %d MiB of binary, %s to the first files", mostResident>>20, mostBinary>>20, mostStart)
	}
}

func freePort(b *testing.B) string {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	return port
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// measure builds an agent, starts it again and again, and lets the last one idle.
func (s *server) measure(b *testing.B, a agent) figures {
	b.Helper()
	program := filepath.Join(b.TempDir(), a.name)
	build(b, program, a.pkg)
	info, err := os.Stat(program)
	if err != nil {
		b.Fatal(err)
	}
	result := figures{binary: info.Size()}
	var own, all []time.Duration
	for i := range starts {
		run := s.start(b, program, a)
		own, all = append(own, run.own), append(all, run.all)
		if i == starts-1 {
			result.resident, result.anon = run.idle(b)
		}
		run.stop(b)
	}
	result.start, result.startAndAPI = median(own), median(all)
	return result
}

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}
