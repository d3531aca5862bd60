// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const exampleApps = "../manifests/examples/apps/"

// exampleApp applies an example as it stands, but for the image, which the cluster has, and the disk, which it may not have, and
// returns its pod.
func (s *story) exampleApp(name string, images ...string) *corev1.Pod {
	s.Helper()
	objects, err := manifest(exampleApps + name + ".yaml")
	s.must(err, "reading the example")
	for _, o := range objects {
		o.SetNamespace(s.namespace)
		if template, found, _ := unstructured.NestedMap(o.Object, "spec", "template"); found {
			change := func(value any, fields ...string) {
				s.must(unstructured.SetNestedField(template, value, fields...), "changing the example")
			}
			change(s.signerName, "metadata", "annotations", autoTLS)
			containers, _, _ := unstructured.NestedSlice(template, "spec", "containers")
			containers[0].(data)["image"] = fill(containers[0].(data)["image"].(string), images...)
			change(containers, "spec", "containers")
			if _, disks, _ := unstructured.NestedSlice(o.Object, "spec", "volumeClaimTemplates"); disks {
				unstructured.RemoveNestedField(o.Object, "spec", "volumeClaimTemplates")
				volumes, _, _ := unstructured.NestedSlice(template, "spec", "volumes")
				change(append(volumes, data{"name": "data", "emptyDir": data{}}), "spec", "volumes")
			}
			s.must(unstructured.SetNestedMap(o.Object, template, "spec", "template"), "changing the example")
		}
		s.make(o)
	}
	pod := s.pods(name, 1)[0]
	s.podReady(&pod)
	return &pod
}

// forward has kubectl forward a port of this machine to a port of the pod until the story ends, and returns its address.
func (s *story) forward(pod *corev1.Pod, port int) string {
	s.Helper()
	cmd := exec.CommandContext(s.ctx, "kubectl", "port-forward", "-n", pod.Namespace, "pod/"+pod.Name, fmt.Sprintf(":%d", port))
	out, err := cmd.StdoutPipe()
	s.must(err, "forwarding a port")
	s.must(cmd.Start(), "forwarding a port")
	s.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	s.must(err, "reading which port is forwarded")
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	address, _, found := strings.Cut(strings.TrimPrefix(first, "Forwarding from "), " ")
	if !found {
		s.Fatalf("kubectl port-forward says %q", first)
	}
	return address
}

// callApp makes a connection to a server that the story's Signer vouches for, and returns the serial number of its certificate.
func (s *story) callApp(ctx context.Context, address, name string, roots *x509.CertPool, begin func(net.Conn) error) (*tls.Conn, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, "", err
	}
	connection := tls.Client(raw, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: name + "." + s.namespace + ".svc"})
	err = begin(raw)
	if err == nil {
		err = connection.HandshakeContext(ctx)
	}
	if err != nil {
		_ = raw.Close()
		return nil, "", err
	}
	return connection, connection.ConnectionState().PeerCertificates[0].SerialNumber.Text(16), nil
}

// roots returns the trust bundle of a Signer as clients use it.
func (s *story) roots(b bundle) *x509.CertPool {
	s.Helper()
	text, err := b.text(s.ctx)
	s.must(err, "reading the trust bundle")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(text))
	return roots
}

// nginx of Debian, as the example has it, serves its new certificate after a renewal, and answers on a connection that stood before.
func TestNginxServesTheNewCertificateAndDropsNobody(t *testing.T) {
	t.Parallel()
	s := tell(t)
	o := s.signer()
	s.policy()
	pod := s.exampleApp("nginx", "nginxinc/nginx-unprivileged:1.29", "certwright/e2e-nginx:dev")
	address, roots := s.forward(pod, 8443), s.roots(s.trustBundle(o))
	call := func(ctx context.Context) (*tls.Conn, string, error) {
		return s.callApp(ctx, address, "nginx", roots, func(net.Conn) error { return nil })
	}
	established, first, err := call(s.ctx)
	s.must(err, "connecting to nginx")

	s.askAsAdministrator(0, "renew", "pod", pod.Name, "-n", s.namespace)
	s.until("nginx to serve another certificate", starting, func(ctx context.Context) error {
		connection, serial, err := call(ctx)
		if err != nil {
			return err
		}
		if serial != first {
			return connection.Close()
		}
		// The last one that stands when the certificate changes: nginx waits for a request no longer than a minute.
		_ = established.Close()
		established = connection
		return fmt.Errorf("it serves certificate %s", serial)
	})
	defer established.Close()
	_, err = io.WriteString(established, "GET / HTTP/1.1\r\nHost: nginx\r\nConnection: close\r\n\r\n")
	s.must(err, "asking on the connection that stood before")
	response, err := http.ReadResponse(bufio.NewReader(established), nil)
	s.must(err, "reading the answer on the connection that stood before")
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK || string(body) != "nginx\n" {
		s.Errorf("the connection that stood before got %s, %q, %v", response.Status, body, err)
	}
}

// PostgreSQL of Debian, as the example has it, serves its new certificate after a renewal, and a session that stood before goes on.
func TestPostgreSQLServesTheNewCertificateAndDropsNobody(t *testing.T) {
	t.Parallel()
	s := tell(t)
	o := s.signer()
	s.policy()
	pod := s.exampleApp("postgres", "postgres:17", "certwright/e2e-postgres:dev")
	address, roots := s.forward(pod, 5432), s.roots(s.trustBundle(o))
	serial := func(ctx context.Context) (string, error) {
		connection, serial, err := s.callApp(ctx, address, "postgres", roots, askForTLS)
		if err != nil {
			return "", err
		}
		return serial, connection.Close()
	}
	first, err := serial(s.ctx)
	s.must(err, "connecting to PostgreSQL")
	ask := s.psql(pod)
	before := ask()

	s.askAsAdministrator(0, "renew", "pod", pod.Name, "-n", s.namespace)
	s.until("PostgreSQL to serve another certificate", starting, func(ctx context.Context) error {
		now, err := serial(ctx)
		if err == nil && now == first {
			err = fmt.Errorf("it serves certificate %s", now)
		}
		return err
	})
	if after := ask(); after != before || !strings.HasSuffix(before, "|t") {
		s.Errorf("the session was %q and is %q, want the same process and TLS", before, after)
	}
}

// askForTLS begins a connection to PostgreSQL with the request for TLS (PostgreSQL's frontend/backend protocol, SSLRequest).
func askForTLS(connection net.Conn) error {
	if _, err := connection.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(connection, answer[:]); err != nil {
		return err
	}
	if answer[0] != 'S' {
		return errors.New("the server speaks no TLS")
	}
	return nil
}

// psql begins a session with PostgreSQL over TLS, in its pod. The function that it returns asks, in that session, which process of the
// server it has, and whether over TLS.
func (s *story) psql(pod *corev1.Pod) (ask func() string) {
	s.Helper()
	host := "postgres." + s.namespace + ".svc"
	cmd := exec.CommandContext(s.ctx, "kubectl", "exec", "-i", "-n", pod.Namespace, pod.Name, "-c", "postgres", "--", "psql", "-qAt",
		"host="+host+" user=postgres password=example dbname=postgres sslmode=verify-full sslrootcert="+tlsDirectory+"ca.crt")
	in, err := cmd.StdinPipe()
	s.must(err, "starting psql")
	out, err := cmd.StdoutPipe()
	s.must(err, "starting psql")
	var problems strings.Builder
	cmd.Stderr = &problems
	s.must(cmd.Start(), "starting psql")
	s.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	lines := bufio.NewReader(out)
	return func() string {
		s.Helper()
		_, err := io.WriteString(in, "select pid, ssl from pg_stat_ssl where pid = pg_backend_pid();\n")
		s.must(err, "asking PostgreSQL")
		line, err := lines.ReadString('\n')
		s.must(err, "reading the answer of PostgreSQL: %s", problems.String())
		return strings.TrimSpace(line)
	}
}
