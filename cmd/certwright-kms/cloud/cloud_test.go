// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/certwright/certwright/cmd/certwright-kms/cloud"
	"github.com/certwright/certwright/signer/ca/keyuri"
)

// stub follows the documented API of AWS KMS for one key: https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html
type stub struct {
	t    *testing.T
	key  crypto.Signer
	down bool
}

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in struct {
		KeyId, SigningAlgorithm, MessageType string //nolint:revive // names of that API
		Message                              []byte
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || json.Unmarshal(body, &in) != nil || in.KeyId != "alias/ca" || !strings.Contains(r.Header.Get("Authorization"), "/eu-north-1/kms/") {
		s.t.Errorf("asked for %s with authorization %q", body, r.Header.Get("Authorization"))
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if s.down {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"__type": "AccessDeniedException", "message": "not allowed to use the key"}`)
		return
	}
	var out any
	switch r.Header.Get("X-Amz-Target") {
	case "TrentService.GetPublicKey":
		der, err := x509.MarshalPKIXPublicKey(s.key.Public())
		if err != nil {
			s.t.Error(err)
		}
		out = map[string]any{"KeyId": in.KeyId, "PublicKey": der, "KeyUsage": "SIGN_VERIFY"}
	case "TrentService.Sign":
		want := "ECDSA_SHA_256"
		if _, ok := s.key.(*rsa.PrivateKey); ok {
			want = "RSASSA_PKCS1_V1_5_SHA_256"
		}
		if in.SigningAlgorithm != want || in.MessageType != "DIGEST" {
			s.t.Errorf("asked for %s of a %s, want %s", in.SigningAlgorithm, in.MessageType, want)
		}
		signature, err := s.key.Sign(rand.Reader, in.Message, crypto.SHA256)
		if err != nil {
			s.t.Error(err)
		}
		out = map[string]any{"KeyId": in.KeyId, "Signature": signature}
	default:
		s.t.Errorf("unknown call %s", r.Header.Get("X-Amz-Target"))
	}
	if err := json.NewEncoder(w).Encode(out); err != nil {
		s.t.Error(err)
	}
}

func TestAWSKMS(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for algorithm, key := range map[x509.SignatureAlgorithm]crypto.Signer{x509.ECDSAWithSHA256: ec, x509.SHA256WithRSA: rs} {
		t.Run(algorithm.String(), func(t *testing.T) {
			api := &stub{t: t, key: key}
			server := httptest.NewServer(api)
			defer server.Close()
			for name, value := range map[string]string{
				"AWS_ENDPOINT_URL_KMS": server.URL, "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1",
			} {
				t.Setenv(name, value)
			}
			uri, err := keyuri.Parse("awskms:region=eu-north-1;key-id=alias/ca")
			if err != nil {
				t.Fatal(err)
			}
			opened, err := cloud.Open(t.Context(), uri)
			if err != nil {
				t.Fatal(err)
			}
			message := []byte("anything")
			digest := sha256.Sum256(message)
			signature, err := opened.Sign(rand.Reader, digest[:], crypto.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			if err := (&x509.Certificate{PublicKey: key.Public()}).CheckSignature(algorithm, message, signature); err != nil {
				t.Error(err)
			}
			if err := opened.(io.Closer).Close(); err != nil {
				t.Error(err)
			}
			api.down = true
			if _, err := opened.Sign(rand.Reader, digest[:], crypto.SHA256); err == nil || !strings.Contains(err.Error(), "not allowed to use the key") {
				t.Errorf("%v, want the KMS's words", err)
			}
			if _, err := cloud.Open(t.Context(), uri); err == nil || !strings.Contains(err.Error(), "not allowed to use the key") {
				t.Errorf("%v, want the KMS's words", err)
			}
		})
	}
}

func TestOnlyKeysOfAKMS(t *testing.T) {
	if _, err := cloud.Open(t.Context(), &keyuri.PKCS11{}); err == nil {
		t.Error("a token's key was opened")
	}
}
