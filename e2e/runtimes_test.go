// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/version"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// kubeletMinor returns the minor version of a node's kubelet, such as 37, which may be older than the API server.
func (s *story) kubeletMinor(name string) uint {
	s.Helper()
	var node corev1.Node
	s.must(admin.Get(s.ctx, client.ObjectKey{Name: name}, &node), "reading node %s", name)
	release, err := version.ParseGeneric(node.Status.NodeInfo.KubeletVersion)
	s.must(err, "reading the version of node %s", name)
	return release.Minor()
}

// A kubelet sends the public key of a pod as those of its release do, either in an empty certificate request or, before 1.36, bare and with a
// signature on the pod's UID. Either way it gets a certificate for that key.
func TestKubeletsAskInTheFormOfTheirRelease(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer(forKubelets)
	s.policy()
	s.makeServiceAccounts("app")
	for _, algorithm := range []string{"ECDSA-P256", "ECDSA-P384", "Ed25519", "RSA-3072"} {
		name := strings.ToLower(algorithm)
		pod := s.newPod(name, s.annotated(name, "delivery", "kubelet", "key-algorithm", algorithm), "app", demo("app", 1000, "look", "--follow"))
		s.make(pod)
		s.podReady(pod)
		r := s.newestPodRequest(pod, 1)
		s.podRequestIs(r, "Issued", "Issued")
		leaf, err := r.leaf()
		s.must(err, "reading the certificate of %s", name)
		if asked := s.askedKey(pod, r); !asked.(interface{ Equal(crypto.PublicKey) bool }).Equal(leaf.PublicKey) {
			s.Errorf("%s: the certificate is for another key than the kubelet's", name)
		}
		var l look
		s.until("the view of the app", soon, func(ctx context.Context) error { return lastLine(ctx, pod, "app", &l) })
		if l.Certificate.Serial != leaf.SerialNumber.Text(16) {
			s.Errorf("%s: the pod has certificate %s, and %x was issued", name, l.Certificate.Serial, leaf.SerialNumber)
		}
	}
}

// askedKey returns the public key of a kubelet's request, which must be in the form of the kubelet's release and in no other.
func (s *story) askedKey(pod *corev1.Pod, r podRequest) crypto.PublicKey {
	s.Helper()
	old := s.kubeletMinor(pod.Spec.NodeName) < 36
	bare, proof, stub := r.field("spec", "pkixPublicKey"), r.field("spec", "proofOfPossession"), r.field("spec", "stubPKCS10Request")
	if (bare != "") != old || (proof != "") != old || (stub != "") == old {
		s.Fatalf("a kubelet of 1.%d asks with the key %q, the proof %q and the request %q", s.kubeletMinor(pod.Spec.NodeName), bare, proof, stub)
	}
	der, err := base64.StdEncoding.DecodeString(bare + stub)
	s.must(err, "reading the key of request %s", r.GetName())
	if old {
		key, err := x509.ParsePKIXPublicKey(der)
		s.must(err, "reading the key of request %s", r.GetName())
		return key
	}
	request, err := x509.ParseCertificateRequest(der)
	s.must(err, "reading request %s", r.GetName())
	return request.PublicKey
}

// Servers in Go, Java and Node.js, as the examples have them, serve their new certificates after a renewal, each by its own means, and go on
// answering on a connection that stood before. They let in nobody without a certificate of the same signerName.
func TestServersInManyLanguagesServeTheNewCertificateAndDropNobody(t *testing.T) {
	t.Parallel()
	for name, app := range map[string]struct {
		images []string // the example's image, and the one that the cluster has
		greets string
	}{
		"go":   {[]string{"golang:1.26", "certwright/e2e-go:dev"}, "hello\n"},
		"java": {[]string{"eclipse-temurin:21", "certwright/e2e-java:dev"}, "hello [[2, someone]]\n"},
		"node": {[]string{"node:22", "certwright/e2e-node:dev"}, "hello DNS:someone\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := tell(t)
			o := s.signer()
			s.policy()
			objects := s.exampleFolder(name)
			if name == "go" { // it is compiled already: its pod could fetch no compiler here
				s.withoutCommand(objects)
			}
			pod := s.example(name, objects, app.images...)
			roots, own := s.roots(s.trustBundle(o)), s.client()
			call := func(ctx context.Context, way *forwarding, certificates ...tls.Certificate) (*tls.Conn, string, error) {
				return s.callApp(ctx, way, name, roots, func(net.Conn) error { return nil }, certificates...)
			}
			// Ways of their own: one ends when a connection through it ends badly.
			stays, others := s.forward(pod, 8443), s.forward(pod, 8443)
			var established *tls.Conn
			var first string
			s.until("a connection to the app", soon, func(ctx context.Context) (err error) {
				established, first, err = call(ctx, stays, own)
				return err
			})
			defer established.Close()
			s.keepsOut(func(ctx context.Context) (*tls.Conn, string, error) { return call(ctx, others) })
			goesOn := func() {
				if body, err := ask(established); err != nil || body != app.greets {
					s.Fatalf("on the connection that stands, the app answers %q, %v; want %q", body, err, app.greets)
				}
			}
			goesOn()
			s.askAsAdministrator(0, "renew", "pod", pod.Name, "-n", s.namespace)
			s.until("the app to serve another certificate", renewing, func(ctx context.Context) error {
				goesOn()
				connection, serial, err := call(ctx, others, own)
				if err != nil {
					return err
				}
				defer connection.Close()
				if serial == first {
					return fmt.Errorf("it serves certificate %s", serial)
				}
				body, err := ask(connection)
				if err == nil && body != app.greets {
					err = fmt.Errorf("it answers %q", body)
				}
				return err
			})
			goesOn()
		})
	}
}

// keepsOut waits until a server ends what a client without a certificate begins.
func (s *story) keepsOut(connect func(context.Context) (*tls.Conn, string, error)) {
	s.Helper()
	s.until("the app to let in nobody without a certificate", soon, func(ctx context.Context) error {
		connection, _, err := connect(ctx)
		if err == nil { // TLS 1.3 tells a client when it reads
			defer connection.Close()
			s.must(connection.SetReadDeadline(time.Now().Add(soon/4)), "setting a deadline")
			if _, err = connection.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
				return nil // Java's server says nothing
			}
		}
		if err == nil {
			return errors.New("it answers")
		}
		if strings.Contains(err.Error(), "remote error: tls") {
			return nil
		}
		return err
	})
}

// exampleFolder reads an example of several files, as kubectl apply -k does.
func (s *story) exampleFolder(name string) []*unstructured.Unstructured {
	s.Helper()
	built := s.run("", "kubectl", "kustomize", exampleApps+name)
	if built.code != 0 {
		s.Fatalf("kubectl kustomize: %s", built.err)
	}
	objects, err := decodeManifest(strings.NewReader(built.out))
	s.must(err, "reading the example")
	return objects
}

// withoutCommand has the containers of a Deployment run what their images are for.
func (s *story) withoutCommand(objects []*unstructured.Unstructured) {
	s.Helper()
	for _, o := range objects {
		containers, there, err := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
		s.must(err, "reading the example")
		if there {
			delete(containers[0].(data), "command")
			s.must(unstructured.SetNestedSlice(o.Object, containers, "spec", "template", "spec", "containers"), "changing the example")
		}
	}
}

// client returns a client certificate for the name "someone".
func (s *story) client() tls.Certificate {
	s.Helper()
	someone := s.requester()
	s.policy(forPeople(someone), func(p *v1alpha1.CertificatePolicySpec) { p.Allow.DNSNames = []string{"someone"} })
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.must(err, "making a key")
	o := s.request(someone, commonName(""), dnsNames("someone"), key(own))
	s.issued(o)
	pair := tls.Certificate{PrivateKey: own}
	for block, rest := pem.Decode(o.Status.Certificate); block != nil; block, rest = pem.Decode(rest) {
		pair.Certificate = append(pair.Certificate, block.Bytes)
	}
	return pair
}

// ask asks for a page on a connection that stays, and returns the page.
func ask(connection *tls.Conn) (string, error) {
	if err := connection.SetDeadline(time.Now().Add(soon)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(connection, "GET / HTTP/1.1\r\nHost: app\r\n\r\n"); err != nil {
		return "", err
	}
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("it answers %s", response.Status)
	}
	return string(body), err
}
