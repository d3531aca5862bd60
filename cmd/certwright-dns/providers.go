// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/certwright/certwright/cmd/certwright-dns/internal/azuredns"
	"github.com/certwright/certwright/cmd/certwright-dns/internal/clouddns"
	"github.com/certwright/certwright/cmd/certwright-dns/internal/cloudflare"
	"github.com/certwright/certwright/cmd/certwright-dns/internal/digitalocean"
	"github.com/certwright/certwright/cmd/certwright-dns/internal/provider"
	"github.com/certwright/certwright/cmd/certwright-dns/internal/route53"
	"github.com/certwright/certwright/signer/acme/dns01/txt"
)

// maxWriters is how many configurations are kept open.
const maxWriters = 64

// providers makes one writer for each configuration that the signer sends.
type providers struct {
	names  provider.Names
	getenv func(string) string
	ctx    context.Context // of the process, for credentials that are refreshed

	mu      sync.Mutex
	writers map[string]txt.Writer
}

// open is a contract.Open.
func (p *providers) open(config map[string]string) (txt.Writer, error) {
	key, err := json.Marshal(config) // sorted by key
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.writers[string(key)]; w != nil {
		return w, nil
	}
	w, err := p.build(config)
	if err != nil {
		return nil, fmt.Errorf("opening the DNS provider: %w", err)
	}
	if p.writers == nil || len(p.writers) >= maxWriters {
		p.writers = map[string]txt.Writer{}
	}
	guarded := provider.NewGuard(w, p.names)
	p.writers[string(key)] = guarded
	return guarded, nil
}

// build is the one place that knows all providers. Credentials come from this process's environment, never from a request.
func (p *providers) build(config map[string]string) (txt.Writer, error) {
	switch name := config["provider"]; name {
	case "route53":
		return route53.New(p.ctx, config)
	case "cloudflare":
		return cloudflare.New(config, p.getenv("CLOUDFLARE_API_TOKEN"))
	case "clouddns":
		return clouddns.New(p.ctx, config)
	case "azuredns":
		return azuredns.New(config)
	case "digitalocean":
		return digitalocean.New(config, p.getenv("DIGITALOCEAN_ACCESS_TOKEN"))
	default:
		return nil, txt.Misconfigured("config: provider %.80q is none of route53, cloudflare, clouddns, azuredns and digitalocean", name)
	}
}
