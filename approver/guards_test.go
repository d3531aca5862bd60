// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package approver

import (
	"errors"
	"slices"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

// Each of these requests would be approved, were it not for the one thing that its name says.
func TestRequestsThatAreLeftAlone(t *testing.T) {
	for name, change := range map[string]func(r *certificatesv1.CertificateSigningRequest, p *v1alpha1.CertificatePolicy){
		"already approved": func(r *certificatesv1.CertificateSigningRequest, _ *v1alpha1.CertificatePolicy) {
			withCondition(r, certificatesv1.CertificateApproved)
		},
		"already denied": func(r *certificatesv1.CertificateSigningRequest, _ *v1alpha1.CertificatePolicy) {
			withCondition(r, certificatesv1.CertificateDenied)
		},
		"already failed": func(r *certificatesv1.CertificateSigningRequest, _ *v1alpha1.CertificatePolicy) {
			withCondition(r, certificatesv1.CertificateFailed)
		},
		"already issued": func(r *certificatesv1.CertificateSigningRequest, _ *v1alpha1.CertificatePolicy) {
			r.Status.Certificate = []byte("-----BEGIN CERTIFICATE-----")
		},
		"finished, and stripped in the cache": func(r *certificatesv1.CertificateSigningRequest, _ *v1alpha1.CertificatePolicy) {
			withCondition(r, certificatesv1.CertificateDenied).Spec.Request = nil
		},
		"a signer of Kubernetes that a policy names": func(r *certificatesv1.CertificateSigningRequest, p *v1alpha1.CertificatePolicy) {
			r.Spec.SignerName = certificatesv1.KubeAPIServerClientSignerName
			p.Spec.SignerNames = []string{certificatesv1.KubeAPIServerClientSignerName}
		},
		"a subdomain of kubernetes.io that a policy names": func(r *certificatesv1.CertificateSigningRequest, p *v1alpha1.CertificatePolicy) {
			r.Spec.SignerName = "gke.node.kubernetes.io/serving"
			p.Spec.SignerNames = []string{"gke.node.kubernetes.io/serving"}
		},
		"a signerName that nobody handles": func(r *certificatesv1.CertificateSigningRequest, _ *v1alpha1.CertificatePolicy) {
			r.Spec.SignerName = "example.com/other"
		},
		"a signerName that nobody handles, and bytes that do not parse": func(r *certificatesv1.CertificateSigningRequest, _ *v1alpha1.CertificatePolicy) {
			r.Spec.SignerName, r.Spec.Request = "example.com/other", []byte("nonsense")
		},
		"a signerName that only a policy in mode Audit names": func(_ *certificatesv1.CertificateSigningRequest, p *v1alpha1.CertificatePolicy) {
			p.Spec.Mode, p.Spec.Requesters.Users = v1alpha1.ModeAudit, []string{"bob"}
		},
		"a signerName that only a policy in mode Audit names, and bytes that do not parse": func(r *certificatesv1.CertificateSigningRequest, p *v1alpha1.CertificatePolicy) {
			r.Spec.Request, p.Spec.Mode = []byte("nonsense"), v1alpha1.ModeAudit
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, p := request(t, "web", "a.example.com"), newPolicy(v1alpha1.ApprovalAutomatic)
			change(r, p)
			w := newWorld(t, r, p)
			result, err := w.reconcile(t, "web")
			if err != nil || !result.IsZero() {
				t.Errorf("result %v, error %v, want none", result, err)
			}
			if len(w.writes) > 0 {
				t.Errorf("writes %q, want none", w.writes)
			}
		})
	}
}

// Domains that only look like Kubernetes' own are anybody's.
func TestSignerNamesThatOnlyLookReserved(t *testing.T) {
	for _, name := range []string{"notkubernetes.io/a", "kubernetes.io.example.com/a", "example.com/kubernetes.io", "kubernetes.iox/a"} {
		r, p := request(t, "web", "a.example.com"), newPolicy(v1alpha1.ApprovalAutomatic)
		r.Spec.SignerName, p.Spec.SignerNames = name, []string{name}
		w := newWorld(t, r, p)
		if _, err := w.reconcile(t, "web"); err != nil || !csr.IsApproved(w.stored(t, "web")) {
			t.Errorf("%s: not approved, error %v", name, err)
		}
	}
}

func TestSignerNameOfASignerWithoutPolicyIsOurs(t *testing.T) {
	w := newWorld(t, request(t, "web", "a.example.com"), &v1alpha1.Signer{
		ObjectMeta: metav1.ObjectMeta{Name: "internal"}, Spec: v1alpha1.SignerSpec{SignerName: signerName},
	})
	if _, err := w.reconcile(t, "web"); err != nil {
		t.Fatal(err)
	}
	if want := []string{"create Event"}; !slices.Equal(w.writes, want) {
		t.Errorf("writes %q, want %q", w.writes, want)
	}
}

func TestListingTroubleIsReturnedAndDecidesNothing(t *testing.T) {
	for name, list := range map[string]client.ObjectList{"signers": &v1alpha1.SignerList{}, "certificate policies": &v1alpha1.CertificatePolicyList{}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, request(t, "web", "a.example.com"), newPolicy(v1alpha1.ApprovalAutomatic))
			object := w.stored(t, "web")
			down := errors.New("the API server is down")
			w.readErr = func(o runtime.Object) error {
				if sameType(o, list) {
					return down
				}
				return nil
			}
			if _, err := w.Reconcile(t.Context(), object); !errors.Is(err, down) || !strings.Contains(err.Error(), name) {
				t.Errorf("error %v, want one about listing %s", err, name)
			}
			if len(w.writes) > 0 {
				t.Errorf("writes %q, want none", w.writes)
			}
		})
	}
}

func TestConflictIsReturnedWithoutEvent(t *testing.T) {
	for name, dnsName := range map[string]string{"approving": "a.example.com", "denying": "a.example.org"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, request(t, "web", dnsName), newPolicy(v1alpha1.ApprovalAutomatic))
			w.tamper = func(_ string, o client.Object) error { return conflict(o) }
			if _, err := w.reconcile(t, "web"); !apierrors.IsConflict(err) {
				t.Errorf("error %v, want a conflict", err)
			}
			if want := []string{"patch approval web"}; !slices.Equal(w.writes, want) {
				t.Errorf("writes %q, want %q", w.writes, want)
			}
			if n := w.count(t, "certwright_approver_requests_total"); n != 0 {
				t.Errorf("%v requests counted as written, want none", n)
			}
		})
	}
}

// Whoever sees a request being judged may delete it and put another one under its name before the approval is written.
func TestObjectReplacedUnderItsNameIsNotApproved(t *testing.T) {
	w := newWorld(t, request(t, "web", "a.example.com"), newPolicy(v1alpha1.ApprovalAutomatic))
	judged := w.stored(t, "web")
	planted := request(t, "web", "bank.example.org")
	planted.UID, planted.Spec.Username = "uid-2", "mallory"
	if err := w.Client.Delete(t.Context(), judged.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	if err := w.Client.Create(t.Context(), planted); err != nil {
		t.Fatal(err)
	}
	var written client.Object
	w.tamper = func(_ string, o client.Object) error { written = o; return nil }
	if _, err := w.Reconcile(t.Context(), judged); !apierrors.IsConflict(err) {
		t.Errorf("error %v, want a conflict", err)
	}
	if written == nil || written.GetUID() != judged.UID || written.GetResourceVersion() != judged.ResourceVersion || judged.ResourceVersion == "" {
		t.Errorf("the write is not bound to UID and resourceVersion of what was judged: %v", written)
	}
	if csr.IsApproved(w.stored(t, "web")) {
		t.Error("the planted request is approved")
	}
}

// Labels and annotations can be changed by anybody who may update a request, so that they say nothing.
func TestLabelsAndAnnotationsChangeNothing(t *testing.T) {
	claims := map[string]string{
		"certwright.dev/approved": "true", "certwright.dev/policy": "clients", "certwright.dev/isCA": "true",
		"certwright.dev/dns-names": "a.example.com", "certwright.dev/username": "alice",
	}
	for name, change := range map[string]func(r *certificatesv1.CertificateSigningRequest){
		"of a request that is denied":      func(r *certificatesv1.CertificateSigningRequest) { *r = *request(t, "web", "a.example.org") },
		"of a request that nobody selects": func(r *certificatesv1.CertificateSigningRequest) { r.Spec.Username = "mallory" },
		"of a request that is permitted":   func(*certificatesv1.CertificateSigningRequest) {},
	} {
		t.Run(name, func(t *testing.T) {
			var conditions [2][]certificatesv1.CertificateSigningRequestCondition
			for i, labels := range []map[string]string{nil, claims} {
				r := request(t, "web", "a.example.com")
				change(r)
				r.Labels, r.Annotations = labels, labels
				w := newWorld(t, r, newPolicy(v1alpha1.ApprovalAutomatic))
				if _, err := w.reconcile(t, "web"); err != nil {
					t.Fatal(err)
				}
				for _, c := range w.stored(t, "web").Status.Conditions {
					conditions[i] = append(conditions[i], certificatesv1.CertificateSigningRequestCondition{Type: c.Type, Reason: c.Reason, Message: c.Message})
				}
			}
			if !slices.Equal(conditions[0], conditions[1]) {
				t.Errorf("conditions %v without, %v with labels and annotations", conditions[0], conditions[1])
			}
		})
	}
}
