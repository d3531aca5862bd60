// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/remote"
)

// maxJWT is more than any token of a service account has.
const maxJWT = 64 << 10

// method says how to log in.
type method interface {
	// credentials are what to log in with now.
	credentials(ctx context.Context) (credentials, error)
}

// credentials are what to log in with: by writing the body to the path, or by having the token.
type credentials struct {
	path  string
	body  loginBody
	token string
	// shown is the client certificate, which is in neither.
	shown []byte
}

// loginBody is what is written to a login's path: of each method its own fields.
type loginBody struct {
	Role     string `json:"role,omitempty"`
	JWT      string `json:"jwt,omitempty"`
	RoleID   string `json:"role_id,omitempty"`
	SecretID string `json:"secret_id,omitempty"`
	Name     string `json:"name,omitempty"`
}

// fingerprint tells credentials apart without keeping them.
func (c credentials) fingerprint() [sha256.Size]byte {
	text, err := json.Marshal([]any{c.path, c.body, c.token, c.shown})
	if err != nil {
		panic("encoding strings and bytes: " + err.Error()) // which cannot fail
	}
	return sha256.Sum256(text)
}

func newMethod(o Options, a v1alpha1.VaultAuth) (method, error) {
	secrets := remote.Secrets{Reader: o.Client, Namespace: o.Namespace}
	switch {
	case a.Kubernetes != nil && o.TokenDir == "":
		return nil, errors.New("vault.auth.kubernetes: this program has no folder with tokens of its service account")
	case a.Kubernetes != nil:
		return kubernetesMethod{*a.Kubernetes, filepath.Join(o.TokenDir, a.Kubernetes.Audience)}, nil
	case a.AppRole != nil:
		return appRoleMethod{*a.AppRole, secrets}, nil
	case a.Certificate != nil:
		return certificateMethod{*a.Certificate, secrets}, nil
	}
	return tokenMethod{*a.TokenSecretRef, secrets}, nil
}

// kubernetesMethod logs in with a token of the service account, which the kubelet replaces in its file.
type kubernetesMethod struct {
	config v1alpha1.VaultKubernetesAuth
	file   string
}

func (m kubernetesMethod) credentials(context.Context) (credentials, error) {
	jwt, err := readFile(m.file)
	if err != nil {
		return credentials{}, Trouble(ReasonTokenFile, "reading the service account's token with audience %q: %w: the signer's Deployment needs a projected volume with it", m.config.Audience, err)
	}
	return credentials{path: "auth/" + m.config.Path + "/login", body: loginBody{Role: m.config.Role, JWT: jwt}}, nil
}

func readFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxJWT+1))
	if err != nil {
		return "", err
	}
	text = bytes.TrimSpace(text)
	if len(text) == 0 || len(text) > maxJWT {
		return "", fmt.Errorf("%s: it is empty or longer than %d bytes", name, maxJWT)
	}
	return string(text), nil
}

// appRoleMethod logs in with a role ID and a secret ID.
type appRoleMethod struct {
	config  v1alpha1.VaultAppRoleAuth
	secrets remote.Secrets
}

func (m appRoleMethod) credentials(ctx context.Context) (credentials, error) {
	id, err := m.secrets.Entry(ctx, m.config.SecretIDRef)
	if err != nil {
		return credentials{}, err
	}
	return credentials{path: "auth/" + m.config.Path + "/login", body: loginBody{RoleID: m.config.RoleID, SecretID: string(id)}}, nil
}

// certificateMethod logs in with the client certificate that every connection shows.
type certificateMethod struct {
	config  v1alpha1.VaultCertificateAuth
	secrets remote.Secrets
}

func (m certificateMethod) certificate(ctx context.Context) (*tls.Certificate, error) {
	return m.secrets.Certificate(ctx, m.config.SecretRef)
}

func (m certificateMethod) credentials(ctx context.Context) (credentials, error) {
	c, err := m.certificate(ctx)
	if err != nil {
		return credentials{}, err
	}
	return credentials{path: "auth/" + m.config.Path + "/login", body: loginBody{Name: m.config.Role}, shown: bytes.Join(c.Certificate, nil)}, nil
}

// tokenMethod has a token that somebody else keeps fresh.
type tokenMethod struct {
	ref     v1alpha1.SecretKeyRef
	secrets remote.Secrets
}

func (m tokenMethod) credentials(ctx context.Context) (credentials, error) {
	token, err := m.secrets.Entry(ctx, m.ref)
	if err != nil {
		return credentials{}, err
	}
	return credentials{token: string(token)}, nil
}
