// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// The policies in manifests/examples/policies, each as it stands but for its name, its signerName and namespaces that it names:
// what it is made for is issued, and what it is made against is denied with its words.
func TestExamplePolicies(t *testing.T) {
	t.Parallel()
	stories := map[string]func(*story){
		"database-clients":   (*story).databaseClients,
		"external-dns-names": (*story).externalDNSNames,
		"istiod":             (*story).istiod,
		"people":             (*story).people,
		"spiffe-mesh":        (*story).spiffeMesh,
		"statefulset-peers":  (*story).statefulSetPeers,
		"web-servers":        (*story).webServers,
	}
	folders, err := os.ReadDir(examplePolicies)
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		told, known := stories[folder.Name()]
		if !known {
			t.Errorf("no story is told of the example %s", folder.Name())
			continue
		}
		t.Run(folder.Name(), func(t *testing.T) {
			t.Parallel()
			s := tell(t)
			s.signer(func(spec *v1alpha1.SignerSpec) {
				spec.Limits.Usages = append(spec.Limits.Usages, certificatesv1.UsageKeyEncipherment)
			})
			s.examplePolicies(folder.Name())
			told(s)
		})
	}
}

const examplePolicies = "../manifests/examples/policies"

var exampleSigner = regexp.MustCompile(`certwright\.dev/(internal|database|public|istio)\b`)

// examplePolicies makes the policies of an example, for the story's signerName.
func (s *story) examplePolicies(name string) {
	s.Helper()
	text, err := os.ReadFile(examplePolicies + "/" + name + "/policy.yaml")
	s.must(err, "reading the example")
	objects, err := decodeManifest(strings.NewReader(exampleSigner.ReplaceAllString(fill(string(text), "istio-system", s.namespace), s.signerName)))
	s.must(err, "reading the example")
	for _, o := range objects {
		o.SetName(s.nextName())
		s.make(o)
		made := &v1alpha1.CertificatePolicy{ObjectMeta: metav1.ObjectMeta{Name: o.GetName()}}
		s.policyIs(made, metav1.ConditionTrue, "InForce")
	}
}

// denied makes a request and waits until it is denied in these words.
func (s *story) denied(as user, words []string, options ...option) {
	s.Helper()
	s.becomes(s.request(as, options...), certificatesv1.CertificateDenied, "PolicyDenies", words...)
}

// narrow makes requests that are right but for one field, and waits until each is denied for that.
func (s *story) narrow(as user, right []option, wrong map[string]option) {
	s.Helper()
	for field, option := range wrong {
		s.denied(as, []string{field + ":"}, append(slices.Clone(right), option)...)
	}
}

func (s *story) rsaKey(bits int) option {
	s.Helper()
	made, err := rsa.GenerateKey(rand.Reader, bits)
	s.must(err, "making a key")
	return key(made)
}

func (s *story) ed25519Key() option {
	s.Helper()
	_, made, err := ed25519.GenerateKey(rand.Reader)
	s.must(err, "making a key")
	return key(made)
}

var foreignUsage = usages(certificatesv1.UsageDigitalSignature, certificatesv1.UsageCodeSigning)

// label puts a label on the story's namespace.
func (s *story) label(key, value string) {
	s.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}
	s.change(namespace, func() { namespace.Labels[key] = value })
}

// podOf makes a pod with a service account of its name and these labels, and returns it as a user.
func (s *story) podOf(name string, labels map[string]string) user {
	s.Helper()
	s.makeServiceAccounts(name)
	pod := s.newPod(name, metav1.ObjectMeta{Labels: labels}, name, demo("idle", 1000, "server"))
	s.make(pod)
	s.podReady(pod)
	return s.podUser(pod)
}

func (s *story) databaseClients() {
	s.label("example.com/databases", "true")
	orders := s.podOf("orders", map[string]string{"example.com/database": "orders"})
	s.issued(s.request(orders, commonName("orders"), uris(s.spiffeID("orders"))))
	s.denied(orders, []string{"commonNames", `"postgres"`, `"orders"`}, commonName("postgres"))
	s.narrow(orders, []option{commonName("orders")}, map[string]option{
		"uris": uris(s.spiffeID("invoices")), "dnsNames": dnsNames("orders." + s.namespace + ".svc"), "usages": foreignUsage, "keys": s.ed25519Key(),
	})
	admin := s.podOf("admin", map[string]string{"example.com/database": "orders"})
	s.denied(admin, []string{"an administrator of databases, such as admin"}, commonName("admin"))
	s.warned(s.request(s.podOf("other", nil), commonName("other")), "NoPolicy")
}

func (s *story) externalDNSNames() {
	s.label("example.com/dns-zone", "shop.example.com")
	gateway := s.asking("gateway", "dns-names", "shop.example.com,www.shop.example.com", "uris", "", "usages", "digital signature,server auth")
	server := usages(certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth)
	s.denied(gateway, []string{"only names in shop.example.com, the zone of namespace " + s.namespace},
		commonName(""), dnsNames("www.shop.example.com", "bank.example.com"), server)
	s.denied(gateway, []string{"from 1 to 20 DNS names"}, commonName(""), server)
	s.narrow(gateway, []option{commonName(""), dnsNames("www.shop.example.com"), server}, map[string]option{
		"dnsNames": dnsNames("example.org"), "commonNames": commonName("www.shop.example.com"), "usages": foreignUsage, "keys": s.ed25519Key(),
	})
}

// asking makes a pod that asks with these annotations, and a Service for it, waits until it is ready, and returns it as a user.
func (s *story) asking(name string, annotations ...string) user {
	s.Helper()
	s.makeServiceAccounts(name)
	s.service(name, false)
	pod := s.newPod(name, s.annotated(name, annotations...), name, demo("app", 1000, "look", "--follow"))
	s.make(pod)
	s.podReady(pod)
	return s.podUser(pod)
}

func (s *story) istiod() {
	istiod := s.podOf("istiod", nil)
	mesh := usages(certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth)
	s.issued(s.request(istiod, commonName(""), uris("spiffe://cluster.local/ns/shop/sa/web"), mesh))
	s.denied(istiod, []string{"no SPIFFE IDs of the namespaces kube-*"}, commonName(""), uris("spiffe://cluster.local/ns/kube-system/sa/web"), mesh)
	s.denied(istiod, []string{"exactly one SPIFFE ID"}, commonName(""), uris("spiffe://cluster.local/ns/shop/sa/web", "spiffe://cluster.local/ns/shop/sa/db"), mesh)
	s.narrow(istiod, []option{commonName(""), uris("spiffe://cluster.local/ns/shop/sa/web"), mesh}, map[string]option{
		"uris": uris("spiffe://example.org/ns/shop/sa/web"), "dnsNames": dnsNames("web.shop.svc"), "usages": foreignUsage, "keys": s.ed25519Key(),
	})
	s.warned(s.request(s.podOf("web", nil), commonName(""), uris(s.spiffeID("web")), mesh), "NoPolicy")

	serving := usages(certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, certificatesv1.UsageServerAuth)
	s.issued(s.request(istiod, commonName(""), dnsNames("istiod."+s.namespace+".svc"), serving))
	s.denied(istiod, []string{"dnsNames", `"kubernetes.default.svc"`}, commonName(""), dnsNames("kubernetes.default.svc"), serving)
}

func (s *story) people() {
	name := s.name + "-jane"
	jane := s.personOf([]string{"developers", "system:authenticated"}, name, mayRequest)
	boss := s.approver()
	s.denied(jane, []string{"only the name under which it is asked for: " + name}, commonName("root"))
	s.denied(jane, []string{"at most one email address"}, commonName(name), emailAddresses("jane@example.com", "root@example.com"))
	s.narrow(jane, []option{commonName(name)}, map[string]option{
		"emailAddresses": emailAddresses("jane@example.org"), "dnsNames": dnsNames("www.example.com"), "usages": foreignUsage, "keys": s.rsaKey(2048),
	})
	first := s.request(jane, commonName(name))
	s.warned(first, "WaitingForApproval")
	s.warned(s.request(jane, commonName(name)), "WaitingForApproval")
	third := s.request(jane, commonName(name))
	s.contains("the event", s.warned(third, "QuotaExceeded"), "at most 2 unfinished requests", name)
	s.approve(boss, first)
	s.issued(first)
	stranger := s.person("stranger", mayRequest)
	s.warned(s.request(stranger, commonName(stranger.name)), "NoPolicy")
}

func (s *story) spiffeMesh() {
	web := s.asking("web", "dns-names", "")
	s.denied(web, []string{"exactly one URI"}, commonName(""))
	s.denied(web, []string{"uris", s.spiffeID("db"), s.spiffeID("web")}, commonName(""), uris(s.spiffeID("db")))
	s.narrow(web, []option{commonName(""), uris(s.spiffeID("web"))}, map[string]option{
		"commonNames": commonName("web"), "dnsNames": dnsNames("web." + s.namespace + ".svc"), "usages": foreignUsage, "keys": s.rsaKey(2048),
	})
	// A token that no pod holds is nobody's.
	s.warned(s.request(s.serviceAccount(s.namespace, "web"), commonName(""), uris(s.spiffeID("web"))), "NoPolicy")
}

func (s *story) statefulSetPeers() {
	s.label("example.com/stateful-peers", "true")
	s.makeServiceAccounts("db")
	s.service("db", true)
	s.make(&appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "db"},
		Spec: appsv1.StatefulSetSpec{
			ServiceName: "db", Replicas: ptr.To[int32](1), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}},
			Template: corev1.PodTemplateSpec{ObjectMeta: s.annotated("db", "uris", "", "ip-addresses", "pod"), Spec: corev1.PodSpec{
				ServiceAccountName: "db", Containers: []corev1.Container{demo("db", 1000, "look", "--follow")}, TerminationGracePeriodSeconds: ptr.To[int64](2),
			}},
		},
	})
	pod := s.pods("db", 1)[0]
	s.podReady(&pod)
	request := s.requestOf(&pod)
	leaf := s.issued(request)
	suffix := "db." + s.namespace + ".svc"
	s.sameNames("the DNS names", leaf.DNSNames, suffix, suffix+".cluster.local", "db-0."+suffix, "db-0."+suffix+".cluster.local")
	if len(leaf.IPAddresses) != 1 || leaf.IPAddresses[0].String() != pod.Status.PodIP {
		s.Errorf("the addresses are %v, want %s", leaf.IPAddresses, pod.Status.PodIP)
	}
	s.denied(s.podUser(&pod), []string{"the own name of the pod, which starts with db-0., beside those of its Services"}, commonName(""), dnsNames(suffix))
	s.narrow(s.podUser(&pod), []option{commonName(""), dnsNames("db-0." + suffix)}, map[string]option{
		"dnsNames": dnsNames("db-0."+suffix, "db-1."+suffix), "ipAddresses": ipAddresses("203.0.113.1"), "uris": uris(s.spiffeID("db")),
		"usages": foreignUsage, "keys": s.rsaKey(2048),
	})
	s.warned(s.request(s.podOf("single", map[string]string{"app": "db"}), commonName(""), dnsNames(suffix)), "NoPolicy")
}

func (s *story) webServers() {
	web := s.asking("web", "uris", "", "usages", "digital signature,server auth")
	server := usages(certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth)
	own := "web." + s.namespace + ".svc"
	s.denied(web, []string{"at least one DNS name, of a Service that selects the pod"}, commonName(""), server)
	s.denied(web, []string{"key encipherment for RSA keys only"}, commonName(""), dnsNames(own),
		usages(certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, certificatesv1.UsageServerAuth))
	s.denied(web, []string{"dnsNames", `"kubernetes.default.svc"`, own}, commonName(""), dnsNames(own, "kubernetes.default.svc"), server)
	s.narrow(web, []option{commonName(""), dnsNames(own), server}, map[string]option{"uris": uris(s.spiffeID("web")), "usages": foreignUsage})
}

// Every example of a Signer is one that the API server and the webhook take, but those that need another image: there the
// refusal says so.
func TestExampleSigners(t *testing.T) {
	t.Parallel()
	s := tell(t)
	paths, err := filepath.Glob("../manifests/examples/signers/*.yaml")
	s.must(err, "looking for examples")
	if len(paths) < 5 {
		s.Fatalf("found only %q", paths)
	}
	for _, path := range paths {
		objects, err := manifest(path)
		s.must(err, "reading %s", path)
		for _, o := range objects {
			if o.GetKind() != "Signer" {
				continue
			}
			err := admin.Create(s.ctx, o, client.DryRunAll)
			if _, outside, _ := unstructured.NestedMap(o.Object["spec"].(data)["backends"].([]any)[0].(data), "ca", "key"); outside {
				s.refusedForField(err, path, "ca.key", "certwright-kms")
				continue
			}
			s.must(err, "applying %s", path)
		}
	}
}

// A ca tells its trust anchors itself: what else is named as such is refused, and where to put it is said.
func TestSignersNameNoTrustAnchorsBesideACA(t *testing.T) {
	t.Parallel()
	s := tell(t)
	o := &v1alpha1.Signer{ObjectMeta: metav1.ObjectMeta{Name: s.name}}
	o.Spec.SignerName = s.signerName
	o.Spec.Backends = []v1alpha1.Backend{{Name: "local", CA: &v1alpha1.CA{Managed: &v1alpha1.ManagedCA{}}}}
	s.must(admin.Create(s.ctx, o.DeepCopy(), client.DryRunAll), "creating a Signer")
	o.Spec.Backends[0].TrustAnchors = string(s.newCA(nil).crt)
	s.refusedForField(admin.Create(s.ctx, o, client.DryRunAll), "a ca with trustAnchors", "spec.backends[0]", "spec.trustBundle.additional")
}
