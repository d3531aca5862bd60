// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"cmp"
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
	return s.example(name, objects, images...)
}

// example does so with what was read.
func (s *story) example(name string, objects []*unstructured.Unstructured, images ...string) *corev1.Pod {
	s.Helper()
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

// callApp makes a connection to a server that the story's Signer vouches for, with the client's certificates, and returns the serial number
// of the server's.
func (s *story) callApp(ctx context.Context, app *forwarding, name string, roots *x509.CertPool, begin func(net.Conn) error, certificates ...tls.Certificate) (*tls.Conn, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	raw, err := app.dial(ctx)
	if err != nil {
		return nil, "", err
	}
	connection := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: name + "." + s.namespace + ".svc", Certificates: certificates,
	})
	limited := context.AfterFunc(ctx, func() { _ = raw.Close() })
	err = begin(raw)
	if err == nil {
		err = connection.HandshakeContext(ctx)
	}
	limited()
	if err != nil {
		_ = raw.Close()
		app.end()
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
	roots := s.roots(s.trustBundle(o))
	call := func(ctx context.Context, way *forwarding) (connection *tls.Conn, serial string, err error) {
		return s.callApp(ctx, way, "nginx", roots, func(net.Conn) error { return nil })
	}
	// Ways of their own: one ends when a connection through it ends badly.
	stays, others := s.forward(pod, 8443), s.forward(pod, 8443)
	var established *tls.Conn
	var first string
	var since time.Time
	stand := func(ctx context.Context) error {
		connection, serial, err := call(ctx, stays)
		if err != nil {
			return err
		}
		if first = cmp.Or(first, serial); serial != first {
			return connection.Close()
		}
		if established != nil {
			_ = established.Close()
		}
		established, since = connection, time.Now()
		return nil
	}
	s.until("a connection to nginx", soon, stand)

	s.askAsAdministrator(0, "renew", "pod", pod.Name, "-n", s.namespace)
	s.until("nginx to serve another certificate", renewing, func(ctx context.Context) error {
		connection, serial, err := call(ctx, others)
		if err != nil {
			return err
		}
		defer connection.Close()
		if serial != first {
			return nil
		}
		// One that is young enough has to stand when the certificate changes: nginx waits for a request no longer than a minute.
		if time.Since(since) > 20*time.Second {
			err = stand(ctx)
		}
		return errors.Join(fmt.Errorf("it serves certificate %s", serial), err)
	})
	defer established.Close()
	_, err := io.WriteString(established, "GET / HTTP/1.1\r\nHost: nginx\r\nConnection: close\r\n\r\n")
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
	app, roots := s.forward(pod, 5432), s.roots(s.trustBundle(o))
	serial := func(ctx context.Context) (string, error) {
		connection, serial, err := s.callApp(ctx, app, "postgres", roots, askForTLS)
		if err != nil {
			return "", err
		}
		return serial, connection.Close()
	}
	var first, before string
	s.until("a connection to PostgreSQL", soon, func(ctx context.Context) (err error) {
		first, err = serial(ctx)
		return err
	})
	// The way through the Service is there some time after the pod is ready.
	var session *psql
	s.until("a session with PostgreSQL by way of its Service", soon, func(context.Context) (err error) {
		if session, err = s.psql(pod); err == nil {
			before, err = session.process()
		}
		return err
	})

	s.askAsAdministrator(0, "renew", "pod", pod.Name, "-n", s.namespace)
	s.until("PostgreSQL to serve another certificate", renewing, func(ctx context.Context) error {
		now, err := serial(ctx)
		if err == nil && now == first {
			err = fmt.Errorf("it serves certificate %s", now)
		}
		return err
	})
	after, err := session.process()
	s.must(err, "asking PostgreSQL in the session that stood before")
	if after != before || !strings.HasSuffix(before, "|t") {
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

// psql is a session with PostgreSQL over TLS, from its own pod by way of its Service.
type psql struct {
	program  *exec.Cmd
	in       io.WriteCloser
	out      *bufio.Reader
	problems bytes.Buffer // to be read when the program has ended
}

// psql starts the program, which may yet be unable to connect.
func (s *story) psql(pod *corev1.Pod) (*psql, error) {
	host := "postgres." + s.namespace + ".svc"
	p := &psql{program: exec.CommandContext(s.ctx, "kubectl", "exec", "-i", "-n", pod.Namespace, pod.Name, "-c", "postgres", "--", "psql", "-qAt",
		"host="+host+" user=postgres password=example dbname=postgres connect_timeout=10 sslmode=verify-full sslrootcert="+tlsDirectory+"ca.crt")}
	p.program.Stderr = &p.problems
	in, err := p.program.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.program.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.in, p.out = in, bufio.NewReader(out)
	if err := p.program.Start(); err != nil {
		return nil, err
	}
	s.Cleanup(func() { _ = p.end() })
	return p, nil
}

// process asks in this session which process of the server it has, and whether over TLS. A session that does not answer is ended.
func (p *psql) process() (string, error) {
	patience := time.AfterFunc(soon, func() { _ = p.program.Process.Kill() })
	defer patience.Stop()
	_, err := io.WriteString(p.in, "select pid, ssl from pg_stat_ssl where pid = pg_backend_pid();\n")
	if err == nil {
		var line string
		if line, err = p.out.ReadString('\n'); err == nil {
			return strings.TrimSpace(line), nil
		}
	}
	return "", fmt.Errorf("%w: psql ended: %w: %s", err, p.end(), p.problems.String())
}

// end ends the session, and says how the program ended.
func (p *psql) end() error {
	_ = p.in.Close()
	return p.program.Wait()
}
