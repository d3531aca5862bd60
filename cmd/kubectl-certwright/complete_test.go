// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/certwright/certwright/api/v1alpha1"
)

// What a shell is offered are names of what is there; none that it might act on.
func TestCompletion(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("KUBECONFIG", filepath.Join(dir, "none"))
	t.Setenv("HOME", dir)
	list := func(apiVersion, kind string) metav1.TypeMeta {
		return metav1.TypeMeta{APIVersion: apiVersion, Kind: kind + "List"}
	}
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }
	signer := func(name, signerName string) v1alpha1.Signer {
		return v1alpha1.Signer{ObjectMeta: named(name), Spec: v1alpha1.SignerSpec{SignerName: signerName}}
	}
	decided := certificatesv1.CertificateSigningRequest{ObjectMeta: named("old"), Status: certificatesv1.CertificateSigningRequestStatus{
		Conditions: []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue}},
	}}
	answers := map[string]any{
		"/apis/certwright.dev/v1alpha1/signers": v1alpha1.SignerList{TypeMeta: list("certwright.dev/v1alpha1", "Signer"), Items: []v1alpha1.Signer{
			signer("internal", "example.com/internal"), signer("younger", "example.com/internal"), signer("other", "example.com/other"),
		}},
		"/apis/certificates.k8s.io/v1/certificatesigningrequests": certificatesv1.CertificateSigningRequestList{
			TypeMeta: list("certificates.k8s.io/v1", "CertificateSigningRequest"), Items: []certificatesv1.CertificateSigningRequest{
				{ObjectMeta: named("alice-1")}, decided, {ObjectMeta: named("$(reboot)")}, {ObjectMeta: named("a;b")}, {ObjectMeta: named("--yes")},
			},
		},
		"/api/v1/namespaces":                        corev1.NamespaceList{TypeMeta: list("v1", "Namespace"), Items: []corev1.Namespace{{ObjectMeta: named("shop")}}},
		"/api/v1/namespaces/shop/pods":              corev1.PodList{TypeMeta: list("v1", "Pod"), Items: []corev1.Pod{{ObjectMeta: named("web-0")}, {ObjectMeta: named("web-1")}}},
		"/api/v1/namespaces/shop/secrets":           corev1.SecretList{TypeMeta: list("v1", "Secret"), Items: []corev1.Secret{{ObjectMeta: named("tls")}}},
		"/apis/apps/v1/namespaces/shop/deployments": appsv1.DeploymentList{TypeMeta: list("apps/v1", "Deployment"), Items: []appsv1.Deployment{{ObjectMeta: named("web")}}},
	}
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
	const nothing, failed = ":4", ":1" // no file names either; an error
	for line, want := range map[string][]string{
		"ca status ":                    {"internal", "younger", "other", nothing},
		"ca rotate ":                    {"internal", "younger", "other", nothing},
		"ca rotate internal ":           {nothing},
		"ca rotate internal --dry-run=": {"none", "client", "server", nothing},
		"renew ":                        {"pod", "deployment", "statefulset", "daemonset", nothing},
		"renew pod -n shop ":            {"web-0", "web-1", nothing},
		"renew po web-0 -n shop ":       {"web-0", "web-1", nothing},
		"renew deploy -n shop ":         {"web", nothing},
		"renew job -n shop ":            {nothing},
		"renew --signer ":               {"example.com/internal", "example.com/other", nothing},
		"pending --signer ":             {"example.com/internal", "example.com/other", nothing},
		"pending ":                      {nothing},
		"approve ":                      {"alice-1", nothing},
		"deny alice-1 ":                 {"alice-1", nothing},
		"inspect csr ":                  {"alice-1", "old", nothing},
		"inspect secret -n shop ":       {"tls", nothing},
		"inspect pod -n shop ":          {"web-0", "web-1", nothing},
		"inspect pod -n bank ":          {failed}, // may not be listed
		"inspect dir ":                  {":16"},
		"explain ":                      {"csr", nothing},
		"explain csr ":                  {"alice-1", "old", nothing},
		"explain csr old ":              {nothing},
		"explain -n shop --pod ":        {"web-0", "web-1", nothing},
		"inspect pod --namespace ":      {"shop", nothing},
		"policy lint --severity ":       {"info", "warning", "error", nothing},
	} {
		t.Run(line, func(t *testing.T) {
			var out, errOut bytes.Buffer
			args := append([]string{"__complete", "--server", front.URL}, strings.Split(line, " ")...)
			run(t.Context(), args, genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &errOut})
			if got := strings.Split(strings.TrimSpace(out.String()), "\n"); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}
