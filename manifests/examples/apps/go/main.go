// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command go is an example of a server in Go that takes up its new certificates while it runs, with nothing but the standard library. It lets
// in only clients with a certificate of the same signerName.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const directory = "/var/run/secrets/certwright.dev/tls"

func main() {
	log.SetFlags(0)
	files := &files{directory: directory}
	if _, err := files.config(); err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		Addr:              ":8443",
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: files.forClient},
		ReadHeaderTimeout: 10 * time.Second,
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") }),
	}
	log.Fatal(server.ListenAndServeTLS("", ""))
}

// files are the key pair and the trust bundle in a directory.
type files struct {
	directory string

	mu         sync.Mutex
	generation string
	current    *tls.Config
}

// forClient is called for each new connection. Those that are established keep what they have.
func (f *files) forClient(*tls.ClientHelloInfo) (*tls.Config, error) { return f.config() }

// config returns what to serve with. All files are links below ..data, a link that is replaced when they change: reading one link per connection
// is enough to notice, and reading the files by where it leads gives those that belong together. Files that cannot be used leave those before.
func (f *files) config() (*tls.Config, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	generation, err := os.Readlink(filepath.Join(f.directory, "..data"))
	if err == nil && generation != f.generation {
		var fresh *tls.Config
		if fresh, err = load(filepath.Join(f.directory, generation)); err == nil {
			f.generation, f.current = generation, fresh
			log.Printf("serving with the certificate that is valid until %s", fresh.Certificates[0].Leaf.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	if err != nil {
		log.Printf("reading the certificate: %v", err)
	}
	if f.current == nil {
		return nil, errors.New("there is no certificate")
	}
	return f.current, nil
}

func load(directory string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(directory, "tls.crt"), filepath.Join(directory, "tls.key"))
	if err != nil {
		return nil, err
	}
	bundle, err := os.ReadFile(filepath.Join(directory, "ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(bundle) {
		return nil, errors.New("ca.crt holds no certificate")
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
	}, nil
}
