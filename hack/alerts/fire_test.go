// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package alerts

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
)

// at is when the alerts are looked at; series begin at 0 and have a value each minute.
const at = 2 * time.Hour

// well is a cluster in which nothing is wrong, with one of each that there may be.
const well = `
	leader_election_master_status{name="certwright-approver", pod="a-1"} 1x130
	leader_election_master_status{name="certwright-approver", pod="a-2"} 0x130
	leader_election_master_status{name="certwright-signer", pod="s-1"} 1x60 _x70
	leader_election_master_status{name="certwright-signer", pod="s-2"} 0x60 1x70
	certwright_webhook_admissions_total{outcome="allowed"} 0+1x130
	certwright_webhook_admissions_total{outcome="refused"} 0+1x130
	certwright_webhook_admissions_total{outcome="error"} 7x130
	certwright_signer_ready{signer="certwright.dev/internal", reason="Ready"} 1x130
	certwright_signer_backend_up{signer="certwright.dev/internal", backend="local"} 1x110 0x3 1x20
	certwright_signer_backend_seconds_count{signer="certwright.dev/internal", backend="local", outcome="ok"} 0+20x130
	certwright_signer_backend_seconds_count{signer="certwright.dev/internal", backend="local", outcome="error"} 0+1x130
	certwright_signer_ca_not_after_seconds{signer="certwright.dev/internal"} 8640000x130
	certwright_signer_rotation_phase{signer="certwright.dev/internal", backend="local"} 0x60 1x55 2x20
	certwright_signer_requests_total{signer="certwright.dev/internal", outcome="Issued"} 0+10x130
	certwright_signer_requests_total{signer="certwright.dev/internal", outcome="SignerLimitExceeded"} 3x130
	certwright_approver_requests_total{signer="certwright.dev/internal", outcome="Approved"} 0+10x130
	certwright_approver_requests_total{signer="certwright.dev/internal", outcome="Denied"} 3x130
	certwright_approver_policy_evaluations_total{signer="certwright.dev/internal", verdict="Permit"} 0+10x130
	certwright_approver_policy_evaluations_total{signer="certwright.dev/internal", verdict="NoOpinion"} 4x130
	certwright_approver_quota_waits_total{policy="workloads", per="Namespace"} 9x130
	certwright_agent_certificate_not_after_seconds{namespace="shop", pod="web-0"} 86400x130
	certwright_agent_certificate_not_after_seconds{namespace="shop", pod="trust-only"} 0x130
	certwright_agent_certificate_not_after_seconds{namespace="shop", pod="gone"} 7000x110 _x20
	certwright_agent_renewal_due_seconds{namespace="shop", pod="web-0"} 0x100 6000x10 0x20
	certwright_agent_renewals_total{namespace="shop", pod="web-0"} 0x100 1x30
	certwright_agent_renewal_failures_total{namespace="shop", pod="web-0"} 0x90 9x40
	certwright_agent_reloads_total{namespace="shop", pod="web-0"} 0x110 1x20
	certwright_agent_reload_failures_total{namespace="shop", pod="web-0"} 0x110 2x20
	kubelet_podcertificate_states{signer_name="certwright.dev/internal", state="fresh", node="n"} 5x130
	kubelet_podcertificate_states{signer_name="example.com/other", state="expired", node="n"} 5x130
`

// ill says for each alert which series take the place of those of the same name, and which labels it then has.
var ill = map[string]struct{ series, labels string }{
	"CertwrightNobodyLeads": {`
		leader_election_master_status{name="certwright-approver", pod="a-1"} 1x130
		leader_election_master_status{name="certwright-signer", pod="s-1"} 0x130`, `{name="certwright-signer"}`},
	"CertwrightWebhookGone":    {`certwright_webhook_admissions_total{outcome="allowed"} 1x60 _x70`, `{}`},
	"CertwrightWebhookErrors":  {`certwright_webhook_admissions_total{outcome="error"} 0+1x130`, `{}`},
	"CertwrightSignerNotReady": {`certwright_signer_ready{signer="certwright.dev/internal", reason="CAExpired"} 0x130`, `{signer="certwright.dev/internal"}`},
	"CertwrightSignerDegraded": {`certwright_signer_ready{signer="certwright.dev/internal", reason="Degraded"} 1x130`, `{reason="Degraded", signer="certwright.dev/internal"}`},
	"CertwrightBackendDown":    {`certwright_signer_backend_up{signer="certwright.dev/internal", backend="vault"} 1x100 0x30`, `{backend="vault", signer="certwright.dev/internal"}`},
	"CertwrightBackendFails": {`certwright_signer_backend_seconds_count{signer="s", backend="vault", outcome="ok"} 0+8x130
		certwright_signer_backend_seconds_count{signer="s", backend="vault", outcome="error"} 0+1x130`, `{backend="vault", signer="s"}`},
	"CertwrightCAExpires":               {`certwright_signer_ca_not_after_seconds{signer="certwright.dev/internal"} 864000x130`, `{signer="certwright.dev/internal"}`},
	"CertwrightRotationStandsStill":     {`certwright_signer_rotation_phase{signer="certwright.dev/internal", backend="local"} 0x100 1x30`, `{backend="local", signer="certwright.dev/internal"}`},
	"CertwrightRequestsFail":            {`certwright_signer_requests_total{signer="certwright.dev/internal", outcome="BackendRefused"} 0+1x130`, `{outcome="BackendRefused", signer="certwright.dev/internal"}`},
	"CertwrightRequestsDenied":          {`certwright_approver_requests_total{signer="certwright.dev/internal", outcome="Denied"} 0+1x130`, `{signer="certwright.dev/internal"}`},
	"CertwrightRequestsOfNobody":        {`certwright_approver_policy_evaluations_total{signer="certwright.dev/internal", verdict="NoOpinion"} 4x100 5x30`, `{signer="certwright.dev/internal"}`},
	"CertwrightQuotaUsedUp":             {`certwright_approver_quota_waits_total{policy="workloads", per="Namespace"} 0+1x130`, `{policy="workloads"}`},
	"CertwrightAgentRenewalLate":        {`certwright_agent_renewal_due_seconds{namespace="shop", pod="web-0"} 0x60 3600x70`, `{namespace="shop", pod="web-0"}`},
	"CertwrightAgentRenewalFails":       {`certwright_agent_renewal_failures_total{namespace="shop", pod="web-0"} 0+1x130`, `{namespace="shop", pod="web-0"}`},
	"CertwrightAgentCertificateExpires": {`certwright_agent_certificate_not_after_seconds{namespace="shop", pod="web-0"} 9000x130`, `{namespace="shop", pod="web-0"}`},
	"CertwrightAgentCertificateExpired": {`certwright_agent_certificate_not_after_seconds{namespace="shop", pod="web-0"} 7100x130`, `{namespace="shop", pod="web-0"}`},
	"CertwrightAgentReloadFails":        {`certwright_agent_reload_failures_total{namespace="shop", pod="db-0"} 0+1x130`, `{namespace="shop", pod="db-0"}`},
	"CertwrightKubeletCertificates":     {`kubelet_podcertificate_states{signer_name="certwright.dev/internal", state="overdue_for_refresh", node="n"} 2x130`, `{signer_name="certwright.dev/internal", state="overdue_for_refresh"}`},
}

var templated = regexp.MustCompile(`\$labels\.([a-z_]+)`)

// TestAlertsFire: each alert is silent while all is well, and fires when what it is about is wrong; and what its annotations name is there.
func TestAlertsFire(t *testing.T) {
	all := rules(t)
	if len(all) != len(ill) {
		t.Errorf("%d alerts, and %d cases", len(all), len(ill))
	}
	for _, rule := range all {
		t.Run(rule.Alert, func(t *testing.T) {
			if found := evaluate(t, well, rule.Expr); len(found) > 0 {
				t.Errorf("while all is well it fires: %v", found)
			}
			now, ok := ill[rule.Alert]
			if !ok {
				t.Fatal("there is no case of it")
			}
			found := evaluate(t, now.series, rule.Expr)
			if len(found) != 1 || found[0].Metric.String() != now.labels {
				t.Fatalf("it gives %v, want one alert for %s", found, now.labels)
			}
			for what, text := range rule.Annotations {
				for _, label := range templated.FindAllStringSubmatch(text, -1) {
					if !found[0].Metric.Has(label[1]) {
						t.Errorf("its %s names the label %s, which it does not have: %s", what, label[1], found[0].Metric)
					}
				}
			}
		})
	}
}

// evaluate returns what an expression gives for these series.
func evaluate(t *testing.T, series, expr string) promql.Vector {
	t.Helper()
	storage := promqltest.LoadedStorage(t, "load 1m\n\t"+strings.TrimSpace(series)+"\n")
	query, err := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery).NewInstantQuery(t.Context(), storage, nil, expr, time.Unix(0, 0).Add(at))
	if err != nil {
		t.Fatal(err)
	}
	defer query.Close()
	result, err := query.Exec(t.Context()).Vector()
	if err != nil {
		t.Fatal(err)
	}
	return append(promql.Vector(nil), result...)
}
