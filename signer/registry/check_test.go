// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/internal/example"
	"github.com/certwright/certwright/signer/member"
)

// Whoever writes a Signer should see all that is wrong with it at once, and each mistake at its field.
func TestCheck(t *testing.T) {
	newBackend := func(c signer.BackendConfig) (signer.Backend, error) {
		if c.Backend.Name != "local" {
			return nil, errors.New("boom")
		}
		return &example.Able{}, nil
	}
	if err := Check(example.Signer("local"), newBackend); err != nil {
		t.Errorf("nothing is wrong, but: %v", err)
	}
	s := example.Signer("bad", "local", "worse")
	s.Spec.SignerName = "kubernetes.io/kube-apiserver-client"
	s.Spec.Limits.PermittedIPRanges = []string{"nonsense"}
	err := Check(s, newBackend)
	var all utilerrors.Aggregate
	var check *signer.CheckError
	if !errors.As(err, &all) || !errors.As(err, &check) || check.Reason != ReasonSignerNameReserved {
		t.Fatalf("got %#v, want a CheckError for the signerName that holds many", err)
	}
	var got []string
	for _, err := range all.Errors() {
		if one := (*field.Error)(nil); errors.As(err, &one) {
			got = append(got, one.Field)
		}
	}
	if want := []string{"spec.signerName", "spec.limits.permittedIPRanges[0]", "spec.backends[0]", "spec.backends[2]"}; !slices.Equal(got, want) {
		t.Errorf("wrong are %q, want %q", got, want)
	}
}

func TestConfiguredTrustAnchors(t *testing.T) {
	leaf := example.Leaf(example.Granted(t), example.Root, nil)
	for name, c := range map[string]struct{ text, want string }{
		"two, with words":          {"# the old one\n" + string(signer.EncodePEM(example.Root.Certificate)) + "# the new one\n" + string(signer.EncodePEM(example.Stranger.Certificate)), ""},
		"no PEM":                   {"root", "no PEM block"},
		"a certificate, but no CA": {string(signer.EncodePEM(example.Root.Certificate, leaf)), "certificate 2 (" + leaf.Subject.String() + ") is no CA"},
	} {
		t.Run(name, func(t *testing.T) {
			s := example.Signer("local")
			s.Spec.Backends[0].TrustAnchors = c.text
			err := Check(s, func(signer.BackendConfig) (signer.Backend, error) { return &example.Able{}, nil })
			if c.want == "" {
				if err != nil {
					t.Errorf("error %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), "spec.backends[0].trustAnchors: Invalid value: ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q at the field", err, c.want)
			}
		})
	}
}

func TestCheckOfAddedAnchors(t *testing.T) {
	made := func(signer.BackendConfig) (signer.Backend, error) { return example.Backend(example.Honest), nil }
	s := example.Signer("local")
	s.Spec.TrustBundle.Additional = []v1alpha1.TrustSource{
		{PEM: string(signer.EncodePEM(example.Root.Certificate))},
		{SecretRef: &v1alpha1.SecretKeyRef{Name: "roots", Key: "ca.crt"}},
	}
	if err := Check(s, made); err != nil {
		t.Errorf("got %v", err)
	}
	s.Spec.TrustBundle.Additional = append(s.Spec.TrustBundle.Additional, v1alpha1.TrustSource{PEM: "no certificate"})
	s.Spec.TrustBundle.ConfigMap = &v1alpha1.TrustConfigMaps{NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{"not a label": ""}}}
	for _, reason := range []string{ReasonTrustIncomplete, ReasonBackendInvalid} {
		err := Check(s, made)
		if member.ReasonOf(err) != reason || !strings.Contains(err.Error(), "spec.trustBundle.additional[2].pem") || !strings.Contains(err.Error(), "spec.trustBundle.configMap.namespaceSelector") {
			t.Errorf("got %v, want the reason %s and both fields", err, reason)
		}
		s.Spec.Backends = nil
	}
}
