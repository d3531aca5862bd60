// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

const rootToken = "e2e-root"

type data = map[string]any

// vault is a Vault whose certificate is of this CA. It asks the API server about the tokens of those who log in.
func (s *story) vault(ca pair) server {
	return server{
		name: "vaultd", args: []string{"-listen", ":8200", "-tls-cert", "/config/tls.crt", "-tls-key", "/config/tls.key", "-root-token", rootToken},
		files: s.servedBy(ca, "vaultd"), ports: []corev1.ServicePort{port(8200, 8200)},
		rights: []rbacv1.PolicyRule{{APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"tokenreviews"}, Verbs: []string{"create"}}},
	}
}

// tellVault writes to Vault as its administrator does.
func (s *story) tellVault(path string, body data) {
	s.Helper()
	encoded, err := json.Marshal(body)
	s.must(err, "encoding what Vault is told")
	s.until("Vault to take "+path, soon, func(ctx context.Context) error {
		raw, err := s.call(ctx, "POST", "vaultd:8200", "v1/"+path, map[string]string{"X-Vault-Token": rootToken}, encoded)
		if err != nil {
			return fmt.Errorf("%w: %s", err, raw)
		}
		return nil
	})
}

// setUpVault gives Vault this CA and a role for workloads of the story, and lets the signer use that role and do nothing else.
func (s *story) setUpVault(root pair) {
	s.Helper()
	s.tellVault("sys/mounts/pki", data{"type": "pki", "config": data{"max_lease_ttl": "48h"}})
	s.tellVault("pki/config/ca", data{"pem_bundle": string(root.crt) + string(root.key)})
	s.tellVault("pki/roles/workloads", data{
		"allowed_domains": []string{s.namespace + ".svc", s.namespace + ".svc.cluster.local"}, "allow_subdomains": true,
		"allowed_uri_sans": []string{s.spiffeID("*")}, "key_type": "any", "max_ttl": "1h", "require_cn": false, "use_csr_common_name": false,
		"key_usage": []string{"DigitalSignature"}, "server_flag": true, "client_flag": true,
	})
	s.tellVault("sys/auth/kubernetes", data{"type": "kubernetes"})
	s.tellVault("auth/kubernetes/config", data{"kubernetes_host": "https://kubernetes.default.svc"})
	s.tellVault("sys/policies/acl/certwright", data{"policy": `path "pki/sign/workloads" { capabilities = ["update"] }`})
	s.tellVault("auth/kubernetes/role/certwright", data{
		"bound_service_account_names": []string{signer}, "bound_service_account_namespaces": []string{systemNamespace},
		"audience": "vault", "token_policies": []string{"certwright"}, "token_ttl": "10m",
	})
}

// byVault has a Signer sign with the role of the Vault.
func (s *story) byVault(ca pair) func(*v1alpha1.SignerSpec) {
	return func(spec *v1alpha1.SignerSpec) {
		backend := v1alpha1.Backend{Name: "vault", Vault: &v1alpha1.Vault{Role: "workloads"}}
		backend.Vault.URL, backend.Vault.CABundle = "https://"+s.host("vaultd")+":8200", string(ca.crt)
		backend.Vault.Auth.Kubernetes = &v1alpha1.VaultKubernetesAuth{Role: "certwright"}
		spec.Backends = []v1alpha1.Backend{backend}
	}
}

// Pods get certificates from a Vault in the cluster, where the signer logs in with a token of its service account that is good
// for nothing else.
func TestPodsGetCertificatesFromVault(t *testing.T) {
	t.Parallel()
	s := tell(t)
	front, root := s.newCA(nil), s.newCA(nil)
	v := s.vault(front)
	v.service(s)
	v.start(s)
	s.setUpVault(root)
	s.signer(s.byVault(front))
	s.policy()
	s.serverAndClient("200ms")
	client := s.pods("client", 1)[0]
	seen := s.tallyOf(&client, "the first connection", func(t tally) bool { return t.Made > 0 })
	service := "server." + s.namespace + ".svc"
	s.sameNames("the server's DNS names", seen.Server.DNSNames, service, service+".cluster.local")
	s.sameNames("the SPIFFE IDs", []string{seen.Server.SPIFFEID, seen.Client.SPIFFEID}, s.spiffeID("server"), s.spiffeID("client"))
	s.sameNames("the issuers", []string{seen.Server.Issuer, seen.Client.Issuer}, root.name(s), root.name(s))
	s.contains("kubectl get signers", s.signersAtAGlance(), "True", "vault")

	// What the policy permits and Vault's role does not, Vault refuses for good, in its own words.
	someone := s.requester()
	s.policy(forPeople(someone), func(p *v1alpha1.CertificatePolicySpec) { p.Allow.DNSNames = []string{"*.example.com"} })
	refused := s.request(someone, commonName(""), dnsNames("www.example.com"))
	s.becomes(refused, certificatesv1.CertificateFailed, "BackendRefused", "www.example.com", "not allowed by this role")

	s.tokenForVaultIsOfNoOtherUse()
}

// tokenForVaultIsOfNoOtherUse shows a token as Vault is shown it to the API server.
func (s *story) tokenForVaultIsOfNoOtherUse() {
	s.Helper()
	token, err := kube.CoreV1().ServiceAccounts(systemNamespace).CreateToken(s.ctx, signer, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{Audiences: []string{"vault"}},
	}, metav1.CreateOptions{})
	s.must(err, "getting a token for Vault")
	config := rest.AnonymousClientConfig(adminConfig)
	config.BearerToken = token.Status.Token
	stolen := s.login(config, "the token for Vault")
	if err := stolen.List(s.ctx, &corev1.SecretList{}); !apierrors.IsUnauthorized(err) {
		s.Errorf("the API server takes a token for Vault: %v", err)
	}
}

// While Vault is away the CA beside it signs; as soon as Vault is back, though it has forgotten who was logged in, it signs again.
// Of the requests that come in all the time none fails, and none waits long.
func TestACASignsWhileVaultIsAway(t *testing.T) {
	t.Parallel()
	s := tell(t)
	front, first, second := s.newCA(nil), s.newCA(nil), s.newCA(nil)
	v := s.vault(front)
	v.service(s)
	pod := v.start(s)
	s.setUpVault(first)
	s.caSecret(second)
	someone := s.requester()
	s.policy(forPeople(someone), func(p *v1alpha1.CertificatePolicySpec) { p.Allow.DNSNames = []string{"*." + s.namespace + ".svc"} })
	o := s.signer(s.byVault(front), func(spec *v1alpha1.SignerSpec) {
		spec.Backends = append(spec.Backends, v1alpha1.Backend{Name: "local", CA: &v1alpha1.CA{SecretRef: &v1alpha1.SecretRef{Name: s.name}}})
	})
	wish := []option{
		commonName(""), dnsNames("web." + s.namespace + ".svc"), usages(certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth),
	}
	issuedBy := func(ca pair, when string) {
		s.Helper()
		request := s.request(someone, wish...)
		if got := s.issued(request).Issuer.CommonName; got != ca.name(s) {
			s.Errorf("%s the issuer is %q, want %q", when, got, ca.name(s))
		}
		s.chainsTo(o, request)
	}
	issuedBy(first, "at first")
	s.trusts(o, first, second)

	history := s.watchRequests()
	stream := s.startRequests(someone, 50*time.Millisecond, wish...)
	s.until("requests to come in", soon, stream.atLeast(20))
	s.must(admin.Delete(s.ctx, pod), "deleting Vault's pod")
	s.until("Vault to be gone", soon, func(ctx context.Context) error {
		if err := admin.Get(ctx, client.ObjectKeyFromObject(pod), &corev1.Pod{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is not: %w", err)
		}
		return nil
	})
	issuedBy(second, "while Vault is away")
	s.stateOf(o, "vault", v1alpha1.BackendDown)
	s.contains("kubectl get signers", s.signersAtAGlance(), "True", "Degraded", "local")
	s.trusts(o, first, second)

	again := v.pod(s)
	s.make(again)
	s.podReady(again)
	s.setUpVault(first)
	s.stateOf(o, "vault", v1alpha1.BackendServing)
	issuedBy(first, "after Vault is back")
	s.contains("kubectl get signers", s.signersAtAGlance(), "True", "Ready", "vault")

	names := s.stopRequests(stream)
	for _, name := range names {
		s.issuedOnce(history, name)
	}
	took := history.times()
	s.figure("%d requests came in meanwhile; time to a certificate: p50 %s, p99 %s, most %s", len(names), took.at(50), took.at(99), took.at(100))
	if took.at(100) > 10*time.Second {
		s.Errorf("a request waited %s for the CA to take over, want at most 10 s", took.at(100))
	}
}

// stateOf waits until the Signer says this of one of its backends.
func (s *story) stateOf(o *v1alpha1.Signer, backend string, state v1alpha1.BackendState) {
	s.Helper()
	s.until(fmt.Sprintf("backend %s to be %s", backend, state), time.Minute, func(ctx context.Context) error {
		if err := admin.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		for _, b := range o.Status.Backends {
			if b.Name == backend && b.State == state {
				return nil
			}
		}
		return fmt.Errorf("its backends are %+v", o.Status.Backends)
	})
}

// trusts checks that the trust bundle of a Signer holds these roots and no others.
func (s *story) trusts(o *v1alpha1.Signer, roots ...pair) {
	s.Helper()
	var want []string
	for _, root := range roots {
		anchors, err := anchorsOf(string(root.crt), nil)
		s.must(err, "reading a root")
		want = append(want, anchors...)
	}
	s.refresh(o)
	b := s.trustBundle(o)
	s.until("the trust bundle to hold the roots of all backends", soon, func(ctx context.Context) error {
		got, err := b.anchors(ctx)
		if err == nil && !sameAnchors(got, want) {
			err = fmt.Errorf("it holds %q, want %q", got, want)
		}
		return err
	})
}
