// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/hack/servers"
	"github.com/certwright/certwright/signer/acme/order"
)

// oneAnswer knows one challenge.
type oneAnswer struct{}

func (oneAnswer) KeyAuthorization(_ context.Context, host, token string) (string, error) {
	if host == "web.example.com" && token == "token" {
		return "token.thumbprint", nil
	}
	return "", order.ErrUnknownToken
}

func TestSolverServer(t *testing.T) {
	address := servers.Address(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- solverServer{address: address, answers: oneAnswer{}}.Start(ctx) }()

	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}}
	defer client.CloseIdleConnections()
	get := func(url string) (int, string, error) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			return 0, "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return response.StatusCode, string(body), err
	}
	status, body, err := get("http://web.example.com/.well-known/acme-challenge/token")
	for deadline := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(deadline); {
		status, body, err = get("http://web.example.com/.well-known/acme-challenge/token")
	}
	if status != http.StatusOK || body != "token.thumbprint" || err != nil {
		t.Errorf("got %d %q, %v", status, body, err)
	}
	if status, _, err := get("http://web.example.com/metrics"); status != http.StatusNotFound || err != nil {
		t.Errorf("got %d, %v", status, err)
	}
	second := solverServer{address: address, answers: oneAnswer{}}
	if err := second.Start(ctx); err == nil || !strings.Contains(err.Error(), "--acme-solver-address") {
		t.Errorf("a port that is taken: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if second.NeedLeaderElection() {
		t.Error("only the leader serves")
	}
}

func TestNewSolver(t *testing.T) {
	m := backends{namespace: "certwright-system"}
	if _, err := m.newSolver(v1alpha1.ACMESolver{}); err == nil {
		t.Error("a solver of no kind was made")
	}
	made, err := m.newSolver(v1alpha1.ACMESolver{DNS01: &v1alpha1.DNS01{RFC2136: &v1alpha1.RFC2136{Server: "ns1.example.com"}}})
	if err != nil || made == nil {
		t.Errorf("DNS-01: %v", err)
	}
}
