// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build smoke

// Package smoke sees that the cluster that is up can do what the tests of Certwright need from it.
package smoke

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/certwright/certwright/hack/cluster/internal/cluster"
	"github.com/certwright/certwright/hack/cluster/internal/pki"
	"github.com/certwright/certwright/hack/images/image"
)

//go:embed objects.yaml
var objects string

//go:embed webhook.yaml
var webhook string

// namespace is where all of the test is.
const namespace = "cluster-smoke"

// dir returns the folder of the cluster.
func dir() string {
	if dir := os.Getenv("CERTWRIGHT_CLUSTER_DIR"); dir != "" {
		return dir
	}
	return "/var/lib/certwright-cluster"
}

// try runs kubectl and returns all that it says.
func try(t *testing.T, input string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(filepath.Join(dir(), "bin", "kubectl"), append([]string{"--kubeconfig", filepath.Join(dir(), "kubeconfig"), "-n", namespace}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// kubectl runs kubectl, which must end well, and returns what it says.
func kubectl(t *testing.T, input string, args ...string) string {
	t.Helper()
	out, err := try(t, input, args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// want runs kubectl and checks that it says that.
func want(t *testing.T, text string, args ...string) {
	t.Helper()
	if out := kubectl(t, "", args...); !strings.Contains(out, text) {
		t.Errorf("kubectl %s says\n%s\nwithout %q", strings.Join(args, " "), out, text)
	}
}

// fill renders a template.
func fill(t *testing.T, text string, values map[string]string) string {
	t.Helper()
	var out bytes.Buffer
	if err := template.Must(template.New("").Parse(text)).Execute(&out, values); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// loadWorkload builds the workload's image and gives it to the node.
func loadWorkload(t *testing.T) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "workload")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "./workload")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the workload: %v\n%s", err, out)
	}
	file := filepath.Join(t.TempDir(), "smoke.tar")
	if err := image.Write(image.Spec{Reference: "certwright/smoke:dev", Programs: []string{program}}, file); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	if err := (&cluster.Cluster{Dir: dir(), Out: &said}).Load(context.Background(), []string{file}); err != nil {
		t.Fatal(err)
	}
	if got := said.String(); got != "loaded docker.io/certwright/smoke:dev\n" {
		t.Errorf("load says %q", got)
	}
}

func TestCluster(t *testing.T) {
	loadWorkload(t)
	authority, err := pki.NewAuthority("smoke", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	server, err := authority.Server("server", "server."+namespace+".svc")
	if err != nil {
		t.Fatal(err)
	}
	bundleVersion := "v1beta1"
	if strings.Contains(kubectl(t, "", "get", "--raw", "/apis/certificates.k8s.io/v1"), `"clustertrustbundles"`) {
		bundleVersion = "v1"
	}
	encode := base64.StdEncoding.EncodeToString
	values := map[string]string{
		"BundleVersion": bundleVersion, "CA": string(authority.Certificate), "CABase64": encode(authority.Certificate),
		"Certificate": encode(server.Certificate), "Key": encode(server.Key),
	}
	t.Cleanup(func() {
		if os.Getenv("CERTWRIGHT_SMOKE_KEEP") != "" {
			return
		}
		kubectl(t, "", "delete", "--ignore-not-found", "mutatingwebhookconfigurations.admissionregistration.k8s.io/cluster-smoke",
			"clustertrustbundles.certificates.k8s.io/cluster-smoke", "csr/cluster-smoke", "namespace/"+namespace)
	})
	kubectl(t, "", "create", "namespace", namespace)
	kubectl(t, "", "label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
	kubectl(t, fill(t, objects, values), "apply", "-f", "-")
	kubectl(t, "", "wait", "--for=condition=Ready", "pod/server", "--timeout=60s")

	t.Run("names of Services and of pods behind a headless one", func(t *testing.T) {
		want(t, "198.19.", "exec", "server", "--", "/workload", "lookup", "server")
		ip := kubectl(t, "", "get", "pod", "server", "-o", "jsonpath={.status.podIP}")
		want(t, ip, "exec", "server", "--", "/workload", "lookup", "first.headless."+namespace+".svc.cluster.local")
		if out, err := try(t, "", "exec", "server", "--", "/workload", "lookup", "certwright.example"); err == nil || !strings.Contains(out, "no such host") {
			t.Errorf("a name beyond the cluster: %v\n%s", err, out)
		}
	})
	t.Run("Services", func(t *testing.T) {
		want(t, "hello 198.18.", "exec", "server", "--", "/workload", "get", "https://server."+namespace+".svc")
		want(t, "gitVersion", "exec", "server", "--", "/workload", "get", "https://kubernetes.default.svc/version")
	})
	t.Run("sidecars and logs", func(t *testing.T) {
		kubectl(t, "", "wait", "--for=condition=Complete", "job/sidecar", "--timeout=60s")
		want(t, "198.19.0.1", "logs", "job/sidecar", "-c", "main")
		want(t, "waiting", "logs", "job/sidecar", "-c", "sidecar")
	})
	t.Run("trust bundles", func(t *testing.T) {
		// The kubelet writes the certificate anew, without the line that ends the file.
		want(t, strings.TrimSpace(string(authority.Certificate)), "exec", "server", "--", "/workload", "read", "/trust/ca.crt")
	})
	t.Run("webhooks", func(t *testing.T) {
		kubectl(t, fill(t, webhook, values), "apply", "-f", "-")
		for deadline := time.Now().Add(30 * time.Second); ; {
			kubectl(t, "", "create", "configmap", "labelled")
			if kubectl(t, "", "get", "configmap", "labelled", "-o", "jsonpath={.metadata.labels.seen}") == "true" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the webhook was not asked")
			}
			kubectl(t, "", "delete", "configmap", "labelled")
		}
	})
	t.Run("Pod Security", func(t *testing.T) {
		out, err := try(t, "", "run", "refused", "--image=certwright/smoke:dev", "--privileged")
		if err == nil || !strings.Contains(out, "violates PodSecurity") {
			t.Errorf("a privileged pod: %v\n%s", err, out)
		}
	})
	t.Run("Kubernetes' own signers", testSigner)
}

// testSigner has kube-controller-manager sign a certificate.
func testSigner(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "smoke"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	kubectl(t, fmt.Sprintf(`{"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "cluster-smoke"},
		"spec": {"signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"], "request": %q}}`,
		base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}))), "create", "-f", "-")
	kubectl(t, "", "certificate", "approve", "cluster-smoke")
	kubectl(t, "", "wait", "--for=jsonpath={.status.certificate}", "csr/cluster-smoke", "--timeout=30s")
	want(t, "kubernetes.io/kube-apiserver-client", "describe", "csr", "cluster-smoke")
}
