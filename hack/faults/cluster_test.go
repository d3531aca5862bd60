// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build faults

package faults

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/hack/servers"
)

const (
	namespace = "certwright-system"
	user      = "load"                // who asks for certificates
	domain    = "faults.example.com/" // of all signerNames
)

// cluster is an API server with Certwright's approver and signer.
type cluster struct {
	client.Client
	config *rest.Config // of the user who asks
}

// running is what goes on when the test process ends, if nobody stops it.
var running atomic.Pointer[envtest.Environment]

func TestMain(m *testing.M) {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		if env := running.Load(); env != nil {
			_ = env.Stop()
		}
		os.Exit(1)
	}()
	os.Exit(m.Run())
}

// startCluster starts an API server with the programs that "bin/cluster build" made, and Certwright's own.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	assets, err := filepath.Glob(filepath.Join(cache, "certwright", "kubernetes-"+os.Getenv("CERTWRIGHT_KUBERNETES")+"*"))
	if err != nil || len(assets) == 0 {
		t.Fatalf("no programs of Kubernetes in %s: run bin/cluster build (%v)", cache, err)
	}
	env := &envtest.Environment{
		BinaryAssetsDirectory: assets[len(assets)-1],
		CRDDirectoryPaths:     []string{filepath.Join("..", "..", "manifests", "crds")}, ErrorIfCRDPathMissing: true,
	}
	running.Store(env)
	if _, err := env.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Error(err)
		}
	})
	person, err := env.AddUser(envtest.User{Name: user, Groups: []string{"system:masters"}}, &rest.Config{QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c := &cluster{config: person.Config()}
	if c.Client, err = client.New(c.config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	c.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, env.KubeConfig, 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "certwright")
	build(t, program, "../../cmd/certwright")
	start := func(component string, args ...string) *servers.Process {
		health := servers.Address(t)
		return servers.Start(t, servers.Spec{
			Path: program,
			Args: append([]string{component, "--leader-elect=false", "--namespace=" + namespace, "--metrics-bind-address=0", "--health-probe-bind-address=" + health}, args...),
			Env:  []string{"KUBECONFIG=" + kubeconfig}, ReadyURL: "http://" + health + "/readyz",
		})
	}
	start("approver")
	signer := start("signer", "--acme-solver-address=0")
	t.Cleanup(func() {
		if t.Failed() {
			report(t, signer)
		}
	})
	return c
}

// report keeps what a process said.
func report(t *testing.T, p *servers.Process) {
	t.Helper()
	file, err := os.CreateTemp("", "certwright-faults-*.log")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(p.Output()); err != nil {
		t.Fatal(err)
	}
	t.Logf("what the signer said is in %s", file.Name())
}

func build(t *testing.T, program, pkg string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", "grpcnotrace", "-o", program, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", pkg, err, out)
	}
}

func (c *cluster) create(t *testing.T, object client.Object) {
	t.Helper()
	if err := c.Client.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

// setSecret creates a Secret, or gives it other data.
func (c *cluster) setSecret(t *testing.T, name string, kind corev1.SecretType, data map[string][]byte) {
	t.Helper()
	var secret corev1.Secret
	err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, &secret)
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	if err != nil {
		c.create(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Type: kind, Data: data})
		return
	}
	secret.Data = data
	if err := c.Update(t.Context(), &secret); err != nil {
		t.Fatal(err)
	}
}

// setSigner has a Signer with these backends, and lets the user have certificates of it.
func (c *cluster) setSigner(t *testing.T, name string, backends ...v1alpha1.Backend) {
	t.Helper()
	signerName, usages := domain+name, usages()
	c.create(t, &v1alpha1.Signer{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.SignerSpec{
			SignerName: signerName, Backends: backends,
			Limits: v1alpha1.Limits{MaxDuration: metav1.Duration{Duration: time.Hour}, Usages: usages},
		},
	})
	c.create(t, &v1alpha1.CertificatePolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.CertificatePolicySpec{
			SignerNames: []string{signerName}, Requesters: v1alpha1.Requesters{Users: []string{user}},
			Allow: v1alpha1.Allow{
				DNSNames: []string{"*.load.example.com"}, Usages: usages, MaxDuration: &metav1.Duration{Duration: time.Hour},
				Keys: []v1alpha1.Key{{Algorithm: "ECDSA"}},
			},
		},
	})
}

// managedCA is the backend that serves when the one before it does not.
func managedCA() v1alpha1.Backend {
	return v1alpha1.Backend{Name: "local", CA: &v1alpha1.CA{Managed: &v1alpha1.ManagedCA{
		RootDuration: metav1.Duration{Duration: 24 * time.Hour}, IntermediateDuration: metav1.Duration{Duration: 12 * time.Hour},
	}}}
}

// wait waits while the load goes on.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
