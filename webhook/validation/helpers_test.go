// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca"
)

// hook is the handlers for a cluster with some Signers, and backends as they are in production.
type hook struct {
	t        *testing.T
	handlers map[string]admission.Handler
}

func newHook(t *testing.T, trouble error, existing ...client.Object) hook {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	cluster := interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme).WithObjects(existing...).Build(), interceptor.Funcs{
		List: func(ctx context.Context, w client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("a look-up that may take for ever")
			}
			return errors.Join(trouble, w.List(ctx, list, opts...))
		},
	})
	return hook{t, Handlers(scheme, cluster, func(c signer.BackendConfig) (signer.Backend, error) {
		if c.Backend.CA == nil {
			return nil, errors.New("no kind is set")
		}
		return ca.New(ca.Options{
			Client: cluster, Reader: cluster, Namespace: "certwright-system",
			Signer: c.Signer, SignerName: c.SignerName, Backend: c.Backend.Name, CA: *c.Backend.CA, IsCA: c.IsCA,
		})
	})}
}

// answer is what a person gets to see, as kubectl shows it.
type answer struct {
	allowed  bool
	text     string // one line for each cause
	warnings []string
}

// send asks for the creation of an object, or for its change if there is one before.
func (h hook) send(path string, before, object client.Object) answer {
	h.t.Helper()
	encode := func(o client.Object) runtime.RawExtension {
		raw, err := json.Marshal(o)
		if err != nil {
			h.t.Fatal(err)
		}
		return runtime.RawExtension{Raw: raw}
	}
	request := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{UID: "4711", Operation: admissionv1.Create, Object: encode(object)}}
	if before != nil {
		request.Operation, request.OldObject = admissionv1.Update, encode(before)
	}
	response := h.handlers[path].Handle(h.t.Context(), request)
	got := answer{allowed: response.Allowed, warnings: response.Warnings}
	if !response.Allowed {
		status := response.Result
		if status.Reason != metav1.StatusReasonInvalid || status.Code != 422 || status.Details == nil || status.Details.Name != object.GetName() {
			h.t.Fatalf("not a complete refusal: %+v", status)
		}
		for _, cause := range status.Details.Causes {
			got.text += fmt.Sprintf("* %s: %s\n", cause.Field, cause.Message)
		}
	}
	return got
}

// assert checks an answer against the lines of causes and the warnings, both by how they start.
func (h hook) assert(got answer, causes, warnings []string) {
	h.t.Helper()
	if got.allowed != (len(causes) == 0) {
		h.t.Errorf("allowed: %t", got.allowed)
	}
	matches := func(have, want []string) bool {
		return slices.EqualFunc(have, want, strings.HasPrefix)
	}
	if lines := strings.Split(strings.TrimSuffix(got.text, "\n"), "\n"); got.text != "" && !matches(lines, causes) {
		h.t.Errorf("causes:\n%s\nwant:\n%s", got.text, strings.Join(causes, "\n"))
	}
	if !matches(got.warnings, warnings) {
		h.t.Errorf("warnings:\n%s\nwant:\n%s", strings.Join(got.warnings, "\n"), strings.Join(warnings, "\n"))
	}
}

func newSigner(name, signerName string, change func(*v1alpha1.SignerSpec)) *v1alpha1.Signer {
	s := &v1alpha1.Signer{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.SignerSpec{
			SignerName: signerName,
			Backends: []v1alpha1.Backend{{Name: "local", CA: &v1alpha1.CA{Managed: &v1alpha1.ManagedCA{
				KeyAlgorithm: "ECDSA-P256", RootDuration: hours(87600), IntermediateDuration: hours(8760),
			}}}},
			Limits: v1alpha1.Limits{MaxDuration: hours(24), Usages: []certificatesv1.KeyUsage{"digital signature", "server auth"}},
		},
	}
	if change != nil {
		change(&s.Spec)
	}
	return s
}

func hours(n int) metav1.Duration { return metav1.Duration{Duration: time.Duration(n) * time.Hour} }
