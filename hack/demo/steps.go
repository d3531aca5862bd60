// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const (
	namespace = "certwright-demo"
	manifests = "hack/demo/manifests/"
)

func (d *demo) install(ctx context.Context) error {
	d.heading("Install Certwright")
	start := time.Now()
	version, err := field(ctx, "{.items[0].status.nodeInfo.kubeletVersion}", "nodes")
	if err != nil {
		return err
	}
	d.serverVersion = version
	d.tell("The cluster runs Kubernetes %s. One file brings three small components: approver, signer and webhook.", version)
	// What an earlier run left is taken away first, so that every run shows the whole story.
	if _, err := kubectl(ctx, "delete", "namespace", namespace, "--ignore-not-found", "--timeout=60s"); err != nil {
		return err
	}
	before, _ := kubectl(ctx, "-n", "certwright-system", "get", "deployments", "-o", "name", "--ignore-not-found")
	if _, err := d.show(ctx, "apply", "--server-side", "-f", "manifests/install.yaml"); err != nil {
		return err
	}
	if before != "" {
		// The images may be newer than the pods: their tag is the same.
		if _, err := kubectl(ctx, "-n", "certwright-system", "rollout", "restart", "deployment"); err != nil {
			return err
		}
	}
	for _, component := range []string{"approver", "signer", "webhook"} {
		if _, err := kubectl(ctx, "-n", "certwright-system", "rollout", "status", "deploy/certwright-"+component, "--timeout=120s"); err != nil {
			return err
		}
	}
	d.installed = time.Since(start)
	d.good(d.installed, "Approver, signer and webhook are ready, two replicas each.")
	return nil
}

func (d *demo) signer(ctx context.Context) error {
	d.heading("Say who signs, and who may ask for what")
	d.tell("A Signer with a CA of its own, certificates of 60 s so that renewals can be watched, and two policies.")
	start := time.Now()
	if _, err := d.show(ctx, "apply", "-f", manifests+"signer.yaml"); err != nil {
		return err
	}
	if _, err := kubectl(ctx, "wait", "--for=condition=Ready", "signers.certwright.dev/demo", "certificatepolicies/demo-workloads", "certificatepolicies/demo-payments", "--timeout=60s"); err != nil {
		return err
	}
	d.good(time.Since(start), "The CA is made, its trust bundle is published.")
	out, err := d.show(ctx, "get", "signers.certwright.dev", "demo")
	if err != nil {
		return err
	}
	d.quote(out)
	out, err = d.show(ctx, "get", "certificatepolicies", "demo-workloads", "demo-payments")
	d.quote(out)
	return err
}

func (d *demo) mutualTLS(ctx context.Context) error {
	d.heading("A server and a client, with one annotation each, talk mutual TLS")
	d.tell("certwright.dev/auto-tls: certwright.dev/demo  is all that their manifests say about TLS.")
	start := time.Now()
	if _, err := d.show(ctx, "apply", "-f", manifests+"server-client.yaml"); err != nil {
		return err
	}
	err := until(ctx, "the first mutual TLS connection", 2*time.Minute, func() (bool, error) {
		t, err := readTally(ctx)
		d.before = t
		return t.Made > 0, err
	})
	if err != nil {
		return err
	}
	d.ready = time.Since(start)
	d.good(d.ready, "The first connection stands; both sides verified the other's chain and name.")
	d.tell("The client saw the server  %s", describe(d.before.Server))
	d.tell("The server saw the client  %s", describe(d.before.Client))
	return nil
}

// describe lays a certificate out in lines that stand below each other.
func describe(s seen) string {
	lines := append([]string{s.SPIFFEID}, s.DNSNames...)
	lines = append(lines, fmt.Sprintf("serial %s, lifetime %s, until %s", s.Serial, s.Lifetime, s.NotAfter), fmt.Sprintf("issued by %s, whose key is %.8s", s.Issuer, s.By))
	return strings.Join(lines, "\n"+strings.Repeat(" ", 30))
}

func (d *demo) refusal(ctx context.Context) error {
	d.heading("A pod asks for a name that is not its own")
	d.tell("The intruder's annotation asks for server.certwright-demo.svc, but no Service selects its pod.")
	start := time.Now()
	if _, err := d.show(ctx, "apply", "-f", manifests+"intruder.yaml"); err != nil {
		return err
	}
	var name string
	err := until(ctx, "the intruder's request to be denied", time.Minute, func() (bool, error) {
		found, condition, err := csrOf(ctx, "intruder", start)
		name = found
		return condition == "Denied", err
	})
	if err != nil {
		return err
	}
	d.good(time.Since(start), "Denied, and the pod does not start.")
	d.denial = `dnsNames: "server.certwright-demo.svc" not allowed`
	var out string
	err = until(ctx, "the event of the denial", 10*time.Second, func() (bool, error) {
		out, err = kubectl(ctx, "describe", "csr", name)
		return strings.Contains(out, "PolicyDenies") && strings.Contains(out, d.denial), err
	})
	if err != nil {
		return err
	}
	d.command("kubectl describe csr " + name)
	_, events, _ := strings.Cut(out, "Events:")
	d.quote("Events:" + events)
	_, err = kubectl(ctx, "-n", namespace, "delete", "pod", "intruder", "--wait=false")
	return err
}

func (d *demo) approval(ctx context.Context) error {
	d.heading("A pod whose certificate needs a person")
	d.tell("The policy of payments says approval: Manual. Its pod waits.")
	start := time.Now()
	if _, err := d.show(ctx, "apply", "-f", manifests+"payments.yaml"); err != nil {
		return err
	}
	var name, message string
	err := until(ctx, "the request of payments and the event about it", time.Minute, func() (bool, error) {
		var err error
		if name, _, err = csrOf(ctx, "payments", start); err != nil || name == "" {
			return false, err
		}
		message, err = kubectl(ctx, "get", "events", "--field-selector", "involvedObject.name="+name, "-o", "jsonpath={.items[*].message}")
		return message != "", err
	})
	if err != nil {
		return err
	}
	d.good(time.Since(start), "The request waits, and says for what:")
	d.quote(message)
	out, err := d.show(ctx, "-n", namespace, "get", "pod", "payments")
	if err != nil {
		return err
	}
	d.quote(out)
	approved := time.Now()
	if _, err := d.show(ctx, "certificate", "approve", name); err != nil {
		return err
	}
	if _, err := kubectl(ctx, "-n", namespace, "wait", "--for=condition=Ready", "pod/payments", "--timeout=60s"); err != nil {
		return err
	}
	d.approvedIn = time.Since(approved)
	d.restarts, err = field(ctx, "{.status.containerStatuses[0].restartCount}", "-n", namespace, "pod/payments")
	if err != nil {
		return err
	}
	d.good(d.approvedIn, "Approved, and the pod runs, with %s restarts.", d.restarts)
	return nil
}

// ofBackend reads a field of the status of the demo's only backend.
func ofBackend(ctx context.Context, path string) (string, error) {
	return field(ctx, "{.status.backends[0]."+path+"}", "signers.certwright.dev/demo")
}

func (d *demo) rotation(ctx context.Context) error {
	d.heading("The root of the CA is replaced while client and server keep talking")
	d.tell("First both roots are published while the old one signs. When every pod had time to learn of the new one, that signs.")
	d.tell("When the last certificate below the old root has expired, that is dropped. The client goes on to connect every 200 ms.")
	start := time.Now()
	var err error
	if d.oldRoot, err = ofBackend(ctx, "root"); err != nil {
		return err
	}
	if _, err := d.certwright(ctx, "ca", "rotate", "demo", "--yes"); err != nil {
		return err
	}
	err = until(ctx, "the new root to be published", 30*time.Second, func() (bool, error) {
		phase, err := ofBackend(ctx, "rotation.phase")
		return phase == "Publishing", err
	})
	if err != nil {
		return err
	}
	if d.newRoot, err = ofBackend(ctx, "rotation.newRoot"); err != nil {
		return err
	}
	out, err := d.certwright(ctx, "ca", "status", "demo")
	if err != nil {
		return err
	}
	d.quote(out)
	d.good(time.Since(start), "Root %.8s is published beside %.8s. While pods learn of it, on to something else.", d.newRoot, d.oldRoot)
	return nil
}

func (d *demo) renewal(ctx context.Context) error {
	d.heading("Certificates are renewed, below the new root")
	d.tell("Each pod makes a new key and asks again at two thirds of its certificate's life. What it gets leads to the new root, and")
	d.tell("to the old one too, by a certificate that the old root signed for the new one: nobody is left out, whoever knows which.")
	start := time.Now()
	printed := -1
	err := until(ctx, "both servers and the client to renew below the new root", 3*time.Minute, func() (bool, error) {
		t, err := readTally(ctx)
		if err != nil {
			return false, err
		}
		if d.last = t; t.Certificates+t.Servers != printed {
			printed = t.Certificates + t.Servers
			d.tell("%4d connections made, %d failed: the client is at its certificate no. %d, signed by %.8s, and met %d of the servers', the last by %.8s",
				t.Made, t.Failed, t.Certificates, t.Client.By, t.Servers, t.Server.By)
		}
		return t.Certificates >= 2 && t.Servers >= 4 && t.Client.By != d.before.Client.By && t.Server.By != d.before.Server.By, nil
	})
	if err != nil {
		return err
	}
	if d.last.Failed > 0 {
		return fmt.Errorf("%d of %d connections failed, the last one with: %s", d.last.Failed, d.last.Made+d.last.Failed, d.last.LastFailure)
	}
	d.good(time.Since(start), "All renewed; %d connections made, 0 failed.", d.last.Made)
	phase, err := ofBackend(ctx, "rotation.phase")
	if err != nil {
		return err
	}
	dropped, err := ofBackend(ctx, "rotation.until")
	if err != nil {
		return err
	}
	d.good(0, "The replacement of the root is at %s; the old root is dropped at %s, when nothing needs it any more.", phase, dropped)
	return nil
}
