// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Sample-dns-webhook is a DNS webhook for Certwright: it serves the contract of docs/dns-webhook.md with the standard library
// only, and hands records to nsupdate (Debian: bind9-dnsutils). nsupdate can do what Certwright's own rfc2136 cannot: with
// --nsupdate="nsupdate -g" it signs updates by Kerberos (GSS-TSIG), as Active Directory wants.
//
// Copy it and put your own DNS in the place of update.
package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

const version = "v1"

// request is what Certwright sends.
type request struct {
	Version string            `json:"version"`
	Zone    string            `json:"zone"`
	Name    string            `json:"fqdn"`
	Value   string            `json:"value"`
	Config  map[string]string `json:"config"`
}

// answer is what it gets.
type answer struct {
	Version string `json:"version"`
	Error   string `json:"error,omitempty"`
}

// misconfigured is an error that stays until a person does something.
type misconfigured struct{ error }

// updater hands records to nsupdate.
type updater struct {
	command []string // nsupdate and its arguments
	server  string   // as HOST PORT; if empty, nsupdate finds it
	token   string
}

func main() {
	listen := flag.String("listen", ":8443", "the address to serve at")
	certificate := flag.String("certificate", "/tls/tls.crt", "the certificate to serve with")
	key := flag.String("key", "/tls/tls.key", "its key")
	tokenFile := flag.String("token-file", "/token/token", "the file with the bearer token that callers must have")
	command := flag.String("nsupdate", "nsupdate", "the program that sends updates, with its arguments")
	server := flag.String("server", "", "the server that takes updates, as \"HOST PORT\"; if empty, the primary of each zone")
	flag.Parse()
	token, err := os.ReadFile(*tokenFile)
	if err != nil {
		log.Fatal(err)
	}
	w := &updater{command: strings.Fields(*command), server: *server, token: strings.TrimSpace(string(token))}
	if w.token == "" || len(w.command) == 0 {
		log.Fatal("the file of --token-file and --nsupdate must not be empty")
	}
	s := &http.Server{Addr: *listen, Handler: w.handler(), ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute}
	log.Fatal(s.ListenAndServeTLS(*certificate, *key))
}

func (w *updater) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /present", w.serve(func(ctx context.Context, r request) error {
		return w.update(ctx, r, fmt.Sprintf("add %s 60 TXT %s", r.Name, r.Value))
	}))
	mux.HandleFunc("POST /cleanup", w.serve(func(ctx context.Context, r request) error {
		return w.update(ctx, r, fmt.Sprintf("delete %s TXT %s", r.Name, r.Value))
	}))
	mux.HandleFunc("POST /check", w.serve(nil))
	return mux
}

// serve guards what do does: who calls, in which version, and with a record that holds no more than it should. That is what
// keeps commands out of nsupdate's input.
func (w *updater) serve(do func(context.Context, request) error) http.HandlerFunc {
	return func(out http.ResponseWriter, in *http.Request) {
		got, want := sha256.Sum256([]byte(in.Header.Get("Authorization"))), sha256.Sum256([]byte("Bearer "+w.token))
		if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			reply(out, http.StatusUnauthorized, errors.New("the bearer token is missing or wrong"))
			return
		}
		var r request
		if err := json.NewDecoder(http.MaxBytesReader(out, in.Body, 64<<10)).Decode(&r); err != nil {
			reply(out, http.StatusBadRequest, err)
			return
		}
		if err := validate(r, do != nil); err != nil {
			reply(out, http.StatusBadRequest, err)
			return
		}
		if do == nil {
			reply(out, http.StatusOK, nil)
			return
		}
		err := do(in.Context(), r)
		switch {
		case err == nil:
			reply(out, http.StatusOK, nil)
		case errors.As(err, &misconfigured{}):
			reply(out, http.StatusUnprocessableEntity, err)
		default:
			reply(out, http.StatusServiceUnavailable, err)
		}
	}
}

var (
	name  = regexp.MustCompile(`^([a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?\.)+$`)
	value = regexp.MustCompile(`^[-_A-Za-z0-9]{43}$`)
)

func validate(r request, record bool) error {
	switch {
	case r.Version != version:
		return fmt.Errorf("version %q is not spoken here, only %q", r.Version, version)
	case record && (!name.MatchString(r.Zone) || !name.MatchString(r.Name) || !strings.HasSuffix("."+r.Name, "."+r.Zone)):
		return errors.New("zone and fqdn must be DNS names with a dot at the end, the second one in the first")
	case record && !value.MatchString(r.Value):
		return errors.New("value must be a digest in base64url")
	}
	return nil
}

// update has nsupdate send one update. Adding what is there and deleting what is not is no error in DNS.
func (w *updater) update(ctx context.Context, r request, change string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	script := fmt.Sprintf("zone %s\n%s\nsend\n", r.Zone, change)
	if w.server != "" {
		script = "server " + w.server + "\n" + script
	}
	nsupdate := exec.CommandContext(ctx, w.command[0], w.command[1:]...)
	nsupdate.Stdin = strings.NewReader(script)
	output, err := nsupdate.CombinedOutput()
	if err == nil {
		return nil
	}
	err = fmt.Errorf("nsupdate: %w: %s", err, strings.TrimSpace(string(output)))
	for _, refusal := range []string{"REFUSED", "NOTAUTH", "NOTZONE", "BADKEY", "BADSIG", "BADTIME"} {
		if strings.Contains(string(output), refusal) {
			return misconfigured{err}
		}
	}
	return err
}

func reply(out http.ResponseWriter, status int, err error) {
	a := answer{Version: version}
	if err != nil {
		a.Error = err.Error()
	}
	out.Header().Set("Content-Type", "application/json")
	out.WriteHeader(status)
	_ = json.NewEncoder(out).Encode(a) // who asked may be gone
}
