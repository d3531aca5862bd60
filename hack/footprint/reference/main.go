// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command reference does the main job of certwright-agent with client-go, as agents
// usually do: it keeps a key pair and the trust anchors in a directory fresh. It is
// there to be measured beside it.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/certificate"
	"k8s.io/utils/ptr"
)

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: reference SIGNER-NAME DNS-NAME DIRECTORY TRUST-BUNDLE")
		os.Exit(2)
	}
	fmt.Fprintln(os.Stderr, keep(os.Args[1], os.Args[2], os.Args[3], os.Args[4]))
	os.Exit(1)
}

// keep returns only when it cannot go on.
func keep(signerName, dnsName, directory, bundle string) error {
	config, err := rest.InClusterConfig()
	if err != nil {
		return fmt.Errorf("finding the API server: %w", err)
	}
	if kubeconfig := os.Getenv(clientcmd.RecommendedConfigPathEnvVar); kubeconfig != "" { // as agents offer it
		if config, err = clientcmd.BuildConfigFromFlags("", kubeconfig); err != nil {
			return fmt.Errorf("finding the API server: %w", err)
		}
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("building the client: %w", err)
	}
	store, err := certificate.NewFileStore("tls", directory, directory, "", "")
	if err != nil {
		return fmt.Errorf("opening the directory: %w", err)
	}
	manager, err := certificate.NewManager(&certificate.Config{
		ClientsetFn:                  func(*tls.Certificate) (kubernetes.Interface, error) { return client, nil },
		Template:                     &x509.CertificateRequest{DNSNames: strings.Split(dnsName, ",")},
		RequestedCertificateLifetime: ptr.To(24 * time.Hour),
		SignerName:                   signerName,
		Usages:                       []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth},
		CertificateStore:             store,
	})
	if err != nil {
		return fmt.Errorf("building the certificate manager: %w", err)
	}
	manager.Start()
	return follow(bundle, filepath.Join(directory, "ca.crt"))
}

// follow copies the trust anchors whenever they change, for as long as it can.
func follow(from, to string) error {
	last := ""
	for tick := time.NewTicker(5 * time.Second); ; <-tick.C {
		data, err := os.ReadFile(from)
		if err != nil || string(data) == last {
			continue
		}
		if err := os.WriteFile(to+".new", data, 0o640); err != nil {
			return err
		}
		if err := os.Rename(to+".new", to); err != nil {
			return err
		}
		last = string(data)
	}
}
