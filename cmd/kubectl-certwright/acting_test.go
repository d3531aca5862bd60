// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/fleet/fleettest"
)

// newShop serves the cluster of fleettest, with a Signer "internal" that has a managed CA, and remembers what is patched: "PATH PATCH", or
// "only checked: PATH PATCH".
func newShop(t *testing.T) (url string, patched *[]string) {
	t.Helper()
	pods := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}}
	for _, o := range fleettest.Objects(t) {
		if pod, ok := o.(*corev1.Pod); ok {
			pods.Items = append(pods.Items, *pod)
		}
	}
	signer := &v1alpha1.Signer{
		TypeMeta:   metav1.TypeMeta{APIVersion: "certwright.dev/v1alpha1", Kind: "Signer"},
		ObjectMeta: metav1.ObjectMeta{Name: "internal", UID: "uid-of-signer"},
		Spec: v1alpha1.SignerSpec{SignerName: "example.com/internal", Backends: []v1alpha1.Backend{
			{Name: "local", CA: &v1alpha1.CA{Managed: &v1alpha1.ManagedCA{}}}, {Name: "vault", Vault: &v1alpha1.Vault{}},
		}},
		Status: v1alpha1.SignerStatus{Backends: []v1alpha1.BackendStatus{{Name: "local", Root: "aaaa", Issuer: "bbbb"}}},
	}
	objects := map[string]client.Object{"/apis/certwright.dev/v1alpha1/signers/internal": signer}
	for i := range pods.Items {
		pods.Items[i].TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
		objects["/api/v1/namespaces/"+pods.Items[i].Namespace+"/pods/"+pods.Items[i].Name] = &pods.Items[i]
	}
	in := func(namespace string) corev1.PodList {
		list := pods
		list.Items = slices.DeleteFunc(slices.Clone(pods.Items), func(p corev1.Pod) bool { return p.Namespace != namespace })
		return list
	}
	patched = &[]string{}
	s := newAPIServer(t)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var answer any
		switch object, ok := objects[r.URL.Path]; {
		case ok && r.Method == http.MethodPatch:
			patch, _ := io.ReadAll(r.Body)
			how := ""
			if r.URL.Query().Get("dryRun") == "All" {
				how = "only checked: "
			}
			*patched = append(*patched, how+r.URL.Path+" "+string(patch))
			answer = object
		case ok:
			answer = object
		case r.URL.Path == "/api/v1/pods":
			answer = pods
		case r.URL.Path == "/api/v1/namespaces/shop/pods":
			answer = in("shop")
		default:
			s.Config.Handler.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(front.Close)
	return front.URL, patched
}

// What acts on the cluster writes only after it was told to, and says what it wrote.
func TestActing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("KUBECONFIG", filepath.Join(dir, "none"))
	t.Setenv("HOME", dir)
	const (
		noTerminal = "error: nothing was written: there is no terminal to ask at, say --yes"
		internal   = "/apis/certwright.dev/v1alpha1/signers/internal "
	)
	for name, c := range map[string]struct {
		args string
		code int
		// want are parts of the output.
		want []string
		// patched are the starts of what is patched.
		patched []string
	}{
		"one agent": {"renew pod web-5d8f-a -n shop", 0, []string{"web-5d8f-a", "renews within a minute", "1 of 1 told to renew."}, []string{
			`/api/v1/namespaces/shop/pods/web-5d8f-a {"metadata":{"annotations":{"certwright.dev/renew":"20`,
		}},
		"several agents":          {"renew --signer example.com/internal -n shop", 1, []string{noTerminal, "kubectl rollout restart statefulset/cart -n shop"}, nil},
		"several, unasked":        {"renew pod web-5d8f-a web-5d8f-b -n shop --yes", 0, []string{"2 of 2 told"}, []string{"/api/v1/namespaces/shop/pods/web-5d8f-a ", "/api/v1/namespaces/shop/pods/web-5d8f-b "}},
		"all, and some cannot":    {"renew --signer example.com/other -A --yes", 0, []string{"2 of 2 told"}, []string{"/api/v1/namespaces/bank/pods/both ", "/api/v1/namespaces/bank/pods/teller "}},
		"only a kubelet":          {"renew pod/cart-0 -n shop", 2, []string{"None of them can be told to renew: nothing was written."}, nil},
		"a pod that is not there": {"renew pod gone -n shop", 1, []string{"reading pod shop/gone"}, nil},
		"nobody":                  {"renew", 1, []string{"say whose certificates: renew pod NAME"}, nil},
		"a name everywhere":       {"renew pod a -A", 1, []string{"--all-namespaces goes with --signer alone"}, nil},
		"a strange kind":          {"renew job a", 1, []string{`"job" is not a kind of pods`}, nil},
		"several, to see":         {"renew --signer example.com/internal -n shop --dry-run", 2, []string{"renews within a minute", "3 would be told to renew: nothing was written."}, nil},
		"one, to see":             {"renew pod web-5d8f-a -n shop --dry-run=client", 0, []string{"1 would be told to renew: nothing was written."}, nil},
		"several, checked": {"renew pod web-5d8f-a web-5d8f-b -n shop --dry-run=server", 0, []string{"2 would be told to renew: nothing was written."}, []string{
			`only checked: /api/v1/namespaces/shop/pods/web-5d8f-a {"metadata":{"annotations":{"certwright.dev/renew":"20`, "only checked: /api/v1/namespaces/shop/pods/web-5d8f-b ",
		}},
		"written after all":        {"renew pod web-5d8f-a -n shop --dry-run=none", 0, []string{"1 of 1 told to renew."}, []string{"/api/v1/namespaces/shop/pods/web-5d8f-a "}},
		"dry in another way":       {"renew pod web-5d8f-a -n shop --dry-run=true", 1, []string{"must be one of none, client, server"}, nil},
		"to see, and wait":         {"renew pod web-5d8f-a -n shop --dry-run --wait", 1, []string{"leave one of them out"}, nil},
		"for programs, unasked":    {"renew --signer example.com/internal -n shop -o json", 1, []string{noTerminal}, nil},
		"for programs, in trouble": {"renew pod web-5d8f-a -n shop --wait -o json", 1, []string{`"told": true`, "error: listing certificatesigningrequests"}, []string{"/api/v1/namespaces/shop/pods/web-5d8f-a "}},
		"a root, to see":           {"ca rotate internal --dry-run", 0, []string{"Whom it reaches", "Nothing was written."}, nil},
		"compromised, checked":     {"ca rotate internal --compromised --dry-run=server", 0, []string{"Nothing was written."}, []string{"only checked: " + internal + `{"metadata":{"annotations":{"certwright.dev/compromised-root":"aaaa"}`}},
		"a root, to see, and wait": {"ca rotate internal --dry-run --wait", 1, []string{"leave one of them out"}, nil},
		"waiting without rights":   {"renew pod web-5d8f-a -n shop --wait", 1, []string{"1 of 1 told", "listing certificatesigningrequests"}, []string{"/api/v1/namespaces/shop/pods/web-5d8f-a "}},
		"a root":                   {"ca rotate internal --yes", 0, []string{"Whom it reaches", "1. Publishing, for 1h", "2. Signing, for 24h at least", "To see how far it is: kubectl certwright ca status internal"}, []string{internal + `{"metadata":{"annotations":{"certwright.dev/rotate-root":"aaaa"},"uid":"uid-of-signer"}}`}},
		"a root, not asked":        {"ca rotate internal", 1, []string{"shop", noTerminal}, nil},
		"an intermediate":          {"ca rotate internal --backend local --intermediate --yes", 0, []string{"another intermediate"}, []string{internal + `{"metadata":{"annotations":{"certwright.dev/rotate-intermediate":"bbbb"}`}},
		"compromised":              {"ca rotate internal --compromised --yes", 0, []string{"the old root leaves the trust bundle", "kubectl rollout restart statefulset/cart -n shop"}, []string{internal + `{"metadata":{"annotations":{"certwright.dev/compromised-root":"aaaa"}`}},
		"compromised, not asked":   {"ca rotate internal --compromised", 1, []string{noTerminal}, nil},
		"a server's":               {"ca rotate internal --backend vault --yes", 1, []string{"not a CA that Certwright manages"}, nil},
		"both":                     {"ca rotate internal --compromised --intermediate", 1, []string{"exclude each other"}, nil},
		"no Signer's name":         {"ca rotate", 1, []string{"write kubectl certwright ca rotate SIGNER"}, nil},
		"status":                   {"ca status internal", 0, []string{"backend local: managed CA\n  root           aaaa\n  signs with     bbbb\n", "backend vault: vault"}, nil},
		"status for programs":      {"ca status internal -o json", 0, []string{`"kind": "managed CA"`, `"root": "aaaa"`}, nil},
		"status without the right": {"ca status", 1, []string{"listing Signers"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			url, patched := newShop(t)
			var out bytes.Buffer
			args := append(strings.Fields(c.args), "--server", url)
			code := run(t.Context(), args, genericiooptions.IOStreams{In: strings.NewReader("y\ny\n"), Out: &out, ErrOut: &out})
			if lacks := func(part string) bool { return !strings.Contains(out.String(), part) }; code != c.code || slices.ContainsFunc(c.want, lacks) {
				t.Errorf("got exit code %d and\n%s\nwant %d and %q", code, &out, c.code, c.want)
			}
			if !slices.EqualFunc(*patched, c.patched, strings.HasPrefix) {
				t.Errorf("patched %q, want %q", *patched, c.patched)
			}
		})
	}
}

// What programs read is the result and nothing else, and stays as it is.
func TestForPrograms(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("KUBECONFIG", filepath.Join(dir, "none"))
	t.Setenv("HOME", dir)
	for name, c := range map[string]struct {
		args string
		code int
		told string // on standard error
	}{
		"ca-status.json":     {"ca status internal -o json", 0, ""},
		"ca-status.yaml":     {"ca status internal -o yaml", 0, ""},
		"renew-dry-run.json": {"renew --signer example.com/internal -n shop --dry-run -o json", 2, "note: when kubelets renew is not known: "},
		"renew.yaml":         {"renew pod web-5d8f-a web-5d8f-b -n shop --yes -o yaml", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			url, _ := newShop(t)
			var out, errOut bytes.Buffer
			code := run(t.Context(), append(strings.Fields(c.args), "--server", url), genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &errOut})
			if code != c.code || !strings.HasPrefix(errOut.String(), c.told) || c.told == "" && errOut.Len() > 0 {
				t.Errorf("got exit code %d and, on standard error, %s\nwant %d and %q", code, &errOut, c.code, c.told)
			}
			fleettest.Golden(t, name, out.String())
		})
	}
}

func TestPrompt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		input    string
		ask, yes bool
		typed    bool
		ok       bool
	}{
		"yes":              {"y\n", true, false, false, true},
		"yes in full":      {" YES \n", true, false, false, true},
		"return":           {"\n", true, false, false, false},
		"no":               {"n\n", true, false, false, false},
		"end":              {"", true, false, false, false},
		"unasked":          {"", false, true, false, true},
		"nobody to ask":    {"y\n", false, false, false, false},
		"the word":         {"internal\n", true, false, true, true},
		"yes for the word": {"y\n", true, false, true, false},
		"another word":     {"Internal\n", true, false, true, false},
		"word, unasked":    {"", false, true, true, true},
	} {
		var out bytes.Buffer
		p := (&cli{IOStreams: genericiooptions.IOStreams{In: strings.NewReader(c.input), Out: &out}}).prompt(c.yes)
		p.ask = c.ask
		ask := func() error { return p.confirm("Go on?") }
		if c.typed {
			ask = func() error { return p.typed("Type it:", "internal") }
		}
		err := ask()
		if (err == nil) != c.ok {
			t.Errorf("%s: got %v", name, err)
		}
		if asked := out.Len() > 0; asked != (c.ask && !c.yes) {
			t.Errorf("%s: wrote %q", name, &out)
		}
	}
}
