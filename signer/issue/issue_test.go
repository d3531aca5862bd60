// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/judge"
	"github.com/certwright/certwright/signer/internal/example"
)

func set(r *certificatesv1.CertificateSigningRequest, kind certificatesv1.RequestConditionType) {
	r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: kind, Status: corev1.ConditionTrue})
}

// issued returns the chain in the request's status, which must be PEM without headers or anything around it.
func issued(t *testing.T, w *world) []*x509.Certificate {
	t.Helper()
	var chain []*x509.Certificate
	rest := w.stored(t).Status.Certificate
	for len(rest) > 0 {
		var block *pem.Block
		before := rest
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" || len(block.Headers) > 0 || !bytes.HasPrefix(before, []byte("-----BEGIN")) {
			t.Fatalf("status.certificate holds something else than certificates: %q", before)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, c)
	}
	return chain
}

func TestApprovedIsIssuedInOneWriteWithoutEvent(t *testing.T) {
	w := newWorld(t, example.Approved(t, nil), example.Policy(), example.Signer("local"))
	for range 2 { // the second time there is nothing left to do
		if result, err := w.reconcile(t); err != nil || !result.IsZero() {
			t.Fatalf("result %v, error %v", result, err)
		}
	}
	if want := []string{"patch status web"}; !slices.Equal(w.api.Writes, want) {
		t.Errorf("writes %q, want %q", w.api.Writes, want)
	}
	chain := issued(t, w)
	if len(chain) != 2 || !example.Key.PublicKey.Equal(chain[0].PublicKey) || !chain[1].Equal(example.Intermediate.Certificate) {
		t.Fatalf("chain of %d certificates, want leaf and intermediate", len(chain))
	}
	if want := example.Now.Add(24 * time.Hour); !chain[0].NotAfter.Equal(want) {
		t.Errorf("valid until %s, want %s by default", chain[0].NotAfter, want)
	}
	if conditions := w.stored(t).Status.Conditions; len(conditions) != 1 {
		t.Errorf("conditions %v, want Approved only", conditions)
	}
	if n := w.count(t, "certwright_signer_requests_total", "Issued"); n != 1 {
		t.Errorf("%v requests counted as issued, want 1", n)
	}
}

// Each of these requests would be signed, were it not for the one thing that its name says.
func TestRequestsThatAreLeftAlone(t *testing.T) {
	reserved := "x.kubernetes.io/serving"
	for name, change := range map[string]func(*certificatesv1.CertificateSigningRequest, *v1alpha1.CertificatePolicy, *v1alpha1.Signer){
		"not approved": func(r *certificatesv1.CertificateSigningRequest, _ *v1alpha1.CertificatePolicy, _ *v1alpha1.Signer) {
			r.Status.Conditions = nil
		},
		"approval that is not True": func(r *certificatesv1.CertificateSigningRequest, _ *v1alpha1.CertificatePolicy, _ *v1alpha1.Signer) {
			r.Status.Conditions[0].Status = corev1.ConditionFalse
		},
		"denied as well": func(r *certificatesv1.CertificateSigningRequest, _ *v1alpha1.CertificatePolicy, _ *v1alpha1.Signer) {
			set(r, certificatesv1.CertificateDenied)
		},
		"failed": func(r *certificatesv1.CertificateSigningRequest, _ *v1alpha1.CertificatePolicy, _ *v1alpha1.Signer) {
			set(r, certificatesv1.CertificateFailed)
		},
		"already issued": func(r *certificatesv1.CertificateSigningRequest, _ *v1alpha1.CertificatePolicy, _ *v1alpha1.Signer) {
			r.Status.Certificate = []byte("x")
		},
		"no Signer": func(_ *certificatesv1.CertificateSigningRequest, _ *v1alpha1.CertificatePolicy, s *v1alpha1.Signer) {
			s.Spec.SignerName = "example.com/other"
		},
		"a signer of Kubernetes": func(r *certificatesv1.CertificateSigningRequest, p *v1alpha1.CertificatePolicy, s *v1alpha1.Signer) {
			r.Spec.SignerName, p.Spec.SignerNames, s.Spec.SignerName = reserved, []string{reserved}, reserved
		},
		"approved by annotation and label": func(r *certificatesv1.CertificateSigningRequest, _ *v1alpha1.CertificatePolicy, _ *v1alpha1.Signer) {
			r.Status.Conditions = nil
			r.Annotations = map[string]string{"certwright.dev/approved": "true"}
			r.Labels = r.Annotations
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, p, s := example.Approved(t, nil), example.Policy(), example.Signer("local")
			change(r, p, s)
			w := newWorld(t, r, p, s)
			w.backends["local"] = example.Backend(func(csr.Request) ([]*x509.Certificate, error) {
				t.Error("the backend was asked")
				return nil, errors.New("no")
			})
			if result, err := w.reconcile(t); err != nil || !result.IsZero() || len(w.api.Writes) > 0 {
				t.Errorf("result %v, error %v, writes %q, want none", result, err, w.api.Writes)
			}
		})
	}
}

// Approval is no authorisation: what policy, parser or limits refuse is failed, and no backend hears of it.
func TestApprovedButNotPermittedFails(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*certificatesv1.CertificateSigningRequest, *v1alpha1.CertificatePolicy, *v1alpha1.Signer)
		reason string
		text   string
	}{
		"a policy made stricter": {func(_ *certificatesv1.CertificateSigningRequest, p *v1alpha1.CertificatePolicy, _ *v1alpha1.Signer) {
			p.Spec.Allow.DNSNames = nil
		}, ReasonPolicyDenies, "dnsNames"},
		"no policy selects it": {func(r *certificatesv1.CertificateSigningRequest, _ *v1alpha1.CertificatePolicy, _ *v1alpha1.Signer) {
			r.Spec.Username = "mallory"
		}, ReasonNoPolicy, "No CertificatePolicy selects"},
		"a requester's name in an annotation": {func(r *certificatesv1.CertificateSigningRequest, _ *v1alpha1.CertificatePolicy, _ *v1alpha1.Signer) {
			r.Spec.Username = "mallory"
			r.Annotations = map[string]string{"certwright.dev/username": "alice"}
		}, ReasonNoPolicy, "No CertificatePolicy selects"},
		"bytes that do not parse": {func(r *certificatesv1.CertificateSigningRequest, _ *v1alpha1.CertificatePolicy, _ *v1alpha1.Signer) {
			r.Spec.Request = []byte("nonsense")
		}, csr.ReasonPEMMissing, "spec.request"},
		"the Signer's limits": {func(_ *certificatesv1.CertificateSigningRequest, _ *v1alpha1.CertificatePolicy, s *v1alpha1.Signer) {
			s.Spec.Limits.PermittedDNSDomains = []string{"apps.example.com"}
		}, ReasonLimitExceeded, "dnsNames: web.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			r, p, s := example.Approved(t, nil), example.Policy(), example.Signer("local")
			c.change(r, p, s)
			w := newWorld(t, r, p, s)
			w.backends["local"] = example.Backend(func(csr.Request) ([]*x509.Certificate, error) {
				t.Error("the backend was asked")
				return nil, errors.New("no")
			})
			if result, err := w.reconcile(t); err != nil || !result.IsZero() {
				t.Fatalf("result %v, error %v", result, err)
			}
			w.wantFailed(t, c.reason, c.text)
		})
	}
}

// wantFailed checks that the request was failed in one write, and one event told why.
func (w *world) wantFailed(t *testing.T, reason, text string) {
	t.Helper()
	if want := []string{"patch status web", "create Event"}; !slices.Equal(w.api.Writes, want) {
		t.Fatalf("writes %q, want %q", w.api.Writes, want)
	}
	stored := w.stored(t)
	failed := stored.Status.Conditions[len(stored.Status.Conditions)-1]
	if failed.Type != certificatesv1.CertificateFailed || failed.Reason != reason || !strings.Contains(failed.Message, text) {
		t.Errorf("condition %+v, want Failed for %s with %q", failed, reason, text)
	}
	if e := w.event(t); e.Reason != reason || !strings.Contains(e.Note, text) {
		t.Errorf("event %s %q, want %s with %q", e.Reason, e.Note, reason, text)
	}
	if len(stored.Status.Certificate) > 0 {
		t.Error("there is a certificate too")
	}
	if n := w.count(t, "certwright_signer_requests_total", reason); n != 1 {
		t.Errorf("%v requests counted as %s, want 1", n, reason)
	}
}

func TestTroubleIsNoVerdict(t *testing.T) {
	down := errors.New("connection refused")
	for name, trouble := range map[string]func(*world, *v1alpha1.Signer){
		"the judge": func(w *world, _ *v1alpha1.Signer) {
			w.api.ReadErr = func(o runtime.Object) error {
				if _, ok := o.(*v1alpha1.CertificatePolicyList); ok {
					return down
				}
				return nil
			}
		},
		"the list of Signers": func(w *world, _ *v1alpha1.Signer) {
			w.api.ReadErr = func(o runtime.Object) error {
				if _, ok := o.(*v1alpha1.SignerList); ok {
					return down
				}
				return nil
			}
		},
		"the backend's configuration": func(w *world, _ *v1alpha1.Signer) { delete(w.backends, "local") },
		"the Signer's limits":         func(_ *world, s *v1alpha1.Signer) { s.Spec.Limits.PermittedIPRanges = []string{"nonsense"} },
		"no backends":                 func(_ *world, s *v1alpha1.Signer) { s.Spec.Backends = nil },
	} {
		t.Run(name, func(t *testing.T) {
			s := example.Signer("local")
			trouble(&world{api: &example.Cluster{}, backends: example.Backends{}}, s)
			w := newWorld(t, example.Approved(t, nil), example.Policy(), s)
			object := w.stored(t)
			trouble(w, s)
			for range 2 {
				if _, err := w.Reconcile(t.Context(), object); err == nil {
					t.Fatal("no error, want trouble")
				}
			}
			if want := []string{"create Event"}; !slices.Equal(w.api.Writes, want) {
				t.Errorf("writes %q, want %q", w.api.Writes, want)
			}
			w.api.ReadErr = nil
			if e := w.event(t); e.Reason != ReasonNotSignedYet || !strings.Contains(e.Note, "tried again") {
				t.Errorf("event %s %q", e.Reason, e.Note)
			}
		})
	}
}

// deciding is a judge that always says the same.
type deciding struct{ err error }

func (d deciding) Decide(context.Context, csr.Request) (policy.Decision, error) {
	return policy.Decision{}, d.err
}

// What passes by itself within moments is not told before it has lasted, and is asked for the more rarely the longer it lasts.
func TestWaitingForFacts(t *testing.T) {
	for name, c := range map[string]struct {
		age, again time.Duration
		told       bool
	}{
		"new":             {time.Second, 2 * time.Second, false},
		"of a minute":     {time.Minute, 30 * time.Second, false},
		"older":           {90 * time.Second, 45 * time.Second, true},
		"of three months": {90 * 24 * time.Hour, time.Minute, true},
	} {
		t.Run(name, func(t *testing.T) {
			object := example.Approved(t, nil)
			object.CreationTimestamp = metav1.NewTime(example.Now.Add(-c.age))
			w := newWorld(t, object, example.Policy(), example.Signer("local"))
			w.Judge = deciding{fmt.Errorf("asking: %w", &judge.WaitError{After: 2 * time.Second, Reason: "no address yet"})}
			result, err := w.reconcile(t)
			if err != nil || result.RequeueAfter != c.again {
				t.Errorf("result %v, error %v, want another look after %s", result, err, c.again)
			}
			var want []string
			if c.told {
				want = []string{"create Event"}
			}
			if !slices.Equal(w.api.Writes, want) {
				t.Errorf("writes %q, want %q", w.api.Writes, want)
			}
		})
	}
}
