// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// kubectl runs kubectl and returns what it prints.
func kubectl(ctx context.Context, args ...string) (string, error) {
	return run(ctx, "kubectl", args...)
}

func run(ctx context.Context, name string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// certwright shows a command of kubectl's plugin, runs it, and returns what it prints.
func (d *demo) certwright(ctx context.Context, args ...string) (string, error) {
	d.command("kubectl certwright " + strings.Join(args, " "))
	return run(ctx, "bin/kubectl-certwright", args...)
}

// show shows a kubectl command, runs it, and returns what it prints.
func (d *demo) show(ctx context.Context, args ...string) (string, error) {
	d.command("kubectl " + strings.Join(args, " "))
	return kubectl(ctx, args...)
}

// field reads one field of an object by JSONPath.
func field(ctx context.Context, path string, object ...string) (string, error) {
	return kubectl(ctx, append([]string{"get", "-o", "jsonpath=" + path}, object...)...)
}

// until asks again and again until ask is satisfied.
func until(ctx context.Context, what string, limit time.Duration, ask func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		done, err := ask()
		if err == nil && done {
			return nil
		}
		select {
		case <-ctx.Done():
			if err != nil {
				return fmt.Errorf("waiting for %s for %s: %w", what, limit, err)
			}
			return fmt.Errorf("waiting for %s: not there after %s", what, limit)
		case <-tick.C:
		}
	}
}

// csrOf returns the newest request of a service account of the demo that has been filed since, and its condition.
func csrOf(ctx context.Context, serviceAccount string, since time.Time) (name, condition string, err error) {
	out, err := kubectl(ctx, "get", "csr", "-o", "json")
	if err != nil {
		return "", "", err
	}
	var list struct {
		Items []struct {
			Metadata struct {
				Name              string    `json:"name"`
				CreationTimestamp time.Time `json:"creationTimestamp"`
			} `json:"metadata"`
			Spec struct {
				Username string `json:"username"`
			} `json:"spec"`
			Status struct {
				Conditions []struct {
					Type string `json:"type"`
				} `json:"conditions"`
			} `json:"status"`
		} `json:"items"`
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return "", "", fmt.Errorf("reading the list of requests: %w", err)
	}
	newest := since.Truncate(time.Second)
	for _, item := range list.Items {
		if item.Spec.Username != "system:serviceaccount:"+namespace+":"+serviceAccount || item.Metadata.CreationTimestamp.Before(newest) {
			continue
		}
		name, condition, newest = item.Metadata.Name, "", item.Metadata.CreationTimestamp
		for _, c := range item.Status.Conditions {
			condition = c.Type
		}
	}
	return name, condition, nil
}

// tally is what the demo's client prints every second.
type tally struct {
	Made         int    `json:"made"`
	Failed       int    `json:"failed"`
	LastFailure  string `json:"lastFailure"`
	Certificates int    `json:"certificates"`
	Servers      int    `json:"serverCertificates"`
	Client       seen   `json:"client"`
	Server       seen   `json:"server"`
}

type seen struct {
	SPIFFEID string   `json:"spiffeID"`
	DNSNames []string `json:"dnsNames"`
	Serial   string   `json:"serial"`
	Issuer   string   `json:"issuer"`
	By       string   `json:"by"`
	Lifetime string   `json:"lifetime"`
	NotAfter string   `json:"notAfter"`
}

// readTally returns the last line that the client printed.
func readTally(ctx context.Context) (tally, error) {
	var t tally
	out, err := kubectl(ctx, "-n", namespace, "logs", "deploy/client", "-c", "client", "--tail", "1")
	if err != nil {
		return t, err
	}
	if strings.TrimSpace(out) == "" {
		return t, nil
	}
	if err := json.Unmarshal([]byte(out), &t); err != nil {
		return t, fmt.Errorf("reading the client's count %q: %w", out, err)
	}
	return t, nil
}

// pathHint is how a person finds the kubectl that the local cluster brings along.
func pathHint() string {
	path, err := exec.LookPath("kubectl")
	if err != nil {
		return "$PATH"
	}
	return filepath.Dir(path) + string(os.PathListSeparator) + "$PATH"
}
