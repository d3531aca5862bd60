// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command demo installs Certwright on the cluster of KUBECONFIG and shows its main job, step by step, with the same
// commands that a person would type.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d := &demo{screen: newScreen(os.Stdout), started: time.Now()}
	err := d.run(ctx)
	switch {
	case ctx.Err() != nil: // whatever it was that this ended
		d.say("")
		d.bad("Interrupted. The next run starts from the beginning, whatever this one left.")
	case err != nil:
		d.failed(err)
	default:
		return
	}
	os.Exit(1)
}

// demo is one run of the demonstration, and what it learned for the summary.
type demo struct {
	screen
	started time.Time

	installed, ready time.Duration
	denial           string
	approvedIn       time.Duration
	before, last     tally
	restarts         string
	oldRoot, newRoot string
	serverVersion    string
}

// run goes through the steps; each one shows something that works, or fails with what a person should look at.
func (d *demo) run(ctx context.Context) error {
	d.title("Certwright: a certificate for every workload, through the APIs that Kubernetes already has")
	for _, step := range []func(context.Context) error{
		d.install, d.signer, d.mutualTLS, d.rotation, d.refusal, d.approval, d.renewal,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	d.summary()
	return nil
}

func (d *demo) failed(err error) {
	d.say("")
	d.bad("The demo stopped: %v", err)
	d.say("Look around with:")
	d.say("  export KUBECONFIG=%s", os.Getenv("KUBECONFIG"))
	d.say("  kubectl get pods,csr -A; kubectl get events -A --sort-by .lastTimestamp | tail -20")
	d.say("  kubectl -n certwright-system logs deploy/certwright-signer   (approver and webhook likewise)")
}

func (d *demo) summary() {
	made, failed := d.last.Made, d.last.Failed
	rows := [][2]string{
		{"Kubernetes", d.serverVersion},
		{"Certwright installed and ready", seconds(d.installed)},
		{"kubectl apply to the first mutual TLS connection", seconds(d.ready)},
		{"Server, as the client saw it", strings.Join(append(d.last.Server.DNSNames[:1:1], d.last.Server.SPIFFEID), ", ")},
		{"Client, as the server saw it", d.last.Client.SPIFFEID},
		{"Asking for another's name", "denied: " + d.denial},
		{"Waiting for a person", fmt.Sprintf("certificate %s after approval, %s restarts", seconds(d.approvedIn), d.restarts)},
		{"Certificates the client used / met", fmt.Sprintf("%d / %d, each with a key of its own", d.last.Certificates, d.last.Servers)},
		{"Root of the CA replaced meanwhile", fmt.Sprintf("%.8s by %.8s, without a word to client or server", d.oldRoot, d.newRoot)},
		{"Connections made / failed", fmt.Sprintf("%d / %d", made, failed)},
	}
	d.box(fmt.Sprintf("Certwright demo: all done in %s", seconds(time.Since(d.started))), rows)
	d.say("Look around:")
	d.say("  export KUBECONFIG=%s", os.Getenv("KUBECONFIG"))
	if os.Getenv("CERTWRIGHT_LOCAL") != "" {
		d.say("  export PATH=%s", pathHint())
	}
	d.say("  kubectl get signers.certwright.dev,certificatepolicies")
	d.say("  bin/kubectl-certwright ca status demo")
	d.say("  kubectl get csr --sort-by .metadata.creationTimestamp")
	d.say("  kubectl -n certwright-demo logs deploy/client -c client --tail 1")
	d.say("")
	if os.Getenv("CERTWRIGHT_LOCAL") != "" {
		d.say("Take it all down:  make demo-down")
	} else {
		d.say("Take it all down:  kubectl delete -f hack/demo/manifests -f manifests/install.yaml --ignore-not-found")
	}
}

func seconds(t time.Duration) string { return fmt.Sprintf("%.1f s", t.Seconds()) }
