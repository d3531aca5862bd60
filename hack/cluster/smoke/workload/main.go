// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command workload is what the pods of the smoke test run.
//
//	workload serve DIR    serve an admission webhook with tls.crt and tls.key of DIR, that labels each object
//	workload wait         say so, and do nothing until told to end
//	workload lookup NAME  print the addresses of a name
//	workload read FILE    print a file
//	workload get URL      print what is at a URL, whoever serves it
//	workload ok           end well
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run does what the arguments say.
func run(arguments []string) error {
	arguments = append(arguments, "", "")
	switch argument := arguments[1]; arguments[0] {
	case "serve":
		return serve(argument)
	case "wait":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		fmt.Println("waiting")
		<-ctx.Done()
		return nil
	case "lookup":
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		addresses, err := net.DefaultResolver.LookupHost(ctx, argument)
		fmt.Println(strings.Join(addresses, " "))
		return err
	case "read":
		contents, err := os.ReadFile(argument)
		fmt.Print(string(contents))
		return err
	case "get":
		return get(argument)
	case "ok":
		return nil
	default:
		return fmt.Errorf("no command %q", arguments[0])
	}
}

// serve answers admission reviews, and tells everyone else who they seem to be.
func serve(dir string) error {
	server := &http.Server{Addr: ":8443", ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(answer)}
	return server.ListenAndServeTLS(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
}

// answer serves one request.
func answer(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintln(w, "hello", host)
		return
	}
	var review struct {
		Request struct{ UID string }
	}
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
		"response": map[string]any{
			"uid": review.Request.UID, "allowed": true, "patchType": "JSONPatch",
			"patch": []byte(`[{"op":"add","path":"/metadata/labels","value":{"seen":"true"}}]`),
		},
	})
}

// get prints what is at a URL. It tests that packets arrive, not who answers.
func get(url string) error {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}
