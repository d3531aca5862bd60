// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// fleetSize is how many pods of the fleet get all that the Signer's pods get; two more are told apart what to trust.
const fleetSize = 18

// propagation is how long a kubelet may take to bring a new bundle to its pods: the local cluster's looks every quarter of a
// minute, others every minute, and both up to half as much later.
func propagation() time.Duration {
	if onThisMachine() {
		return 40 * time.Second
	}
	return 150 * time.Second
}

// Twenty pods, half of which their agent serves and half the kubelet, call each other all the while, with mutual TLS and a new
// connection each time. Meanwhile everything that can be replaced is: certificates, the intermediate, the root, the components,
// the API server, the kubelet. One pod trusts the new root before all others know it, and one learns of it last. Not one handshake
// fails.
func TestAFleetOfPodsLosesNoHandshake(t *testing.T) {
	s := tell(t)
	o := s.signer(func(spec *v1alpha1.SignerSpec) {
		spec.PodCertificates = &v1alpha1.PodCertificates{}
		spec.Backends[0].CA.TrustPropagation.Duration = propagation()
	})
	s.policy(func(p *v1alpha1.CertificatePolicySpec) { p.Requesters.ServiceAccounts = []string{"kubelet"} })
	s.policy(func(p *v1alpha1.CertificatePolicySpec) {
		p.Requesters.ServiceAccounts, p.Allow.MaxDuration = []string{"agent"}, &metav1.Duration{Duration: 3 * time.Minute}
	})
	b := s.trustBundle(o)
	old := s.publishedAnchors(b)
	text, err := b.text(s.ctx)
	s.must(err, "reading the trust bundle")
	f := s.newFleet(fleetSize, text)
	f.stage("the fleet sets out", func() {})

	f.stage("the webhook restarts", func() {
		t.Run("RestartOfTheWebhookRefusesNoPod", restartOfTheWebhookRefusesNoPod)
	})
	f.stage("another intermediate, half the agents renew, kubelet restarts", func() { f.intermediate(o) })
	var both []string
	f.stage("a new root is published; one pod trusts it at once", func() { both = f.publish(o, b, old) })
	f.stage("approver and signer restart", func() {
		t.Run("RestartsLoseNoRequest", restartsLoseNoRequest)
	})
	f.stage("the API server restarts", func() { s.restartKubernetes("kube-apiserver") })
	f.stage("the new root signs; one pod does not know it yet", func() { f.sign(o, both, old) })
	f.stage("the last pod learns of the new root", func() {
		text, err := b.text(s.ctx)
		s.must(err, "reading the trust bundle")
		f.tell("late", text)
		f.trusts("late", both)
	})
	f.stage("the old root is dropped", func() { f.drop(o, b, both, old) })
}

// intermediate has the intermediate replaced, and some agents and the kubelet renew, so that both are met.
func (f *fleet) intermediate(o *v1alpha1.Signer) {
	f.Helper()
	f.refresh(o)
	before := o.Status.Backends[0]
	f.askAsAdministrator(0, "ca", "rotate", o.Name, "--intermediate", "--yes")
	f.until("another intermediate to sign", soon, func(ctx context.Context) error {
		if err := admin.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		if now := o.Status.Backends[0]; now.Issuer == before.Issuer || now.Root != before.Root {
			return fmt.Errorf("it is %s of root %s", now.Issuer, now.Root)
		}
		return nil
	})
	had := f.serials("agent-0")
	for name := range had {
		f.askAsAdministrator(0, "renew", "pod", name, "-n", f.namespace)
	}
	kubelets := f.serials("kubelet")
	if f.restartKubernetes("kubelet") { // it forgets all certificates, and asks anew for each
		maps.Copy(had, kubelets)
	}
	f.renewed(had)
}

// publish has the root replaced and waits until all who are given the bundle have both roots. The pod that is early has them at once.
func (f *fleet) publish(o *v1alpha1.Signer, b bundle, old []string) (both []string) {
	f.Helper()
	f.askAsAdministrator(0, "ca", "rotate", o.Name, "--yes")
	f.until("the bundle to hold both roots", soon, func(ctx context.Context) (err error) {
		if both, err = b.anchors(ctx); err == nil && (len(both) != 2 || !slices.Contains(both, old[0])) {
			err = fmt.Errorf("it holds %q", both)
		}
		return err
	})
	published := time.Now()
	text, err := b.text(f.ctx)
	f.must(err, "reading the trust bundle")
	f.tell("early", text)
	r := f.rotationIs(o, v1alpha1.RotationPublishing, soon)
	f.published = r.Since.Time
	if r.OldRoot != old[0] || !slices.Contains(both, r.NewRoot) {
		f.Errorf("the Signer says that root %s replaces %s; the bundle had %q and has %q", r.NewRoot, r.OldRoot, old, both)
	}
	f.everyone("everyone but one to trust both roots", propagation(), func(name string, s sighting) error {
		if name != "late" && !sameAnchors(s.Anchors, both) {
			return fmt.Errorf("it trusts %q", s.Anchors)
		}
		return nil
	})
	f.figure("the bundle reached all pods %.0f s after it was published; the new root signs %s after that", time.Since(published).Seconds(), propagation())
	return both
}

// sign waits until the new root signs, not before everybody had the time that was promised, and has all certificates issued anew
// while one pod trusts the old root only.
func (f *fleet) sign(o *v1alpha1.Signer, both, old []string) {
	f.Helper()
	signing := f.rotationIs(o, v1alpha1.RotationSigning, propagation()+soon)
	if waited := signing.Since.Sub(f.published); waited < propagation() {
		f.Errorf("the new root signs after %s, want %s at least", waited, propagation())
	}
	f.meet() // what the old root signed and what the new one signs, side by side
	had := f.serials("")
	f.askAsAdministrator(2, "renew", "--signer", f.signerName, "-n", f.namespace, "--yes")
	if !f.restartKubernetes("kubelet") {
		had = f.serials("agent")
	}
	f.renewed(had)
	f.trusts("late", old)
	f.trusts("early", both)
}

// drop lets the time pass that a certificate of the old root may live, as all have been issued anew, and waits until everybody trusts
// the new root alone. What kubelets get lives for an hour at least; so the Signer's own record is told that the hour has passed.
func (f *fleet) drop(o *v1alpha1.Signer, b bundle, both, old []string) {
	f.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: "certwright-ca-" + o.Name + "." + o.Spec.Backends[0].Name}}
	const record = "rotation.json"
	f.change(secret, func() {
		var text data
		f.must(json.Unmarshal(secret.Data[record], &text), "reading how far the rotation is")
		text["since"] = time.Now().Add(-2 * time.Hour).UTC().Format(time.RFC3339)
		var err error
		secret.Data[record], err = json.Marshal(text)
		f.must(err, "encoding how far the rotation is")
	})
	f.until("the rotation to end", soon, func(ctx context.Context) error {
		if err := admin.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		if r := o.Status.Backends[0].Rotation; r != nil {
			return fmt.Errorf("it is %+v", r)
		}
		return nil
	})
	want := slices.DeleteFunc(slices.Clone(both), func(anchor string) bool { return anchor == old[0] })
	f.until("the old root to leave the bundle", soon, func(ctx context.Context) error {
		got, err := b.anchors(ctx)
		if err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("it holds %q, want %q", got, want)
		}
		return err
	})
	text, err := b.text(f.ctx)
	f.must(err, "reading the trust bundle")
	f.tell("early", text)
	f.tell("late", text)
	f.everyone("everyone to trust the new root alone", propagation()+soon, func(_ string, s sighting) error {
		if !slices.Equal(s.Anchors, want) {
			return fmt.Errorf("it trusts %q", s.Anchors)
		}
		return nil
	})
}

// trusts waits until a member verifies with these anchors.
func (f *fleet) trusts(member string, want []string) {
	f.Helper()
	f.everyone(member+" to trust what it was told", propagation()+soon, func(name string, s sighting) error {
		if name == member && !sameAnchors(s.Anchors, want) {
			return fmt.Errorf("it trusts %q, want %q", s.Anchors, want)
		}
		return nil
	})
}

func sameAnchors(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// rotationIs waits until the replacement of the root is in this phase.
func (s *story) rotationIs(o *v1alpha1.Signer, phase v1alpha1.RotationPhase, limit time.Duration) v1alpha1.Rotation {
	s.Helper()
	s.until(fmt.Sprintf("the rotation of Signer %s to be %s", o.Name, phase), limit, func(ctx context.Context) error {
		if err := admin.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		if r := o.Status.Backends[0].Rotation; r == nil || r.Phase != phase {
			return fmt.Errorf("it is %+v", r)
		}
		return nil
	})
	return *o.Status.Backends[0].Rotation
}
