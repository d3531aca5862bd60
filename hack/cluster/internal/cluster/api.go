// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// fieldManager is who the objects in the API server belong to that the cluster itself needs.
const fieldManager = "certwright-cluster"

// client speaks to the API server as an administrator.
type client struct {
	http http.Client
}

// newClient reads the administrator's certificate.
func (c *Cluster) newClient() (*client, error) {
	pair, err := tls.LoadX509KeyPair(c.pki("admin.crt"), c.pki("admin.key"))
	if err != nil {
		return nil, fmt.Errorf("reading the administrator's certificate: %w", err)
	}
	authority, err := os.ReadFile(c.pki("ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("reading the cluster's CA: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	return &client{http: http.Client{
		Timeout: 5 * time.Second,
		// Without a proxy, whatever the environment says.
		Transport: &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots}},
	}}, nil
}

// get reads the object at path; out may be nil.
func (c *client) get(ctx context.Context, path string, out any) error {
	return c.do(ctx, http.MethodGet, path, nil, out)
}

// apply creates the object at path, or makes it as given.
func (c *client) apply(ctx context.Context, path string, value object) error {
	return c.do(ctx, http.MethodPatch, path+"?force=true&fieldManager="+fieldManager, value, nil)
}

// do makes one request.
func (c *client) do(ctx context.Context, method, path string, in object, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	request, err := http.NewRequestWithContext(ctx, method, apiURL+path, body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/apply-patch+yaml")
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, strings.TrimSpace(string(raw)))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(raw, out)
}

// checkReady says why the API server does not serve yet, or nothing if it does.
func (c *client) checkReady(ctx context.Context) error {
	return c.get(ctx, "/readyz", nil)
}

// checkNode says why pods cannot be scheduled yet, or nothing if they can.
func (c *client) checkNode(ctx context.Context) error {
	var node struct {
		Spec struct {
			Taints []struct{ Key string }
		}
		Status struct {
			Conditions []struct{ Type, Status, Message string }
		}
	}
	if err := c.get(ctx, "/api/v1/nodes/"+nodeName, &node); err != nil {
		return fmt.Errorf("reading the node: %w", err)
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == "Ready" && condition.Status != "True" {
			return fmt.Errorf("the node is not ready: %s", condition.Message)
		}
	}
	if len(node.Status.Conditions) == 0 {
		return errors.New("the node has not reported its state")
	}
	for _, taint := range node.Spec.Taints {
		return fmt.Errorf("the node has the taint %s", taint.Key)
	}
	return nil
}

// checkDefaults says what a pod in the namespace default still lacks.
func (c *client) checkDefaults(ctx context.Context) error {
	for _, path := range []string{"serviceaccounts/default", "configmaps/kube-root-ca.crt"} {
		if err := c.get(ctx, "/api/v1/namespaces/default/"+path, nil); err != nil {
			return err
		}
	}
	return nil
}
