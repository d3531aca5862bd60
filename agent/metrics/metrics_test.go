// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func TestPrometheusReadsIt(t *testing.T) {
	m := new(Metrics)
	m.SetNotAfter(time.Unix(1_800_000_000, 5))
	m.SetRenewalDue(time.Unix(1_700_000_000, 5))
	for range 3 {
		m.Renewed()
	}
	m.RenewalFailed()
	m.Reloaded()
	m.ReloadFailed()
	m.ReloadFailed()
	recorder := httptest.NewRecorder()
	m.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	text := recorder.Body.Bytes()

	// What promtool check metrics does.
	if problems, err := promlint.New(bytes.NewReader(text)).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("problems %v, error %v", problems, err)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for name, family := range families {
		metric := family.GetMetric()[0]
		got[strings.TrimPrefix(name, "certwright_agent_")] = metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
	}
	want := map[string]float64{
		"certificate_not_after_seconds": 1_800_000_000, "renewal_due_seconds": 1_700_000_000, "renewals_total": 3, "renewal_failures_total": 1,
		"reloads_total": 1, "reload_failures_total": 2,
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s is %v, want %v", name, got[name], value)
		}
	}
	if len(got) != len(want) {
		t.Errorf("metrics %v", got)
	}
	if m.SetNotAfter(time.Time{}); m.notAfter.Load() != 0 {
		t.Error("no certificate is not 0")
	}
	if m.SetRenewalDue(time.Time{}); m.renewalDue.Load() != 0 {
		t.Error("no renewal is not 0")
	}
}

func TestOnlyMetricsAreServed(t *testing.T) {
	for request, want := range map[string]int{
		"GET /metrics": 200, "HEAD /metrics": 200, "POST /metrics": 405, "GET /": 404, "GET /debug/pprof/": 404, "GET /../tls.key": 404,
	} {
		method, path, _ := strings.Cut(request, " ")
		recorder := httptest.NewRecorder()
		new(Metrics).ServeHTTP(recorder, httptest.NewRequest(method, path, nil))
		if recorder.Code != want {
			t.Errorf("%s: %d, want %d", request, recorder.Code, want)
		}
	}
}

func TestServeUntilTheEnd(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	m := new(Metrics)
	if err := m.Serve(t.Context(), address, func() { t.Error("it does not listen") }); err == nil || !strings.Contains(err.Error(), "serving metrics") {
		t.Errorf("on a port that is taken: %v", err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Serve(ctx, address, func() {}) }()
	// Somebody who connects and says nothing keeps nobody else from reading, and not the agent from ending.
	for {
		silent, err := net.Dial("tcp", address)
		if err != nil {
			continue
		}
		defer silent.Close()
		break
	}
	response, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if data, err := io.ReadAll(response.Body); err != nil || !bytes.Contains(data, []byte("certwright_agent_renewals_total 0\n")) {
		t.Errorf("read %q, %v", data, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
