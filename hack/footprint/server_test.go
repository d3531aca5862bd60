// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package footprint

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

const (
	signerName = "footprint.example.com/internal"
	dnsName    = "cart.shop.svc"
	account    = "agent"
)

// server is an API server with an approver and signer that answer at once.
type server struct {
	client     kubernetes.Interface
	host, port string
	token, ca  []byte // of the agents' service account
	bundle     []byte
	root       *x509.Certificate
	key        *ecdsa.PrivateKey
	answers    chan answer
}

// answer is when a request was there, and when its certificate was.
type answer struct{ asked, answered time.Time }

// startServer starts an API server with the programs that "bin/cluster build" made.
func startServer(b *testing.B) *server {
	b.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		b.Fatal(err)
	}
	assets, err := filepath.Glob(filepath.Join(cache, "certwright", "kubernetes-"+os.Getenv("CERTWRIGHT_KUBERNETES")+"*", "kube-apiserver"))
	if err != nil || len(assets) == 0 {
		b.Fatalf("no programs of Kubernetes in %s: run make bin/cluster and bin/cluster build (%v)", cache, err)
	}
	env := &envtest.Environment{BinaryAssetsDirectory: filepath.Dir(assets[len(assets)-1])}
	config, err := env.Start()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := env.Stop(); err != nil {
			b.Error(err)
		}
	})
	s := &server{client: kubernetes.NewForConfigOrDie(config), ca: config.CAData, answers: make(chan answer, 64)}
	if s.host, s.port, err = net.SplitHostPort(strings.Trim(strings.TrimPrefix(config.Host, "https:"), "/")); err != nil {
		b.Fatal(err)
	}
	s.makeAccount(b)
	s.makeCA(b)
	ctx, cancel := context.WithCancel(b.Context())
	b.Cleanup(cancel)
	requests, err := s.client.CertificatesV1().CertificateSigningRequests().Watch(ctx, metav1.ListOptions{})
	if err != nil {
		b.Fatal(err)
	}
	go s.sign(ctx, b, requests)
	return s
}

// makeAccount makes the service account as which the agents act.
func (s *server) makeAccount(b *testing.B) {
	b.Helper()
	ctx := b.Context()
	_, err := s.client.CoreV1().ServiceAccounts("default").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account}}, metav1.CreateOptions{})
	if err != nil {
		b.Fatal(err)
	}
	_, err = s.client.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: account},
		Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{certificatesv1.GroupName}, Resources: []string{"certificatesigningrequests"}, Verbs: []string{"create", "get", "list", "watch"},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		b.Fatal(err)
	}
	_, err = s.client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: account},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: account},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "default", Name: account}},
	}, metav1.CreateOptions{})
	if err != nil {
		b.Fatal(err)
	}
	token, err := s.client.CoreV1().ServiceAccounts("default").CreateToken(ctx, account, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		b.Fatal(err)
	}
	s.token = []byte(token.Status.Token)
}

func (s *server) makeCA(b *testing.B) {
	b.Helper()
	var err error
	if s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		b.Fatal(err)
	}
	s.root = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, s.root, s.root, s.key.Public(), s.key)
	if err != nil {
		b.Fatal(err)
	}
	s.bundle = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// sign approves and signs each request as soon as it is there.
func (s *server) sign(ctx context.Context, b *testing.B, requests watch.Interface) {
	for event := range requests.ResultChan() {
		request, is := event.Object.(*certificatesv1.CertificateSigningRequest)
		if event.Type != watch.Added || !is {
			continue
		}
		asked := time.Now()
		if err := s.issue(ctx, request); err != nil {
			if ctx.Err() == nil {
				b.Errorf("signing %s: %v", request.Name, err)
			}
			return
		}
		s.answers <- answer{asked, time.Now()}
	}
}

func (s *server) issue(ctx context.Context, request *certificatesv1.CertificateSigningRequest) error {
	api := s.client.CertificatesV1().CertificateSigningRequests()
	request.Status.Conditions = append(request.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Benchmark",
	})
	request, err := api.UpdateApproval(ctx, request.Name, request, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	block, _ := pem.Decode(request.Spec.Request)
	asked, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: asked.DNSNames, URIs: asked.URIs,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(12 * time.Hour),
	}, s.root, asked.PublicKey, s.key)
	if err != nil {
		return err
	}
	request.Status.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	_, err = api.UpdateStatus(ctx, request, metav1.UpdateOptions{})
	return err
}

// issued returns the last answer, and forgets those before it; the zero one when there is none.
func (s *server) issued() (last answer) {
	for {
		select {
		case last = <-s.answers:
		default:
			return last
		}
	}
}
