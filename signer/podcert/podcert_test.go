// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package podcert

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/issue"
	"github.com/certwright/certwright/signer/podcert/naming"
)

const day = 24 * 60 * 60

// Whatever the version and the form of the key, one write issues, and nothing is told.
func TestIssuedInOneWrite(t *testing.T) {
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		version Version
		key     crypto.Signer
		older   bool
	}{
		"v1":                          {V1, podKey, false},
		"v1beta1":                     {V1Beta1, podKey, false},
		"v1beta1, older form":         {V1Beta1, podKey, true},
		"v1beta1, older form, RSA":    {V1Beta1, must(rsa.GenerateKey(rand.Reader, 3072)), true},
		"v1beta1, older form Ed25519": {V1Beta1, edwards, true},
		"v1, Ed25519":                 {V1, edwards, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.version, nil, in(c.version, asked(c.key, day, c.older)))
			for range 2 { // the second time there is nothing left to do
				if result, err := w.reconcile(); err != nil || !result.IsZero() {
					t.Fatalf("result %v, error %v", result, err)
				}
			}
			if !slices.Equal(w.writes, []string{"patch status"}) || w.local.calls != 1 {
				t.Errorf("writes %q, %d signed, want one of each", w.writes, w.local.calls)
			}
			leaf := w.leaf()
			if want := []string{webName, "spiffe://cluster.local/ns/shop/sa/web"}; !slices.Equal(names(leaf), want) {
				t.Errorf("names %q, want %q", names(leaf), want)
			}
			if leaf.Subject.String() != "" || leaf.IsCA || !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}) {
				t.Errorf("subject %q, CA %t, usages %v", leaf.Subject, leaf.IsCA, leaf.ExtKeyUsage)
			}
		})
	}
}

// What the pod's author names takes the place of the Signer's names, where policy allows it.
func TestNamesOfThePodsAuthor(t *testing.T) {
	r := asked(podKey, day, false)
	r.Spec.UnverifiedUserAnnotations = map[string]string{naming.AnnotationDNSNames: "", naming.AnnotationUsages: "client auth, digital signature"}
	w := newWorld(t, V1, nil, in(V1, r))
	if _, err := w.reconcile(); err != nil {
		t.Fatal(err)
	}
	leaf := w.leaf()
	if want := []string{"spiffe://cluster.local/ns/shop/sa/web"}; !slices.Equal(names(leaf), want) || len(leaf.ExtKeyUsage) != 1 {
		t.Errorf("names %q, usages %v, want %q for clients", names(leaf), leaf.ExtKeyUsage, want)
	}
}

// Each of these would be signed, were it not for the one thing that its name says.
func TestRequestsThatAreLeftAlone(t *testing.T) {
	for name, change := range map[string]func(client.Object){
		"a signer of others": func(o client.Object) { onRequest(o, func(r *request) { r.Spec.SignerName = "other.example/signer" }) },
		"a signer of Kubernetes": func(o client.Object) {
			const reserved = "kubernetes.io/kube-apiserver-client-pod"
			onRequest(o, func(r *request) { r.Spec.SignerName = reserved })
			onSigner(o, func(s *v1alpha1.Signer) { s.Spec.SignerName = reserved })
		},
		"a Signer that does not sign for pods": func(o client.Object) {
			onSigner(o, func(s *v1alpha1.Signer) { s.Spec.PodCertificates = nil })
		},
		"denied": func(o client.Object) { onRequest(o, func(r *request) { condition(r, "Denied") }) },
		"failed": func(o client.Object) { onRequest(o, func(r *request) { condition(r, "Failed") }) },
		"issued": func(o client.Object) { onRequest(o, func(r *request) { condition(r, "Issued") }) },
		"being deleted": func(o client.Object) {
			onRequest(o, func(r *request) {
				r.DeletionTimestamp, r.Finalizers = &metav1.Time{Time: now}, []string{"example.com/f"}
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, V1Beta1, change, asked(podKey, day, false))
			if result, err := w.reconcile(); err != nil || !result.IsZero() || len(w.writes) > 0 || w.local.calls > 0 {
				t.Errorf("result %v, error %v, writes %q, %d signed, want none", result, err, w.writes, w.local.calls)
			}
		})
	}
}

type request = certificatesv1beta1.PodCertificateRequest

func onRequest(o client.Object, change func(*request)) {
	if r, ok := o.(*request); ok {
		change(r)
	}
}

func onSigner(o client.Object, change func(*v1alpha1.Signer)) {
	if s, ok := o.(*v1alpha1.Signer); ok {
		change(s)
	}
}

func onPolicy(o client.Object, change func(*v1alpha1.CertificatePolicy)) {
	if p, ok := o.(*v1alpha1.CertificatePolicy); ok {
		change(p)
	}
}

func onPod(o client.Object, change func(*corev1.Pod)) {
	if p, ok := o.(*corev1.Pod); ok {
		change(p)
	}
}

func condition(r *request, kind string) {
	r.Status.Conditions = []metav1.Condition{{Type: kind, Status: metav1.ConditionTrue}}
}

// What can never be signed gets a verdict, and no backend hears of it.
func TestVerdicts(t *testing.T) {
	stub := func(template x509.CertificateRequest, key crypto.Signer) func(*request) {
		return func(r *request) {
			r.Spec.StubPKCS10Request = must(x509.CreateCertificateRequest(rand.Reader, &template, key))
		}
	}
	annotate := func(key, value string) func(*request) {
		return func(r *request) { r.Spec.UnverifiedUserAnnotations = map[string]string{key: value} }
	}
	const annotations = certificatesv1.PodCertificateRequestConditionInvalidUserConfig
	for name, c := range map[string]struct {
		change       func(*request)
		kind, reason string
		text         string
	}{
		"another pod's UID":                  {func(r *request) { r.Spec.PodUID = "uid-of-another" }, "Denied", issue.ReasonPolicyDenies, "was replaced"},
		"a pod that is gone":                 {func(r *request) { r.Spec.PodName = "web-1" }, "Denied", issue.ReasonPolicyDenies, "is gone"},
		"another service account":            {func(r *request) { r.Spec.ServiceAccountName = "admin" }, "Denied", issue.ReasonPolicyDenies, "runs as service account web"},
		"another node":                       {func(r *request) { r.Spec.NodeName = "node-2" }, "Denied", issue.ReasonPolicyDenies, "runs on node node-1"},
		"no pod":                             {func(r *request) { r.Spec.PodName = "" }, "Denied", csr.ReasonPodIdentity, "spec.podName"},
		"no UID":                             {func(r *request) { r.Spec.PodUID = "" }, "Denied", csr.ReasonPodIdentity, "spec.podUID"},
		"no node":                            {func(r *request) { r.Spec.NodeName = "" }, "Denied", csr.ReasonPodIdentity, "spec.nodeName"},
		"a stub with a subject":              {stub(x509.CertificateRequest{Subject: pkix.Name{CommonName: "admin"}}, podKey), "Denied", csr.ReasonStubNotEmpty, "spec.stubPKCS10Request"},
		"a stub with names":                  {stub(x509.CertificateRequest{DNSNames: []string{"bank.example.com"}}, podKey), "Denied", csr.ReasonStubNotEmpty, "spec.stubPKCS10Request"},
		"a key that is too short":            {stub(x509.CertificateRequest{}, must(rsa.GenerateKey(rand.Reader, 1024))), "Denied", "UnsupportedKeyType", "1024 bits"},
		"a signature by another key":         {func(r *request) { r.Spec.StubPKCS10Request[len(r.Spec.StubPKCS10Request)-1] ^= 1 }, "Denied", csr.ReasonSignatureDoesNotVerify, "spec.stubPKCS10Request"},
		"an annotation that nobody knows":    {annotate("example.com/subject", "admin"), "Denied", annotations, "example.com/subject"},
		"one of our prefix that is not one":  {annotate("certwright.dev/is-ca", "true"), "Denied", annotations, "certwright.dev/is-ca"},
		"a megabyte of annotations":          {annotate(naming.AnnotationDNSNames, strings.Repeat("a.example.com,", 80_000)), "Denied", annotations, "bytes that are allowed"},
		"another's name":                     {annotate(naming.AnnotationDNSNames, "db.shop.svc"), "Denied", issue.ReasonPolicyDenies, `"db.shop.svc" not allowed`},
		"another's SPIFFE ID":                {annotate(naming.AnnotationURIs, "spiffe://cluster.local/ns/shop/sa/db"), "Denied", issue.ReasonPolicyDenies, "sa/db"},
		"an address that is not the pod's":   {annotate(naming.AnnotationIPAddresses, "10.0.0.1"), "Denied", issue.ReasonPolicyDenies, "10.0.0.1"},
		"a placeholder in place of a name":   {annotate(naming.AnnotationDNSNames, "{service}.{namespace}.svc"), "Denied", annotations, "certwright.dev/dns-names"},
		"a usage that makes everything good": {annotate(naming.AnnotationUsages, "any"), "Denied", issue.ReasonPolicyDenies, "usages"},
	} {
		t.Run(name, func(t *testing.T) {
			r := asked(podKey, day, false)
			c.change(r)
			w := newWorld(t, V1Beta1, nil, r)
			if result, err := w.reconcile(); err != nil || !result.IsZero() {
				t.Fatalf("result %v, error %v", result, err)
			}
			s := w.stored().Status
			if len(s.Conditions) != 1 || s.Conditions[0].Type != c.kind || s.Conditions[0].Reason != c.reason || !strings.Contains(s.Conditions[0].Message, c.text) {
				t.Errorf("conditions %.2000v, want %s for %s with %q", s.Conditions, c.kind, c.reason, c.text)
			}
			if w.local.calls > 0 || len(w.notes("PodCertificateRequest")) != 1 {
				t.Errorf("%d signed, told %q, want none and one word", w.local.calls, w.notes("PodCertificateRequest"))
			}
		})
	}
}

func TestVerdictsByWhatIsAround(t *testing.T) {
	for name, c := range map[string]struct {
		change       func(client.Object)
		trouble      error
		kind, reason string
	}{
		"a pod that has finished": {func(o client.Object) { onPod(o, func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }) }, nil, "Denied", issue.ReasonPolicyDenies},
		"a policy that gives less than the Signer": {func(o client.Object) {
			onPolicy(o, func(p *v1alpha1.CertificatePolicy) { p.Spec.Allow.URIs = nil })
		}, nil, "Denied", issue.ReasonPolicyDenies},
		"the Signer's limits": {func(o client.Object) {
			onSigner(o, func(s *v1alpha1.Signer) { s.Spec.Limits.PermittedDNSDomains = []string{"example.com"} })
		}, nil, "Failed", issue.ReasonLimitExceeded},
		"a refusal by the backend": {nil, &signer.PermanentError{Err: errors.New("name constraints")}, "Failed", issue.ReasonBackendRefuse},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, V1, c.change, in(V1, asked(podKey, day, false)))
			w.local.trouble = c.trouble
			if _, err := w.reconcile(); err != nil {
				t.Fatal(err)
			}
			if s := w.stored().Status; len(s.Conditions) != 1 || s.Conditions[0].Type != c.kind || s.Conditions[0].Reason != c.reason {
				t.Errorf("conditions %+v, want %s for %s", s.Conditions, c.kind, c.reason)
			}
		})
	}
}

// A denied or failed renewal takes from a pod the certificate that it has. So whatever may pass, or be mended, is waited for, however long.
func TestTroubleIsNoVerdict(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(client.Object)
		trouble error
		readErr func(runtime.Object) error
		told    string // to the pod's owner
	}{
		"a backend that is down":     {trouble: errors.New("dial tcp: connection refused"), told: "not answered yet"},
		"a backend that needs time":  {trouble: &signer.PendingError{After: time.Second, Reason: "it is a slow one"}, told: "not answered yet"},
		"trouble of this request":    {trouble: &signer.RequestError{Err: errors.New("not now")}, told: "not answered yet"},
		"a CA that is about to end":  {change: func(o client.Object) { onSigner(o, func(s *v1alpha1.Signer) { s.Spec.Backends[0].Name = "ending" }) }, told: "not answered yet"},
		"a Signer that cannot begin": {change: func(o client.Object) { onSigner(o, func(s *v1alpha1.Signer) { s.Spec.Backends[0].Name = "none" }) }, told: "not answered yet"},
		"an API server in trouble": {readErr: func(o runtime.Object) error {
			if _, ok := o.(*corev1.Pod); ok {
				return errors.New("the API server is away")
			}
			return nil
		}, told: "not answered yet"},
		"no policy": {change: func(o client.Object) {
			onPolicy(o, func(p *v1alpha1.CertificatePolicy) { p.Spec.SignerNames = []string{"example.com/other"} })
		}, told: "No CertificatePolicy selects"},
		"a policy that is broken": {change: func(o client.Object) {
			onPolicy(o, func(p *v1alpha1.CertificatePolicy) { p.Spec.Allow.DNSNames = []string{"{nonsense}"} })
		}, told: "not answered yet"},
		"a policy behind a person": {change: func(o client.Object) {
			onPolicy(o, func(p *v1alpha1.CertificatePolicy) { p.Spec.Approval = v1alpha1.ApprovalManual })
		}, told: "nobody can approve what a kubelet asks for"},
		"lifetimes that are too short for the API server": {change: func(o client.Object) {
			onSigner(o, func(s *v1alpha1.Signer) { s.Spec.Limits.MaxDuration.Duration = time.Hour - time.Second })
		}, told: "not answered yet"},
		"a policy with lifetimes that are too short": {change: func(o client.Object) {
			onPolicy(o, func(p *v1alpha1.CertificatePolicy) {
				p.Spec.Allow.MaxDuration = &metav1.Duration{Duration: 10 * time.Minute}
			})
		}, told: "not answered yet"},
		"nothing to name yet": {change: func(o client.Object) {
			onSigner(o, func(s *v1alpha1.Signer) { s.Spec.PodCertificates.DNSNames, s.Spec.PodCertificates.URIs = nil, nil })
		}, told: "nothing to name"},
		"a backend that cannot sign for pods": {change: func(o client.Object) {
			onSigner(o, func(s *v1alpha1.Signer) { s.Spec.Backends[0].Name = "forwarding" })
		}, told: "not answered yet"},
		"a failover to one that cannot": {change: func(o client.Object) {
			onSigner(o, func(s *v1alpha1.Signer) {
				s.Spec.Backends = append(s.Spec.Backends, v1alpha1.Backend{Name: "forwarding"})
			})
		}, trouble: errors.New("dial tcp: connection refused"), told: "not answered yet"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, V1, c.change, in(V1, asked(podKey, day, false)))
			forwards := &forwarding{}
			w.backends["forwarding"] = forwards
			w.backends["ending"] = &local{ca: newCA(now.Add(50 * time.Minute)), clock: w.clock.Now}
			w.local.trouble, w.readErr = c.trouble, c.readErr
			for range 70 { // for longer than a certificate of a day is renewed before its end
				if result, err := w.reconcile(); err == nil && result.RequeueAfter <= 0 {
					t.Fatal("it is not looked at again")
				}
				w.pass(10 * time.Minute)
			}
			if slices.Contains(w.writes, "patch status") || len(w.stored().Status.Conditions) > 0 {
				t.Errorf("writes %q, conditions %+v, want no word in the status", w.writes, w.stored().Status.Conditions)
			}
			if forwards.calls > 0 {
				t.Error("a backend was asked that cannot sign for pods")
			}
			if told := w.notes("Pod"); len(told) != 1 || !strings.Contains(told[0], c.told) || len(w.notes("PodCertificateRequest")) != 1 {
				t.Errorf("the pod's owner was told %q, want once %q", told, c.told)
			}
		})
	}
}

// A pod that has started keeps what it has, whatever is wrong with its renewal: a policy that is mended after five minutes, a Service that is
// made anew, a Signer with narrower limits. It gets the next certificate once nothing is.
func TestAPodThatHasStartedKeepsItsCertificate(t *testing.T) {
	running := corev1.ContainerStatus{Name: "web", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	restarted := corev1.ContainerStatus{Name: "web", RestartCount: 1, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}
	for name, c := range map[string]struct {
		change      func(client.Object)
		annotations map[string]string
		stub        []byte // in place of the one with the key
		trouble     error
		told        string
	}{
		"a policy that denies": {change: func(o client.Object) {
			onPolicy(o, func(p *v1alpha1.CertificatePolicy) { p.Spec.Allow.URIs = nil })
		}, told: "PolicyDenies"},
		"a Service that is gone": {annotations: map[string]string{naming.AnnotationDNSNames: "web.shop.svc"}, change: func(o client.Object) {
			if o.GetName() == "web" {
				o.SetName("another")
			}
		}, told: "PolicyDenies"},
		"limits": {change: func(o client.Object) {
			onSigner(o, func(s *v1alpha1.Signer) { s.Spec.Limits.Usages = s.Spec.Limits.Usages[:1] })
		}, told: "SignerLimitExceeded"},
		"a refusal by the backend": {trouble: &signer.PermanentError{Err: errors.New("name constraints")}, told: "BackendRefused"},
		"what cannot be parsed":    {stub: []byte("a stub of next year"), told: "spec.stubPKCS10Request"},
		"annotations":              {annotations: map[string]string{"example.com/a": "b"}, told: "InvalidUnverifiedUserAnnotations"},
	} {
		for state, status := range map[string]corev1.PodStatus{
			"running":              {ContainerStatuses: []corev1.ContainerStatus{running}},
			"restarting":           {ContainerStatuses: []corev1.ContainerStatus{restarted}},
			"in an init container": {InitContainerStatuses: []corev1.ContainerStatus{running}},
		} {
			t.Run(name+", "+state, func(t *testing.T) {
				r := asked(podKey, day, false)
				r.Spec.UnverifiedUserAnnotations = c.annotations
				if c.stub != nil {
					r.Spec.StubPKCS10Request = c.stub
				}
				w := newWorld(t, V1, func(o client.Object) {
					onPod(o, func(p *corev1.Pod) { status.PodIPs = p.Status.PodIPs; p.Status = status })
					if c.change != nil {
						c.change(o)
					}
				}, in(V1, r))
				w.local.trouble = c.trouble
				for range 5 {
					if result, err := w.reconcile(); err != nil || result.RequeueAfter <= 0 {
						t.Fatalf("result %v, error %v, want to look again", result, err)
					}
					w.pass(5 * time.Minute)
				}
				if len(w.stored().Status.Conditions) > 0 {
					t.Errorf("conditions %+v: the pod has lost its certificate", w.stored().Status.Conditions)
				}
				if told := w.notes("Pod"); len(told) != 1 || !strings.Contains(told[0], "keeps the certificate that it has") || !strings.Contains(told[0], c.told) {
					t.Errorf("its owner was told %q, want %s", told, c.told)
				}
			})
		}
	}
}

// Whoever has thousands of pods wait that no policy selects does not have the policies listed in the API server over and over.
func TestUnselectedIsLookedUpOnce(t *testing.T) {
	w := newWorld(t, V1, func(o client.Object) {
		onPolicy(o, func(p *v1alpha1.CertificatePolicy) { p.Spec.SignerNames = []string{"example.com/other"} })
	}, in(V1, asked(podKey, day, false)))
	for i := range 5 {
		if _, err := w.reconcile(); err != nil {
			t.Fatal(err)
		}
		if want := i + 2; w.listed != want { // by the cache each time, by the API server the first time
			t.Fatalf("policies were listed %d times after %d looks, want %d", w.listed, i+1, want)
		}
	}
	policy := &v1alpha1.CertificatePolicy{}
	for _, o := range cluster() {
		onPolicy(o, func(p *v1alpha1.CertificatePolicy) { policy = p })
	}
	policy.Name, policy.UID = "new", "policy-2"
	if err := w.Client.Create(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	if _, err := w.reconcile(); err != nil {
		t.Fatal(err)
	}
	w.leaf()
}

// When the trouble is over, the request is signed after all.
func TestSignedWhenTroubleIsOver(t *testing.T) {
	w := newWorld(t, V1, nil, in(V1, asked(podKey, day, false)))
	w.local.trouble = errors.New("dial tcp: connection refused")
	for range 3 {
		if _, err := w.reconcile(); err == nil {
			t.Fatal("no error while the backend is down")
		}
		w.pass(5 * time.Second)
	}
	w.local.trouble = nil
	w.pass(10 * time.Minute)
	if _, err := w.reconcile(); err != nil {
		t.Fatal(err)
	}
	w.leaf()
}

// The next backend signs while the first one cannot, in particular where that one can never sign for pods.
func TestFailover(t *testing.T) {
	w := newWorld(t, V1, func(o client.Object) {
		onSigner(o, func(s *v1alpha1.Signer) {
			s.Spec.Backends = []v1alpha1.Backend{{Name: "forwarding"}, {Name: "down"}, {Name: "local"}}
		})
	}, in(V1, asked(podKey, day, false)))
	forwards := &forwarding{}
	w.backends["forwarding"], w.backends["down"] = forwards, &local{trouble: errors.New("connection refused")}
	if _, err := w.reconcile(); err != nil {
		t.Fatal(err)
	}
	w.leaf()
	if forwards.calls > 0 {
		t.Error("a backend was asked that cannot sign for pods")
	}
}

// A certificate that could not be written is not bought twice; but for a pod its life has to begin when it is written.
func TestWhatCouldNotBeWritten(t *testing.T) {
	for name, c := range map[string]struct {
		pause time.Duration
		calls int
	}{"is written next time": {10 * time.Second, 1}, "is signed anew when it is stale": {time.Minute, 2}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, V1, nil, in(V1, asked(podKey, 3600, false)))
			w.writeErr = errors.New("etcd is away")
			if _, err := w.reconcile(); err == nil {
				t.Fatal("no error")
			}
			w.writeErr = nil
			w.pass(c.pause)
			if _, err := w.reconcile(); err != nil {
				t.Fatal(err)
			}
			if w.leaf(); w.local.calls != c.calls {
				t.Errorf("signed %d times, want %d", w.local.calls, c.calls)
			}
		})
	}
}

func TestMetricsAndLogsOfVerdicts(t *testing.T) {
	r := asked(podKey, day, false)
	r.Spec.UnverifiedUserAnnotations = map[string]string{"x.example/\x1b[31m": strings.Repeat("y", 1000)}
	w := newWorld(t, V1, nil, in(V1, r))
	if _, err := w.reconcile(); err != nil {
		t.Fatal(err)
	}
	message := w.stored().Status.Conditions[0].Message
	if strings.Contains(message, "\x1b") || strings.Contains(message, "yyyy") {
		t.Errorf("the message repeats what a stranger wrote: %q", message)
	}
	if notes := fmt.Sprint(w.notes("Pod")); strings.Contains(notes, "\x1b") {
		t.Errorf("the pod's owner reads %q", notes)
	}
}
