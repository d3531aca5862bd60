// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"

	"github.com/certwright/certwright/agent/agenttest"
)

// next waits for the next event that counts.
func next(t *testing.T, watcher *fsnotify.Watcher, counts func(fsnotify.Event) bool) fsnotify.Event {
	t.Helper()
	timeout := time.NewTimer(10 * time.Second)
	defer timeout.Stop()
	for {
		select {
		case event := <-watcher.Events:
			if counts(event) {
				return event
			}
		case err := <-watcher.Errors:
			t.Fatal(err)
		case <-timeout.C:
			t.Fatal("no event")
		}
	}
}

// Programs that know the kubelet's volumes watch the directory and read again when
// ..data is replaced.
func TestWatchersOfTheDirectory(t *testing.T) {
	store := New(t.TempDir())
	watcher := agenttest.Must(fsnotify.NewWatcher())(t)
	defer watcher.Close()
	if err := watcher.Add(store.dir); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if err := store.Write(files(i), time.Now()); err != nil {
			t.Fatal(err)
		}
		next(t, watcher, func(e fsnotify.Event) bool { return filepath.Base(e.Name) == dataLink && e.Has(fsnotify.Create) })
		for name, want := range files(i) {
			if name[0] == '.' {
				continue
			}
			if got := agenttest.Must(os.ReadFile(store.path(name)))(t); string(got) != string(want) {
				t.Errorf("after the event, %s holds %q, want %q", name, got, want)
			}
		}
	}
}

// Programs that watch a file see it removed, as it is in the kubelet's volumes, and
// find the next one under its name: they watch that and miss nothing.
func TestWatchersOfAFile(t *testing.T) {
	store := New(t.TempDir())
	if err := store.Write(files(0), time.Now()); err != nil {
		t.Fatal(err)
	}
	watcher := agenttest.Must(fsnotify.NewWatcher())(t)
	defer watcher.Close()
	if err := watcher.Add(store.path("tls.crt")); err != nil {
		t.Fatal(err)
	}
	for i := 1; i < 5; i++ {
		if err := store.Write(files(i), time.Now()); err != nil {
			t.Fatal(err)
		}
		next(t, watcher, func(e fsnotify.Event) bool { return e.Has(fsnotify.Remove) })
		if err := watcher.Add(store.path("tls.crt")); err != nil {
			t.Fatal(err)
		}
		if got := agenttest.Must(os.ReadFile(store.path("tls.crt")))(t); string(got) != string(files(i)["tls.crt"]) {
			t.Errorf("after the event, tls.crt holds %q", got)
		}
	}
}

// certwatcher is how controllers, and many servers in Go, follow a certificate.
func TestCertwatcher(t *testing.T) {
	store := New(t.TempDir())
	write := func(serial int64) {
		t.Helper()
		key := agenttest.Must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
		template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
		cert := agenttest.Must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))(t)
		if err := store.Write(map[string][]byte{
			"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
			"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: agenttest.Must(x509.MarshalPKCS8PrivateKey(key))(t)}),
		}, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	write(1)
	watcher := agenttest.Must(certwatcher.New(store.path("tls.crt"), store.path("tls.key")))(t)
	seen := make(chan int64, 64)
	watcher.WithWatchInterval(time.Hour).RegisterCallback(func(cert tls.Certificate) {
		seen <- agenttest.Must(x509.ParseCertificate(cert.Certificate[0]))(t).SerialNumber.Int64()
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- watcher.Start(ctx) }()
	// Nothing tells when it has begun to watch, so the first change is made until it was seen.
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	serial, watching := int64(1), false
	for timeout := time.After(20 * time.Second); !watching; {
		select {
		case got := <-seen:
			watching = got == serial && serial > 1
		case <-again.C:
			serial++
			write(serial)
		case <-timeout:
			t.Fatal("no change was seen")
		}
	}
	for range 5 {
		serial++
		write(serial)
		for got, timeout := int64(0), time.After(10*time.Second); got != serial; {
			select {
			case got = <-seen:
			case <-timeout:
				t.Fatalf("certificate %d was not seen", serial)
			}
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
