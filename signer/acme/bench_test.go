// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acme_test

import (
	"crypto/x509"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer/acme/acmetest"
	"github.com/certwright/certwright/signer/acme/order"
	"github.com/certwright/certwright/signer/signertest"
)

// BenchmarkOrders orders certificates from pebble, one name each, has the cleaner end their orders, and prints what is in memory
// as it goes, without the output of pebble, which the test keeps. Memory is flat if the last lines are as the first: go test -run - -bench Orders -benchtime 10000x ./signer/acme
func BenchmarkOrders(b *testing.B) {
	r, pebble := start(b, acmetest.PebbleConfig{Env: []string{"PEBBLE_WFE_NONCEREJECT=5"}})
	cleaner := &order.Cleaner{Book: r.book, Requests: r.cluster.Client, NewSolver: r.cluster.NewSolver, Clock: clock.RealClock{}}
	key := signertest.Key(b, "ECDSA-P256")
	var peak uint64
	for i := 0; b.Loop(); i++ {
		name := fmt.Sprintf("n%d.example.com", i)
		req := signertest.Request(b, key, &x509.CertificateRequest{DNSNames: []string{name}}, nil, time.Hour)
		req.Name, req.UID = fmt.Sprintf("csr-%d", i), types.UID(fmt.Sprint(i))
		req.Requester = csr.Requester{Username: "system:serviceaccount:shop:web"}
		object := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: req.Name, UID: req.UID}}
		if err := r.cluster.Create(b.Context(), object); err != nil {
			b.Fatal(err)
		}
		if _, err := r.eventually(b, req); err != nil {
			b.Fatal(err)
		}
		if err := r.cluster.Delete(b.Context(), object); err != nil {
			b.Fatal(err)
		}
		r.clock.SetTime(time.Now())
		if i%50 == 49 {
			cleaner.Sweep(b.Context())
		}
		if i%250 == 249 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			log := uint64(len(pebble.Output())) // is the test's, and kept in memory, too
			m.HeapAlloc -= min(log, m.HeapAlloc)
			peak = max(peak, m.HeapAlloc)
			fmt.Fprintf(os.Stderr, "%6d orders: heap %5.1f MiB, resident %s, %d goroutines, %d orders in memory, %d routes, %d Secrets\n",
				i+1, float64(m.HeapAlloc)/(1<<20), resident(b), runtime.NumGoroutine(), r.book.Len(), len(r.cluster.Routes(b)), len(r.cluster.Orders(b)))
		}
	}
	b.ReportMetric(float64(peak)/(1<<20), "MiB-peak-heap")
}

func resident(b *testing.B) string {
	b.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
