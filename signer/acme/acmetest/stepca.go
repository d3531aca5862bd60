// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acmetest

import (
	"encoding/json"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/hack/servers"
)

const stepPackage = "github.com/smallstep/certificates/cmd/step-ca"

// stepTemplate is what step-ca makes certificates from: those of a TLS server, as public CAs do.
const stepTemplate = `{
	"subject": {{ toJson .Subject }},
	"sans": {{ toJson .SANs }},
	"basicConstraints": {"isCA": false},
	"keyUsage": ["digitalSignature"],
	"extKeyUsage": ["serverAuth"]
}`

// StepCA is a running step-ca with one ACME provisioner.
type StepCA struct {
	*servers.Process
	// Server is how to reach it.
	Server v1alpha1.Server
	// Root is the root of its certificates, in PEM.
	Root string
}

// StartStepCA starts step-ca, which validates HTTP-01 challenges at that port and asks that DNS server. It issues for a day at the
// most.
func StartStepCA(t testing.TB, httpPort int, dns string) *StepCA {
	t.Helper()
	dir := t.TempDir()
	root := newAuthority(t, nil, "Step Root")
	issuer := newAuthority(t, root, "Step Issuer")
	address := servers.Address(t)
	config := map[string]any{
		"root": write(t, dir, "root.crt", root.pem), "crt": write(t, dir, "issuer.crt", issuer.pem), "key": write(t, dir, "issuer.key", issuer.keyPEM(t)),
		"address": address, "dnsNames": []string{"127.0.0.1"},
		"logger": map[string]any{"format": "text"},
		"db":     map[string]any{"type": "badgerv2", "dataSource": filepath.Join(dir, "db")},
		"authority": map[string]any{"provisioners": []any{map[string]any{
			"type": "ACME", "name": "acme",
			"claims":  map[string]any{"minTLSCertDuration": "5m", "maxTLSCertDuration": "25h", "defaultTLSCertDuration": "24h", "disableSmallstepExtensions": true},
			"options": map[string]any{"x509": map[string]any{"template": stepTemplate}},
		}}},
	}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	p := servers.Start(t, servers.Spec{
		Path: servers.Build(t, "acme", stepPackage),
		Args: []string{
			write(t, dir, "ca.json", text), "--resolver", dns,
			"--insecure", "--acme-http-port", strconv.Itoa(httpPort),
		},
		Env:      []string{"STEPPATH=" + dir, "HOME=" + dir},
		ReadyURL: "https://" + address + "/health",
	})
	return &StepCA{
		Process: p,
		Server:  v1alpha1.Server{URL: "https://" + address + "/acme/acme/directory", CABundle: string(root.pem)},
		Root:    string(root.pem),
	}
}
