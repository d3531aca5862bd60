// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/certwright/certwright/api/v1alpha1"
)

func TestPoliciesOfTheCluster(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("KUBECONFIG", filepath.Join(dir, "none"))
	t.Setenv("HOME", dir)
	pem, err := os.ReadFile("testdata/request.pem")
	if err != nil {
		t.Fatal(err)
	}
	wide := v1alpha1.CertificatePolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "wide"},
		Spec: v1alpha1.CertificatePolicySpec{
			SignerNames: []string{"example.com/internal"}, Requesters: v1alpha1.Requesters{Groups: []string{"system:authenticated"}},
			Approval: v1alpha1.ApprovalAutomatic,
			Allow:    v1alpha1.Allow{CommonNames: []string{"*"}, Usages: []certificatesv1.KeyUsage{"client auth"}, Keys: []v1alpha1.Key{{Algorithm: v1alpha1.Ed25519}, {Algorithm: v1alpha1.ECDSA}, {Algorithm: v1alpha1.RSA}}},
		},
	}
	request := certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "alice-1"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			SignerName: "example.com/internal", Username: "alice", Groups: []string{"system:authenticated"}, Request: pem, Usages: wide.Spec.Allow.Usages,
		},
		Status: certificatesv1.CertificateSigningRequestStatus{Certificate: []byte("issued")},
	}
	answers := map[string]any{
		"/apis/certwright.dev/v1alpha1/certificatepolicies": v1alpha1.CertificatePolicyList{
			TypeMeta: metav1.TypeMeta{APIVersion: "certwright.dev/v1alpha1", Kind: "CertificatePolicyList"}, Items: []v1alpha1.CertificatePolicy{wide},
		},
		"/apis/certificates.k8s.io/v1/certificatesigningrequests": certificatesv1.CertificateSigningRequestList{
			TypeMeta: metav1.TypeMeta{APIVersion: "certificates.k8s.io/v1", Kind: "CertificateSigningRequestList"}, Items: []certificatesv1.CertificateSigningRequest{request},
		},
	}
	file := filepath.Join(dir, "policy.yaml")
	text := `{apiVersion: certwright.dev/v1alpha1, kind: CertificatePolicy, metadata: {name: NAME}, spec: {signerNames: [example.com/internal], requesters: {users: [alice]}, allow: {commonNames: [alice], usages: [client auth], maxDuration: 1h}}}`
	for name, c := range map[string]struct {
		policy string
		args   []string
		code   int
		// want are parts of the output, and not what must not be there.
		want []string
		not  string
	}{
		"lint": {"", []string{"policy", "lint", "--from-cluster"}, 2, []string{"certificatepolicy/wide: error: policy wide: spec.requesters.groups[0]"}, "shadowed"},
		"lint with files": {
			"narrow",
			[]string{"policy", "lint", "--from-cluster", file},
			2,
			[]string{"policy.yaml:1: warning: policy narrow: spec.allow: policy \"wide\" allows all that this policy allows"},
			"dead",
		},
		"lint with a file in its place": {"wide", []string{"policy", "lint", "--from-cluster", file}, 0, nil, "wide"},
		"generate":                      {"", []string{"policy", "generate", "--from-cluster"}, 0, []string{"name: internal-alice", "- alice # 1 request", "users: [alice]"}, "not permitted"},
		"generate for another":          {"", []string{"policy", "generate", "--from-cluster", "--signer", "example.com/other"}, 1, []string{"error: no request to propose a policy from"}, "apiVersion"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newAPIServer(t)
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				answer, ok := answers[r.URL.Path]
				if !ok {
					s.Config.Handler.ServeHTTP(w, r)
					return
				}
				w.Header().Set("Content-Type", "application/json")
				_ = json.NewEncoder(w).Encode(answer)
			}))
			t.Cleanup(front.Close)
			if err := os.WriteFile(file, []byte(strings.Replace(text, "NAME", c.policy, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			code := run(t.Context(), append(c.args, "--server", front.URL), genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &out})
			lacks := func(part string) bool { return !strings.Contains(out.String(), part) }
			if code != c.code || slices.ContainsFunc(c.want, lacks) || !lacks(c.not) {
				t.Errorf("got exit code %d and\n%s\nwant %d and %q, without %q", code, &out, c.code, c.want, c.not)
			}
		})
	}
}

// The cluster is read as whoever --as says.
func TestPolicyReadsAsSomebodyElse(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("KUBECONFIG", filepath.Join(dir, "none"))
	t.Setenv("HOME", dir)
	for command, path := range map[string]string{
		"lint": "/apis/certwright.dev/v1alpha1/certificatepolicies", "generate": "/apis/certificates.k8s.io/v1/certificatesigningrequests",
	} {
		s := newAPIServer(t)
		var out bytes.Buffer
		code := run(t.Context(), []string{"policy", command, "--from-cluster", "--as", "bob", "--server", s.URL}, genericiooptions.IOStreams{Out: &out, ErrOut: &out})
		if code != 1 || !slices.Equal(s.asked, []string{"bob GET " + path}) || !strings.Contains(out.String(), "forbidden") {
			t.Errorf("%s: exit code %d, asked %q, said\n%s", command, code, s.asked, &out)
		}
	}
}
