// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build faults

package faults

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// sent is one request for a certificate and what became of it.
type sent struct {
	key      *ecdsa.PrivateKey
	at, done time.Time // done is zero while it waits
	leaf     *x509.Certificate
	refused  string // why it will never have a certificate
}

// load asks one Signer for certificates at a steady rate, and follows each request to its end.
type load struct {
	name       string
	signerName string
	every      time.Duration
	prompt     time.Duration
	client     kubernetes.Interface

	held     atomic.Bool // while true nothing is sent
	mu       sync.Mutex
	all      []*sent
	byName   map[string]*sent
	failures []string // of the load itself: none may be there
}

// newLoad returns a load of so many requests per second for the Signer of that name, which answers promptly while all is well.
func newLoad(signer string, rate int, prompt time.Duration) *load {
	return &load{name: signer, signerName: domain + signer, every: time.Second / time.Duration(rate), prompt: prompt, byName: map[string]*sent{}}
}

// startLoads has the loads go on until the test ends.
func startLoads(t *testing.T, c *cluster, loads ...*load) {
	t.Helper()
	clientset, err := kubernetes.NewForConfig(c.config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	for _, l := range loads {
		l.client = clientset
	}
	factory := informers.NewSharedInformerFactory(clientset, 0)
	requests := factory.Certificates().V1().CertificateSigningRequests().Informer()
	if _, err := requests.AddEventHandler(cache.ResourceEventHandlerFuncs{UpdateFunc: func(_, updated any) {
		for _, l := range loads {
			l.see(ctx, updated.(*certificatesv1.CertificateSigningRequest))
		}
	}}); err != nil {
		t.Fatal(err)
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	for _, l := range loads {
		running.Go(func() {
			tick := time.NewTicker(l.every)
			defer tick.Stop()
			for n := 0; ctx.Err() == nil; n++ {
				select {
				case <-tick.C:
					if !l.held.Load() {
						running.Go(func() { l.send(ctx, fmt.Sprintf("%s-%d", l.name, n)) })
					}
				case <-ctx.Done():
				}
			}
		})
	}
}

func usages() []certificatesv1.KeyUsage {
	return []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth}
}

// send creates one request.
func (l *load) send(ctx context.Context, name string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		l.failed(err)
		return
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name + ".load.example.com"}}, key)
	if err != nil {
		l.failed(err)
		return
	}
	request := &sent{key: key, at: time.Now()}
	l.mu.Lock()
	l.all = append(l.all, request)
	l.byName[name] = request
	l.mu.Unlock()
	_, err = l.client.CertificatesV1().CertificateSigningRequests().Create(ctx, &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			SignerName: l.signerName, Usages: usages(), Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
		},
	}, metav1.CreateOptions{})
	if err != nil && ctx.Err() == nil {
		l.failed(err)
	}
}

func (l *load) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, err.Error())
}

// see notes what became of a request, and deletes it once it has ended.
func (l *load) see(ctx context.Context, object *certificatesv1.CertificateSigningRequest) {
	if object.Spec.SignerName != l.signerName {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	request := l.byName[object.Name]
	leaf, err := leafOf(object.Status.Certificate)
	if request == nil || err != nil {
		l.failures = append(l.failures, fmt.Sprintf("%s: unknown, or its certificate cannot be read: %v", object.Name, err))
		return
	}
	switch {
	case request.leaf != nil:
		if !request.leaf.Equal(leaf) {
			l.failures = append(l.failures, object.Name+" has got two certificates")
		}
		return
	case !request.done.IsZero():
		return
	case leaf != nil:
		if !request.key.PublicKey.Equal(leaf.PublicKey) {
			l.failures = append(l.failures, object.Name+" has got a certificate for another key")
		}
		request.leaf = leaf
	default:
		for _, condition := range object.Status.Conditions {
			if condition.Status == corev1.ConditionTrue && condition.Type != certificatesv1.CertificateApproved {
				request.refused = fmt.Sprintf("%s, %s: %s", condition.Type, condition.Reason, condition.Message)
			}
		}
		if request.refused == "" {
			return
		}
	}
	request.done = time.Now()
	go func() {
		err := l.client.CertificatesV1().CertificateSigningRequests().Delete(ctx, object.Name, metav1.DeleteOptions{})
		if err != nil && ctx.Err() == nil {
			l.failed(err)
		}
	}()
}

// leafOf returns the first certificate, or nil if there is none yet.
func leafOf(chain []byte) (*x509.Certificate, error) {
	if len(bytes.TrimSpace(chain)) == 0 {
		return nil, nil
	}
	block, _ := pem.Decode(chain)
	if block == nil {
		return nil, fmt.Errorf("no PEM: %q", chain)
	}
	return x509.ParseCertificate(block.Bytes)
}

// well says whether what was sent lately was answered promptly, and nothing waits.
func (l *load) well() bool {
	until := time.Now().Add(-l.prompt)
	recent := phase{requests: l.between(until.Add(-calm), until)}
	return l.waiting(until) == 0 && len(recent.requests) > 0 && recent.issued() == len(recent.requests) && recent.quantile(0.99) < l.prompt
}

// between returns what was sent from one moment to another.
func (l *load) between(from, to time.Time) (found []sent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.all {
		if !s.at.Before(from) && s.at.Before(to) {
			found = append(found, *s)
		}
	}
	return found
}

// waiting returns how many requests that were sent before a moment have not ended.
func (l *load) waiting(before time.Time) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.all {
		if s.done.IsZero() && s.at.Before(before) {
			n++
		}
	}
	return n
}
