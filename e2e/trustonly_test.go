// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"testing"

	keystore "github.com/pavlo-v-chernykh/keystore-go/v4"
	corev1 "k8s.io/api/core/v1"
	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"github.com/certwright/certwright/api/v1alpha1"
)

const (
	tlsDirectory   = "/var/run/secrets/certwright.dev/tls/"
	trustDirectory = "/var/run/secrets/certwright.dev/trust/"
)

// readFile returns a file as a container of the demo app sees it.
func (s *story) readFile(pod *corev1.Pod, container, path string) (text string) {
	s.Helper()
	s.until("file "+path+" of pod "+pod.Name, soon, func(context.Context) error {
		c := s.run("", "kubectl", "exec", "-n", pod.Namespace, pod.Name, "-c", container, "--", "/demo", "read", path)
		if c.code != 0 {
			return errors.New(c.err)
		}
		text = c.out
		return nil
	})
	return text
}

// trusting makes a pod that asks for trust bundles alone, and returns it when it runs.
func (s *story) trusting(name string, container corev1.Container, annotations ...string) *corev1.Pod {
	s.Helper()
	metadata := s.annotated(name, annotations...)
	delete(metadata.Annotations, autoTLS)
	pod := s.newPod(name, metadata, "default", container)
	s.make(pod)
	s.podReady(pod)
	return pod
}

// Pods get trust bundles without asking for a certificate: of one Signer as a volume and nothing else; of two, with the public roots
// and the variables by which programs find them, by an agent.
func TestPodsGetTrustAlone(t *testing.T) {
	t.Parallel()
	s, other := tell(t), tell(t)
	one := s.publishedAnchors(s.trustBundle(s.signer()))
	another := other.publishedAnchors(other.trustBundle(other.signer()))
	both := slices.Sorted(slices.Values(slices.Concat(one, another)))

	simple := s.trusting("simple", demo("app", 1000, "server"), "trust", s.signerName)
	if n := len(simple.Spec.InitContainers); n != 0 || simple.Annotations[v1alpha1.AnnotationDeliveredBy] != "kubelet" {
		s.Errorf("a pod that asks for one bundle got %d init containers and says that the %q delivers", n, simple.Annotations[v1alpha1.AnnotationDeliveredBy])
	}
	s.until("the bundle of one Signer", starting, func(context.Context) error {
		got, err := anchorsOf(s.readFile(simple, "app", trustDirectory+"ca.crt"), nil)
		if err == nil && !slices.Equal(got, one) {
			err = fmt.Errorf("it holds %q, want %q", got, one)
		}
		return err
	})

	container := demo("app", 1000, "server")
	container.Env = []corev1.EnvVar{{Name: "CURL_CA_BUNDLE", Value: "/its/own"}}
	pod := s.trusting("many", container, "trust", s.signerName+","+other.signerName, "trust-env", "true", "formats", "PKCS12,JKS")
	got, err := anchorsOf(s.readFile(pod, "app", trustDirectory+"ca.crt"), nil)
	s.must(err, "reading ca.crt")
	s.sameNames("the anchors of two Signers", got, both...)
	all, err := anchorsOf(s.readFile(pod, "app", trustDirectory+"ca-bundle.crt"), nil)
	s.must(err, "reading ca-bundle.crt")
	for _, anchor := range both {
		if !slices.Contains(all, anchor) {
			s.Errorf("ca-bundle.crt is without %s", anchor)
		}
	}
	if len(all) < 100 {
		s.Errorf("ca-bundle.crt holds %d certificates, want the public roots as well", len(all))
	}
	env := map[string]string{}
	for _, v := range pod.Spec.Containers[0].Env {
		env[v.Name] = v.Value
	}
	for name, want := range map[string]string{
		"SSL_CERT_FILE": trustDirectory + "ca-bundle.crt", "REQUESTS_CA_BUNDLE": trustDirectory + "ca-bundle.crt",
		"NODE_EXTRA_CA_CERTS": trustDirectory + "ca.crt", "CURL_CA_BUNDLE": "/its/own",
	} {
		if env[name] != want {
			s.Errorf("variable %s is %q, want %q", name, env[name], want)
		}
	}
	trusted, err := pkcs12.DecodeTrustStore([]byte(s.readFile(pod, "app", trustDirectory+"truststore.p12")), "changeit")
	s.must(err, "opening truststore.p12")
	if len(trusted) < 2 {
		s.Errorf("truststore.p12 holds %d certificates", len(trusted))
	}
	requests, err := s.requestsOf(s.ctx, pod)
	if err != nil || len(requests) != 0 {
		s.Errorf("a pod that asks for no certificate made requests: %v, %v", requests, err)
	}
}

// A pod gets its key and its certificate in the forms that other programs read, again after each renewal, with the same password.
func TestPodsGetKeysInOtherFormats(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	s.policy()
	pod, first := s.agentPod("app", "formats", "PKCS12,JKS,PEM")
	password := s.keystores(pod)
	s.askAsAdministrator(0, "renew", "pod", pod.Name, "-n", s.namespace)
	s.viewOf(pod, "another certificate", first.other())
	if again := s.keystores(pod); again != password {
		s.Error("the password of the keystores changed with the certificate")
	}
}

// keystores checks that each form holds the pair that the pod has in tls.crt and tls.key, and returns the password.
func (s *story) keystores(pod *corev1.Pod) string {
	s.Helper()
	read := func(name string) []byte { return []byte(s.readFile(pod, "app", tlsDirectory+name)) }
	want, err := tls.X509KeyPair(read("tls.crt"), read("tls.key"))
	s.must(err, "reading the pair")
	password := string(read("keystore-password"))
	if len(password) < 16 {
		s.Errorf("the password has %d characters", len(password))
	}
	same := func(what string, key any, leaf []byte) {
		s.Helper()
		if k, ok := key.(interface{ Equal(crypto.PrivateKey) bool }); !ok || !k.Equal(want.PrivateKey) || !bytes.Equal(leaf, want.Certificate[0]) {
			s.Errorf("%s holds another pair than tls.crt and tls.key", what)
		}
	}
	key, leaf, _, err := pkcs12.DecodeChain(read("keystore.p12"), password)
	s.must(err, "opening keystore.p12")
	same("keystore.p12", key, leaf.Raw)

	store := keystore.New()
	s.must(store.Load(bytes.NewReader(read("keystore.jks")), []byte(password)), "opening keystore.jks")
	entry, err := store.GetPrivateKeyEntry(store.Aliases()[0], []byte(password))
	s.must(err, "reading keystore.jks")
	key, err = x509.ParsePKCS8PrivateKey(entry.PrivateKey)
	s.must(err, "reading the key of keystore.jks")
	same("keystore.jks", key, entry.CertificateChain[0].Content)

	combined := read("tls-combined.pem")
	pair, err := tls.X509KeyPair(combined, combined)
	s.must(err, "reading tls-combined.pem")
	same("tls-combined.pem", pair.PrivateKey, pair.Certificate[0])
	if block, _ := pem.Decode(combined); block == nil || block.Type != "PRIVATE KEY" {
		s.Error("tls-combined.pem does not begin with the key")
	}
	return password
}

// Trust of another Signer is merged into ca.crt of a pod that has a certificate.
func TestTrustOfOtherSignersIsMerged(t *testing.T) {
	t.Parallel()
	s, other := tell(t), tell(t)
	own := s.publishedAnchors(s.trustBundle(s.signer()))
	another := other.publishedAnchors(other.trustBundle(other.signer()))
	s.policy()
	pod, _ := s.agentPod("app", "trust", other.signerName)
	s.podTrusts(pod, slices.Concat(own, another))
}
