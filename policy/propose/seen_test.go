// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package propose

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/yaml"

	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/casefile"
	"github.com/certwright/certwright/policy/explanation"
)

var created = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// certificate is one that is valid until then.
func certificate(t *testing.T, until time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: created.Add(-5 * time.Minute), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// issued is a request as the cluster keeps it.
func issued(t *testing.T, name string, r casefile.Request) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	r.Name, r.Usages = name, []certificatesv1.KeyUsage{"server auth"}
	if r.SignerName == "" {
		r.SignerName = "example.com/internal"
	}
	object, err := r.Object()
	if err != nil {
		t.Fatal(err)
	}
	object.CreationTimestamp = metav1.NewTime(created)
	object.Status.Certificate = certificate(t, created.Add(24*time.Hour+10*time.Second))
	return object
}

func cluster(t *testing.T, objects ...client.Object) *explanation.Installation {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, certificatesv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return &explanation.Installation{
		Reader:      fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build(),
		TrustDomain: "cluster.local", ClusterDomain: "cluster.local",
	}
}

func TestCluster(t *testing.T) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-0", UID: "1", Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{ServiceAccountName: "web"},
	}
	service := func(name, ip string, selector map[string]string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip, Selector: selector}}
	}
	pending := issued(t, "pending", casefile.Request{Requester: account("shop", "web")})
	pending.Status.Certificate = nil
	unreadable := issued(t, "unreadable", casefile.Request{Requester: account("shop", "web"), DNSNames: []string{"a."}})
	in := cluster(t, pod, pending, unreadable,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{corev1.LabelMetadataName: "shop"}}},
		service("web", "10.1.0.1", map[string]string{"app": "web"}),
		service("peers", corev1.ClusterIPNone, map[string]string{"app": "db"}), service("nothing", "10.1.0.2", nil),
		issued(t, "live", casefile.Request{Requester: bound("shop", "web", "web-0"), DNSNames: []string{"web.shop.svc"}}),
		issued(t, "gone", casefile.Request{Requester: bound("shop", "db", "db-0"), DNSNames: []string{"db-0.peers.shop.svc", "peers.shop.svc", "nothing.shop.svc"}}),
		issued(t, "kubelet", casefile.Request{SignerName: "kubernetes.io/kubelet-serving", Requester: casefile.Requester{Username: "system:node:a"}}),
		issued(t, "other", casefile.Request{SignerName: "example.com/other", Requester: account("shop", "web")}),
	)
	source := &Source{SignerName: "example.com/internal"}
	all, err := source.Cluster(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].Request.Name != "gone" || all[1].Request.Name != "live" || !all[0].Guessed || all[1].Guessed {
		t.Fatalf("got %+v", all)
	}
	if want := []policy.Service{{Name: "peers", Headless: true}}; !slices.Equal(all[0].Facts.Services, want) {
		t.Errorf("guessed Services %+v, want %+v", all[0].Facts.Services, want)
	}
	for _, want := range []string{"pending is passed over: no certificate was issued for it", "unreadable is passed over: "} {
		if !slices.ContainsFunc(source.Notes, func(note string) bool { return strings.HasPrefix(note, want) }) {
			t.Errorf("no note %q in %q", want, source.Notes)
		}
	}
	p := proposal(t, all...)
	for _, want := range []string{`"{hostname}.{service}.{namespace}.svc" # 1 request`, `nothing.{namespace}.svc # 1 request`, "maxDuration: 24h # the longest seen"} {
		if !strings.Contains(string(p.YAML), want) {
			t.Errorf("no %s in\n%s", want, p.YAML)
		}
	}
	if len(p.Refused) > 0 {
		t.Errorf("refused %+v", p.Refused)
	}
}

// Trouble with the cluster is told, and never taken for an answer.
func TestClusterTrouble(t *testing.T) {
	for _, kind := range []string{"CertificateSigningRequestList", "ServiceList", "Namespace"} {
		in := cluster(t,
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}},
			issued(t, "gone", casefile.Request{Requester: bound("shop", "db", "db-0")}))
		in.Reader = failing{in.Reader, kind}
		if _, err := (&Source{}).Cluster(t.Context(), in); !errors.Is(err, errTrouble) {
			t.Errorf("%s: got %v", kind, err)
		}
	}
}

var errTrouble = errors.New("trouble")

// failing fails to read one kind.
type failing struct {
	client.Reader
	kind string
}

func (f failing) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	if _, ok := object.(*corev1.Namespace); ok && f.kind == "Namespace" {
		return errTrouble
	}
	return f.Reader.Get(ctx, key, object, options...)
}

func (f failing) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	if fmt.Sprintf("%T", list) == "*v1."+f.kind {
		return errTrouble
	}
	return f.Reader.List(ctx, list, options...)
}

func TestDocuments(t *testing.T) {
	list := certificatesv1.CertificateSigningRequestList{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "List"},
		Items: []certificatesv1.CertificateSigningRequest{
			*issued(t, "a", casefile.Request{Requester: bound("shop", "web", "web-0"), DNSNames: []string{"www.example.com"}}),
			*issued(t, "b", casefile.Request{Requester: account("shop", "web")}),
			*issued(t, "c", casefile.Request{Requester: account("shop", "web")}),
		},
	}
	list.Items[1].Status.Certificate = nil
	list.Items[2].Spec.Username = ""
	text, err := yaml.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, []byte("---\n{signerName: example.com/a, requester: {username: alice}, usages: [client auth], commonName: alice, duration: 1h}\n")...)
	documents, err := casefile.Read("requests.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	source := &Source{}
	all, err := source.Documents(documents, casefile.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[1].Lifetime != time.Hour || len(source.Notes) != 2 {
		t.Fatalf("got %+v, notes %q", all, source.Notes)
	}
	if p := proposal(t, all...); len(p.Refused) > 0 || p.Policies != 2 || !strings.Contains(string(p.YAML), "podSelector: {}") {
		t.Errorf("refused %+v of\n%s", p.Refused, p.YAML)
	}
	for name, text := range map[string]string{
		"a list of something else": "{kind: List, apiVersion: v1, items: [{spec: {replicas: 1}}]}",
		"something else":           "{kind: Pod, apiVersion: v1}",
		"bad words":                "{signer: a}",
	} {
		documents, err := casefile.Read("requests.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		var problems casefile.Problems
		if _, err := (&Source{}).Documents(documents, casefile.Facts{}); !errors.As(err, &problems) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestLifetime(t *testing.T) {
	for name, c := range map[string]struct {
		asked *int32
		until time.Duration
		want  time.Duration
	}{
		"asked":                      {ptr.To[int32](3600), 0, time.Hour},
		"granted":                    {nil, 2 * time.Hour, 2 * time.Hour},
		"granted less than asked":    {ptr.To[int32](7200), time.Hour, time.Hour},
		"granted a little more":      {ptr.To[int32](3600), time.Hour + 5*time.Second, time.Hour},
		"neither":                    {nil, 0, 0},
		"over before it was created": {nil, -time.Minute, 0},
	} {
		object := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(created)}}
		object.Spec.ExpirationSeconds = c.asked
		if c.until != 0 {
			object.Status.Certificate = certificate(t, created.Add(c.until))
		}
		if got := lifetime(object); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}
