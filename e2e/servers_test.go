// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// server is a program that backends talk to, in a pod of its own behind a Service of its name.
type server struct {
	name string
	args []string
	env  []corev1.EnvVar
	// files are found in /config.
	files map[string][]byte
	// ports of the Service, to those of the pod, which is ready when the first one takes connections.
	ports []corev1.ServicePort
	// rights are those of its service account in the whole cluster.
	rights []rbacv1.PolicyRule
}

func port(service, pod int32) corev1.ServicePort {
	return corev1.ServicePort{Name: fmt.Sprintf("tcp-%d", service), Port: service, TargetPort: intstr.FromInt32(pod)}
}

// service makes the Service of the server, and returns its address, which some servers must know of each other.
func (v server) service(s *story) string {
	s.Helper()
	o := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v.name}}
	o.Spec = corev1.ServiceSpec{Selector: map[string]string{"app": v.name}, Ports: v.ports}
	s.make(o)
	return o.Spec.ClusterIP
}

// start starts the server and waits until it is ready. Its Service is there already.
func (v server) start(s *story) *corev1.Pod {
	s.Helper()
	s.makeServiceAccounts(v.name)
	if len(v.rights) > 0 {
		s.grant(rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: s.namespace, Name: v.name}, v.rights...)
	}
	s.make(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v.name}, Data: v.files})
	pod := v.pod(s)
	s.make(pod)
	s.podReady(pod)
	return pod
}

func (v server) pod(s *story) *corev1.Pod {
	container := demo(v.name, 65532, v.args...)
	container.Image, container.Env = "certwright/e2e-"+v.name+":dev", v.env
	container.VolumeMounts = []corev1.VolumeMount{{Name: "config", MountPath: "/config", ReadOnly: true}, {Name: "data", MountPath: "/data"}}
	container.ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: v.ports[0].TargetPort}}}
	pod := s.newPod(v.name, metav1.ObjectMeta{Labels: map[string]string{"app": v.name}}, v.name, container)
	pod.Spec.Volumes = []corev1.Volume{
		{Name: "config", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: v.name}}},
		{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
	}
	pod.Spec.TerminationGracePeriodSeconds = ptr.To[int64](1)
	return pod
}

// host is the name of a Service of the story, as the cluster's DNS knows it.
func (s *story) host(service string) string {
	return service + "." + s.namespace + ".svc.cluster.local"
}

// servedBy returns a certificate of this CA for a Service of the story, as files of a server.
func (s *story) servedBy(ca pair, service string) map[string][]byte {
	s.Helper()
	issuer, err := tls.X509KeyPair(ca.crt, ca.key)
	s.must(err, "reading a CA")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.must(err, "making a key")
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{s.host(service)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, issuer.Leaf, key.Public(), issuer.PrivateKey)
	s.must(err, "making a certificate for %s", service)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	s.must(err, "encoding a key")
	return map[string][]byte{
		"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
	}
}

// call sends a request to a Service of the story by way of the API server, and returns the body of the answer.
func (s *story) call(ctx context.Context, method, service, path string, header map[string]string, body []byte) ([]byte, error) {
	request := kube.CoreV1().RESTClient().Verb(method).Namespace(s.namespace).Resource("services").Name("https:" + service).SubResource("proxy").Suffix(path)
	for name, value := range header {
		request.SetHeader(name, value)
	}
	if body != nil {
		request.SetHeader("Content-Type", "application/json").Body(bytes.NewReader(body))
	}
	return request.DoRaw(ctx)
}

// signersAtAGlance logs what a person sees of the story's Signer.
func (s *story) signersAtAGlance() string {
	s.Helper()
	seen := s.run("", "kubectl", "get", "signers", s.name)
	if seen.code != 0 {
		s.Errorf("kubectl get signers: %s", seen.err)
	}
	s.Logf("kubectl get signers %s\n%s", s.name, seen.out)
	return seen.out
}
