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
	"sync"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// apiServer answers discovery with the kinds that the plugin uses, tells everyone that they are "me", and forbids the rest. It
// remembers who asked for what: "alice GET /path", with "-" for nobody impersonated.
type apiServer struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string
}

func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	resources := map[string][]metav1.APIResource{
		"/api/v1":                           {{Name: "pods", Kind: "Pod", Namespaced: true}, {Name: "configmaps", Kind: "ConfigMap", Namespaced: true}, {Name: "namespaces", Kind: "Namespace"}, {Name: "secrets", Kind: "Secret", Namespaced: true}},
		"/apis/apps/v1":                     {{Name: "deployments", Kind: "Deployment", Namespaced: true}},
		"/apis/certificates.k8s.io/v1":      {{Name: "certificatesigningrequests", Kind: "CertificateSigningRequest"}, {Name: "podcertificaterequests", Kind: "PodCertificateRequest", Namespaced: true}},
		"/apis/certwright.dev/v1alpha1":     {{Name: "certificatepolicies", Kind: "CertificatePolicy"}, {Name: "signers", Kind: "Signer"}},
		"/apis/authentication.k8s.io/v1":    {{Name: "selfsubjectreviews", Kind: "SelfSubjectReview"}},
		"/apis/certificates.k8s.io/v1beta1": {},
	}
	s := &apiServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		reply := func(value any) { _ = json.NewEncoder(w).Encode(value) }
		switch path := r.URL.Path; {
		case path == "/api":
			reply(metav1.APIVersions{Versions: []string{"v1"}})
		case path == "/apis":
			var list metav1.APIGroupList
			for groupVersion := range resources {
				if name, version, ok := strings.Cut(strings.TrimPrefix(groupVersion, "/apis/"), "/"); ok && name != "" {
					v := metav1.GroupVersionForDiscovery{GroupVersion: name + "/" + version, Version: version}
					list.Groups = append(list.Groups, metav1.APIGroup{Name: name, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v})
				}
			}
			reply(list)
		case resources[path] != nil:
			reply(metav1.APIResourceList{GroupVersion: strings.TrimPrefix(strings.TrimPrefix(path, "/apis/"), "/api/"), APIResources: resources[path]})
		default:
			who := r.Header.Get("Impersonate-User")
			if who == "" {
				who = "-"
			}
			s.mu.Lock()
			s.asked = append(s.asked, who+" "+r.Method+" "+path)
			s.mu.Unlock()
			if strings.HasSuffix(path, "/selfsubjectreviews") {
				w.WriteHeader(http.StatusCreated)
				reply(authenticationv1.SelfSubjectReview{
					TypeMeta: metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "SelfSubjectReview"},
					Status:   authenticationv1.SelfSubjectReviewStatus{UserInfo: authenticationv1.UserInfo{Username: "me", Groups: []string{"people"}}},
				})
				return
			}
			w.WriteHeader(http.StatusForbidden)
			reply(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Reason: metav1.StatusReasonForbidden, Code: 403, Message: "forbidden"})
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// Who reads the cluster, and who is taken to ask, must never be mixed up.
func TestWhoReadsAndWhoAsks(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("KUBECONFIG", filepath.Join(dir, "none"))
	t.Setenv("HOME", dir)
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	words := file("words.yaml", "{signerName: example.com/internal, requester: {username: alice, groups: [people]}, usages: [client auth]}")
	pem, err := os.ReadFile("testdata/request.pem")
	if err != nil {
		t.Fatal(err)
	}
	bare := file("bare.pem", string(pem))
	policies := file("policies.yaml", `{apiVersion: certwright.dev/v1alpha1, kind: CertificatePolicy, metadata: {name: people}, spec: {signerNames: [example.com/internal], requesters: {groups: [people]}, allow: {commonNames: [alice], usages: [client auth]}}}`)
	asking := []string{"--signer", "example.com/internal", "--usages", "client auth"}
	const (
		policiesPath = "/apis/certwright.dev/v1alpha1/certificatepolicies"
		requests     = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
		review       = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
		settings     = "/api/v1/namespaces/certwright-system/configmaps/certwright"
	)
	for name, tc := range map[string]struct {
		args   []string
		asked  []string
		code   int
		output string
	}{
		"a request of the cluster is read as somebody else": {[]string{"explain", "csr", "web", "--as", "bob"}, []string{"bob GET " + requests + "/web"}, 1, "forbidden"},
		"pending is read as somebody else":                  {[]string{"pending", "--as", "bob"}, []string{"bob GET " + requests}, 1, "forbidden"},
		"approve acts as somebody else":                     {[]string{"approve", "web", "--as", "bob"}, []string{"bob GET " + requests + "/web"}, 1, "error: web: "},
		"inspect reads as somebody else":                    {[]string{"inspect", "pod", "web", "-n", "shop", "--as", "bob"}, []string{"bob GET /api/v1/namespaces/shop/pods/web"}, 1, "forbidden"},
		"a file is asked by somebody else and read as me":   {[]string{"explain", "-f", words, "--as", "bob"}, []string{"- GET " + policiesPath}, 1, "forbidden"},
		"a file that says who asks":                         {[]string{"explain", "-f", words, "--policies", policies}, []string{"- GET " + settings}, 0, "user alice"},
		"a file that does not is asked by me":               {append([]string{"explain", "-f", bare, "--policies", policies}, asking...), []string{"- POST " + review, "- GET " + settings}, 0, "user me"},
		"a pod that I may not read":                         {append([]string{"explain", "-f", bare, "--pod", "web", "-n", "shop"}, asking...), []string{"- GET /api/v1/namespaces/shop/pods/web"}, 1, "reading the pod"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newAPIServer(t)
			var out bytes.Buffer
			code := run(t.Context(), append(tc.args, "--server", s.URL), genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &out})
			if code != tc.code || !strings.Contains(out.String(), tc.output) {
				t.Errorf("got exit code %d and\n%s\nwant %d and %q", code, &out, tc.code, tc.output)
			}
			if !slices.Equal(s.asked, tc.asked) {
				t.Errorf("asked %q, want %q", s.asked, tc.asked)
			}
		})
	}
}
