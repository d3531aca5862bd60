// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

const (
	pinSecret = "e2e-hsm-pin"
	hsmKey    = "pkcs11:token=certwright;object=ca?module-path=/usr/lib/softhsm/libsofthsm2.so"
)

// The signer of certwright-kms signs with a key in an HSM, and a program beside it signs for another Signer. Both change the
// signer's Deployment, so no other test runs meanwhile.
func TestProgramsBesideTheSigner(t *testing.T) {
	s := tell(t)
	s.make(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: pinSecret}, StringData: map[string]string{"pin": "2718"}})
	built := s.run("", "kubectl", "kustomize", "testdata/beside")
	if built.code != 0 {
		s.Fatalf("kubectl kustomize: %s", built.err)
	}
	beside, err := decodeManifest(strings.NewReader(built.out))
	s.must(err, "reading what kubectl kustomize built")
	installed, err := manifest(installManifest)
	s.must(err, "reading %s", installManifest)
	s.Cleanup(func() { s.must(s.becomeAs(installed), "installing %s again", installManifest) })
	s.must(s.becomeAs(beside), "installing what is beside the signer")
	t.Run("ACAKeyInAnHSM", caKeyInAnHSM)
	t.Run("ASignerOfOnesOwn", signerOfOnesOwn)
}

// becomeAs has the components become as these manifests say. The webhook's image is another one then, and its old replicas
// serve for some seconds after they were told to end.
func (s *story) becomeAs(objects []*unstructured.Unstructured) error {
	old := s.componentPods(webhook)
	for _, o := range objects {
		if o.GetKind() != "Deployment" {
			continue
		}
		if err := admin.Apply(s.ctx, client.ApplyConfigurationFromUnstructured(o.DeepCopy()), client.FieldOwner("kubectl"), client.ForceOwnership); err != nil {
			return err
		}
	}
	for _, name := range components {
		if err := rolledOut(s.ctx, name); err != nil {
			return err
		}
	}
	s.replaced(webhook, old)
	return admits(s.ctx)
}

func caKeyInAnHSM(t *testing.T) {
	s := tell(t)
	chain, err := logs(s.ctx, systemNamespace, s.componentPods(signer)[0].Name, "softhsm-ca")
	s.must(err, "reading the CA certificate from the log of what made it")
	key := &v1alpha1.CAKey{URI: hsmKey, PINRef: &v1alpha1.SecretKeyRef{Name: pinSecret, Key: "pin"}, Chain: chain}
	withKey := func(spec *v1alpha1.SignerSpec) { spec.Backends[0].CA = &v1alpha1.CA{Key: key} }
	o := s.signer(withKey)
	s.policy()
	s.serverAndClient("200ms")
	pod := s.pods("client", 1)[0]
	seen := s.tallyOf(&pod, "the first connection", func(t tally) bool { return t.Made > 0 })
	s.sameNames("the issuers", []string{seen.Server.Issuer, seen.Client.Issuer}, "CA in an HSM", "CA in an HSM")
	s.signersAtAGlance()

	ca, err := leafOf(&certificatesv1.CertificateSigningRequest{Status: certificatesv1.CertificateSigningRequestStatus{Certificate: []byte(chain)}})
	s.must(err, "reading the CA certificate")
	s.keyIsNowhere(ca.PublicKey.(interface{ Equal(crypto.PublicKey) bool }))

	// The PIN is for no eyes but the signer's.
	before := o.DeepCopy()
	o.Spec.Backends[0].CA.Key.URI += "&pin-value=2718"
	s.refusedForField(admin.Patch(s.ctx, o, client.MergeFrom(before), client.DryRunAll), "a PIN in the URI", "key.uri", "pinRef")

	// A module is a program: only those that the signer's image has in their place are loaded.
	other := tell(t)
	key.URI = strings.Replace(hsmKey, "/usr/lib/softhsm", "/run/certwright", 1)
	o = other.signerNotReady(withKey)
	other.until("the Signer to refuse the module", soon, func(ctx context.Context) error {
		if err := admin.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		if text := fmt.Sprint(o.Status.Conditions); !strings.Contains(text, `module-path "/run/certwright/libsofthsm2.so" is not allowed`) {
			return fmt.Errorf("its conditions are %s", text)
		}
		return nil
	})
}

// refusedForField checks that an object was refused when it was applied, for a field of this name.
func (s *story) refusedForField(err error, what string, parts ...string) {
	s.Helper()
	if !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) {
		s.Errorf("%s: got %v, want it refused", what, err)
		return
	}
	s.contains("the refusal of "+what, err.Error(), parts...)
}

// keyIsNowhere looks for the private key of this public one in all Secrets and ConfigMaps of the cluster.
func (s *story) keyIsNowhere(public interface{ Equal(crypto.PublicKey) bool }) {
	s.Helper()
	var secrets corev1.SecretList
	var configs corev1.ConfigMapList
	s.must(admin.List(s.ctx, &secrets), "listing Secrets")
	s.must(admin.List(s.ctx, &configs), "listing ConfigMaps")
	values := map[string][]byte{}
	for _, o := range secrets.Items {
		for key, value := range o.Data {
			values[fmt.Sprintf("Secret %s/%s %s", o.Namespace, o.Name, key)] = value
		}
	}
	for _, o := range configs.Items {
		for key, value := range o.Data {
			values[fmt.Sprintf("ConfigMap %s/%s %s", o.Namespace, o.Name, key)] = []byte(value)
		}
	}
	keys := 0
	for where, value := range values {
		for block, rest := pem.Decode(value); block != nil; block, rest = pem.Decode(rest) {
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				continue
			}
			keys++
			if public.Equal(key.(crypto.Signer).Public()) {
				s.Errorf("%s holds the CA's key", where)
			}
		}
	}
	if keys == 0 {
		s.Error("no key was found at all, not even the webhook's: has its form changed?")
	}
}

func signerOfOnesOwn(t *testing.T) {
	s := tell(t)
	s.signer(func(spec *v1alpha1.SignerSpec) {
		spec.Backends = []v1alpha1.Backend{{Name: "sample", External: &v1alpha1.External{
			Address: "unix:///run/certwright/sample.sock", Config: map[string]string{"domain": "svc"},
		}}}
	})
	s.makeServiceAccounts("app")
	s.service("app", false)
	s.policy(func(p *v1alpha1.CertificatePolicySpec) { p.Allow.DNSNames = append(p.Allow.DNSNames, "*.example.com") })
	pod := s.newPod("app", s.annotated("app", "dns-names", "app."+s.namespace+".svc"), "app", demo("app", 1000, "look", "--follow"))
	s.make(pod)
	s.podReady(pod)
	var l look
	s.until("the view of the pod", soon, func(ctx context.Context) error { return lastLine(ctx, pod, "app", &l) })
	s.contains("the issuer", l.Certificate.Issuer, "Sample signer")
	s.contains("kubectl get signers", s.signersAtAGlance(), "True", "sample")
	refused := s.request(s.podUser(pod), commonName(""), dnsNames("www.example.com"))
	s.becomes(refused, certificatesv1.CertificateFailed, "BackendRefused", "www.example.com")
}
