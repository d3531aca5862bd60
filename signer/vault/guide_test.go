// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"crypto/x509"
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/signertest"
	"github.com/certwright/certwright/signer/vault"
)

// word is one word of a command line: KEY="SOME VALUE", or anything without white space.
var word = regexp.MustCompile(`[^\s"]*"[^"]*"|\S+`)

// guide returns the commands of vault in the guide, each in one line, with what comes from a here document behind it.
func guide(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/backends/vault.md")
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		lines := strings.Split(strings.ReplaceAll(block[1], "\\\n", " "), "\n")
		for i := 0; i < len(lines); i++ {
			if !strings.HasPrefix(lines[i], "vault ") {
				continue
			}
			command, file, here := strings.Cut(lines[i], " - <<END")
			for i++; here && lines[i] != "END"; i++ {
				file += lines[i] + "\n"
			}
			if here {
				command += " policy=" + "\x00" + file
			} else {
				i--
			}
			commands = append(commands, command)
		}
	}
	return commands
}

// run does what a command of vault stands for, and returns what Vault answered.
func (s *vaultServer) run(t *testing.T, command string, files map[string]string) map[string]any {
	t.Helper()
	command, file, _ := strings.Cut(command, "policy=\x00")
	command, _, _ = strings.Cut(command, " > ")
	flags, fields, args := map[string]string{}, map[string]any{}, []string{}
	for _, w := range word.FindAllString(command, -1)[1:] {
		key, value, pair := strings.Cut(strings.ReplaceAll(w, `"`, ""), "=")
		switch {
		case strings.HasPrefix(key, "-"):
			flags[key] = value
		case pair && strings.HasPrefix(value, "@"):
			fields[key] = files[value[1:]]
		case pair:
			fields[key] = value
		default:
			args = append(args, key)
		}
	}
	call := func(verb, path string, body map[string]any) map[string]any {
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		return s.do(t, verb, path, string(text))
	}
	switch strings.Join(args[:min(2, len(args))], " ") {
	case "secrets enable":
		return call(http.MethodPost, "sys/mounts/"+args[2], map[string]any{"type": args[2], "config": map[string]string{"max_lease_ttl": flags["-max-lease-ttl"]}})
	case "auth enable":
		return call(http.MethodPost, "sys/auth/"+args[2], map[string]any{"type": args[2]})
	case "policy write":
		return call(http.MethodPut, "sys/policies/acl/"+args[2], map[string]any{"policy": file})
	case "token create":
		return call(http.MethodPost, "auth/token/create", map[string]any{"policies": []string{flags["-policy"]}, "no_parent": true, "period": flags["-period"]})
	}
	switch args[0] {
	case "read":
		return call(http.MethodGet, args[1], nil)
	case "write":
		return call(http.MethodPut, args[1], fields)
	}
	t.Fatalf("the guide has a command that this test does not know: %s", command)
	return nil
}

// The guide is what it says: its commands, as they stand there, make a Vault that all four logins can sign with.
func TestGuide(t *testing.T) {
	s := startVault(t)
	clientCert, clientKey := clientCertificate(t)
	answers := map[string]map[string]any{}
	commands := guide(t)
	for _, command := range commands {
		if strings.Contains(command, "auth/kubernetes/config") {
			continue // it takes what else it needs from the pod that Vault runs in; standInReviewer says it all
		}
		answers[strings.Join(strings.Fields(command)[1:3], " ")] = s.run(t, command, map[string]string{"ca.crt": clientCert})
		switch {
		case strings.Contains(command, "/role-id"):
			answers["role ID"] = answers["read -field=role_id"]
		case strings.Contains(command, "/secret-id"):
			answers["secret ID"] = answers["write -force"]
		}
	}
	if len(commands) != 14 {
		t.Fatalf("the guide has %d commands of vault, and this test expects 14", len(commands))
	}
	secret := newSecret("vault", "token", answers["token create"]["client_token"].(string), "secretID", answers["secret ID"]["secret_id"].(string), "tls.crt", clientCert, "tls.key", clientKey)
	ref := func(key string) v1alpha1.SecretKeyRef { return v1alpha1.SecretKeyRef{Name: "vault", Key: key} }
	token, jwtDir := ref("token"), ""
	for name, auth := range map[string]v1alpha1.VaultAuth{
		"token":       {TokenSecretRef: &token},
		"AppRole":     {AppRole: &v1alpha1.VaultAppRoleAuth{RoleID: answers["role ID"]["role_id"].(string), SecretIDRef: ref("secretID")}},
		"certificate": {Certificate: &v1alpha1.VaultCertificateAuth{Role: "certwright", SecretRef: v1alpha1.SecretRef{Name: "vault"}}},
		"Kubernetes":  {},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "Kubernetes" {
				auth, jwtDir = s.standInReviewer(t)
			}
			b := s.newBackend(t, auth, secret, withRole("workloads"), func(o *vault.Options) { o.TokenDir = jwtDir })
			req := signertest.Request(t, signertest.Key(t, "ECDSA-P256"), &x509.CertificateRequest{DNSNames: []string{"web.shop.svc"}}, nil, time.Hour)
			if _, err := b.Sign(t.Context(), req); err != nil {
				t.Errorf("Sign: %v", err)
			}
			if err := b.Check(t.Context()); err != nil {
				t.Errorf("Check: %v", err)
			}
		})
	}
}
